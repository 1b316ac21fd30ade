/**
 * The metadata store of a cluster on whatever runtime runs this file: `node|bun|deno run -A nats-metadata-smoke.ts
 * <NATS URL> <cluster name> <index directory>`. Exits with 1 and says what differs when something does.
 */
import process from "node:process";
import type { ObjectKey } from "../../src/domain/ids.ts";
import { REVISION_NONE } from "../../src/domain/ids.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { systemRandom } from "../../src/lib/random.ts";
import { openNatsMetadataStore } from "../../src/metadata/nats-metadata-store.ts";
import { ensureMetadataStreams } from "../../src/metadata/nats-metadata-streams.ts";
import { openNatsLink } from "../../src/nats/nats-link.ts";
import { keysOf, list, soon } from "../support/metadata-calls.ts";
import { BUCKET, sampleRecord } from "../support/sample-records.ts";

const CLIENTS = 32;
const WRITES_PER_CLIENT = 20;
const STREAMS = 2;
const [url = "", clusterName = "", indexDir = ""] = process.argv.slice(2);

const link = await openNatsLink(
  {
    servers: [url],
    user: null,
    password: null,
    token: null,
    credsFile: null,
    tlsCaFile: null,
    tlsCertFile: null,
    tlsKeyFile: null,
    clusterName,
    processName: "smoke",
    streamReplicas: 1,
    connectMs: 10_000,
  },
  { clock: systemClock, random: systemRandom, logger: silentLogger },
);
try {
  await ensureMetadataStreams(link, STREAMS, "smoke");
  await writeManyAtOnce();
  await checkReopened();
  console.log("ok");
} catch (cause) {
  console.error(cause);
  process.exitCode = 1;
} finally {
  await link.close();
}

function open() {
  return openNatsMetadataStore(link, { streamCount: STREAMS, indexDir, registry: null, following: "always" });
}

async function writeManyAtOnce(): Promise<void> {
  const store = await open();
  let conflictCount = 0;
  const client = async (id: number) => {
    for (let n = 0; n < WRITES_PER_CLIENT; n += 1) {
      const record = sampleRecord(`温度/${id}/${n}`);
      const own = await store.commit({ record, ifRevision: REVISION_NONE, op: "put" }, soon());
      check(own.ok, "a key with one writer has no conflict");
      const shared = await store.commit({ record: sampleRecord(`race/${n}`), ifRevision: REVISION_NONE }, soon());
      if (!shared.ok) conflictCount += 1;
      const read = await store.get(BUCKET, record.key, soon());
      check(own.ok && read?.revision === own.revision, "what was committed is read");
    }
  };
  await Promise.all([...Array(CLIENTS).keys()].map(client));
  check(conflictCount === (CLIENTS - 1) * WRITES_PER_CLIENT, "one creation of each raced key wins");
  await store.close();
}

async function checkReopened(): Promise<void> {
  const store = await open();
  check((await store.peek(BUCKET, "race/0" as ObjectKey, soon())) !== null, "the index was there already");
  const page = await list(store, { prefix: "race/" });
  check(keysOf(page).length === WRITES_PER_CLIENT, "the listing is whole");
  const summary = (await store.summarize(soon()))[0];
  check(summary?.objectCount === (CLIENTS + 1) * WRITES_PER_CLIENT, "the summary counts every object");
  check(store.indexLag() === 0, "nothing is left to follow");
  await store.close();
}

function check(condition: boolean, claim: string): void {
  if (!condition) throw new Error(`Not so: ${claim}`);
}
