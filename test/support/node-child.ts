/** A storage node as a process of its own, for tests that kill it. Usage: node-child.ts DIR; tells its port. */
import { Registry } from "prom-client";
import { openLmdbBlobStore } from "../../src/blob/lmdb-blob-store.ts";
import { MIB } from "../../src/lib/bytes.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { systemRandom } from "../../src/lib/random.ts";
import { startNodeServer } from "../../src/node/node-server.ts";
import { TEST_NODE } from "./blobs.ts";
import { TEST_SECRET } from "./node-plane.ts";

const dir = process.argv[2] as string;
const [clock, random, logger] = [systemClock, systemRandom, silentLogger];
const store = await openLmdbBlobStore({
  ...{ node: TEST_NODE, dir, clock, logger },
  settings: { volumeBytesMax: 64 * MIB, freeBytesMin: 0 },
});
const server = await startNodeServer(
  {
    ...{ clock, random, logger, store },
    registry: new Registry(),
    clusterSecret: TEST_SECRET,
    version: "test",
    onBug: (bug) => {
      throw bug;
    },
  },
  { host: "127.0.0.1", port: 0, connectionsMax: 256, drainMs: 1_000 },
);
process.stdout.write(`${server.port}\n`);
