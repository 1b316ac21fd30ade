/**
 * Writes without end until it is killed: `node crash-writer.ts <directory> <journal> <round>`. Each client owns some
 * keys and raises the number in each of them; what was acknowledged is noted in the journal, which survives the kill as
 * the kernel holds it. Prints a line now and then, so that who kills it knows that it is under way.
 *
 * Journal lines: `commit <key> <number> <revision>`, `append <txid>`, `settle <txid>` (noted before settling).
 */
import { openSync, writeSync } from "node:fs";
import type { ObjectKey } from "../../src/domain/ids.ts";
import { REVISION_NONE } from "../../src/domain/ids.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { deadlineIn } from "../../src/lib/deadline.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { openMetadataEnvironment } from "../../src/metadata/lmdb-metadata-environment.ts";
import { openLmdbMetadataStore } from "../../src/metadata/lmdb-metadata-store.ts";
import { openLmdbWal } from "../../src/wal/lmdb-wal.ts";
import { BUCKET, sampleIntent, sampleRecord, sampleTxid } from "./sample-records.ts";

const CLIENTS = 16;
const KEYS_PER_CLIENT = 5;
const LINES_PER_REPORT = 100;

const [path, journalPath, round] = process.argv.slice(2) as [string, string, string];
const clock = systemClock;
const environment = await openMetadataEnvironment({
  path,
  clock,
  logger: silentLogger,
  onFenced: () => process.exit(3),
});
const store = openLmdbMetadataStore({ environment, clock });
const wal = openLmdbWal({ environment, clock });
const journal = openSync(journalPath, "a");
let lineCount = 0;
await Promise.all([...Array(CLIENTS).keys()].map(writeForever));

async function writeForever(client: number): Promise<void> {
  for (let n = 0; ; n += 1) {
    const txid = sampleTxid(Number(round) * 1e9 + client * 1e6 + n);
    await wal.append(sampleIntent(1, { txid }), soon());
    note(`append ${txid}`);

    const key = `${client}/${n % KEYS_PER_CLIENT}` as ObjectKey;
    const current = await store.get(BUCKET, key, soon());
    const sizeBytes = (current?.record.sizeBytes ?? 0) + 1;
    const ifRevision = current?.revision ?? REVISION_NONE;
    const result = await store.commit({ record: sampleRecord(key, { sizeBytes }), ifRevision }, soon());
    if (!result.ok) throw new Error(`Conflict on ${key}, which has one writer`);
    note(`commit ${key} ${sizeBytes} ${result.revision}`);

    // Some intents stay open, as those of a dead writer do.
    if (n % 4 === 0) continue;
    note(`settle ${txid}`);
    await wal.settle([txid], soon());
  }
}

function note(line: string): void {
  writeSync(journal, `${line}\n`);
  lineCount += 1;
  if (lineCount % LINES_PER_REPORT === 0) writeSync(1, `${lineCount}\n`);
}

function soon() {
  return deadlineIn(clock, 30_000);
}
