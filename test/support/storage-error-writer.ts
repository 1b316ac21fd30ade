/**
 * Commits until its storage fails, for a tracer that makes it fail: `node storage-error-writer.ts <directory>`. Prints
 * a line for each acknowledged key at once and, when it gets that far, a line of JSON that says how the rest went.
 */
import { writeSync } from "node:fs";
import type { ObjectKey } from "../../src/domain/ids.ts";
import { REVISION_NONE } from "../../src/domain/ids.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { deadlineIn } from "../../src/lib/deadline.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { openMetadataEnvironment } from "../../src/metadata/lmdb-metadata-environment.ts";
import { openLmdbMetadataStore } from "../../src/metadata/lmdb-metadata-store.ts";
import { openLmdbWal } from "../../src/wal/lmdb-wal.ts";
import { BUCKET, sampleIntent, sampleRecord } from "./sample-records.ts";

export type StorageErrorReport = {
  readonly codes: string[];
  readonly readCode: string;
  readonly fenceCount: number;
};

const CLIENTS = 8;
const WRITES_PER_CLIENT = 20;
const clock = systemClock;
const codes = new Set<string>();
let fenceCount = 0;
// As a listening server would.
const keepAlive = setInterval(() => {}, 1_000);

const environment = await openMetadataEnvironment({
  path: process.argv[2] as string,
  clock,
  logger: silentLogger,
  onFenced: () => (fenceCount += 1),
  stallMsMax: 5_000,
});
const store = openLmdbMetadataStore({ environment, clock });
const wal = openLmdbWal({ environment, clock });
await Promise.all([...Array(CLIENTS).keys()].map(writeSome));
const readCode = await store.get(BUCKET, "0/0" as ObjectKey, soon()).then(() => "answered", codeOf);
await store.close();
await wal.close();
await environment.close();
console.log(JSON.stringify({ codes: [...codes], readCode, fenceCount } satisfies StorageErrorReport));
clearInterval(keepAlive);
process.exit(0);

async function writeSome(client: number): Promise<void> {
  for (let n = 0; n < WRITES_PER_CLIENT; n += 1) {
    const key = `${client}/${n}`;
    try {
      await wal.append(sampleIntent(client * 1_000 + n), soon());
      const result = await store.commit({ record: sampleRecord(key), ifRevision: REVISION_NONE }, soon());
      if (result.ok) writeSync(1, `${key}\n`);
    } catch (cause) {
      codes.add(codeOf(cause));
    }
  }
}

function codeOf(cause: unknown): string {
  return (cause as { code?: string }).code ?? String(cause);
}

function soon() {
  return deadlineIn(clock, 20_000);
}
