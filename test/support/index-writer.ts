/** Fills a metadata index until it is killed: `node index-writer.ts <directory>`. Prints each sequence it has applied. */
import { writeSync } from "node:fs";
import { systemClock } from "../../src/lib/clock.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { openIndexEnvironment } from "../../src/metadata/lmdb-index-environment.ts";
import { MetadataIndex } from "../../src/metadata/lmdb-metadata-index.ts";
import { indexEntry } from "./index-entries.ts";

const environment = await openIndexEnvironment({
  path: process.argv[2] as string,
  identity: "test",
  clock: systemClock,
  logger: silentLogger,
  startingMs: 1,
});
const index = new MetadataIndex(environment, systemClock);
index.clear(["yesterday"]);
for (let sequence = 1; ; sequence += 1) {
  index.apply(0, [indexEntry(sequence)]);
  if (sequence % 50 === 0) writeSync(1, `${sequence}\n`);
  // The marker is written by a timer.
  if (sequence % 20 === 0) await systemClock.sleep(1);
}
