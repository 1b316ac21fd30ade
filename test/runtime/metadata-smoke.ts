/**
 * The embedded metadata store and log on whatever runtime runs this file: `node|bun|deno run -A metadata-smoke.ts`.
 * No test runner, because each runtime has its own. Exits with 1 and says what differs when something does.
 */
import { mkdtemp, rm, truncate } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import type { BucketName, ObjectKey } from "../../src/domain/ids.ts";
import { REVISION_NONE } from "../../src/domain/ids.ts";
import type { Intent } from "../../src/domain/intent.ts";
import type { ObjectRecord } from "../../src/domain/record.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { deadlineIn } from "../../src/lib/deadline.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { openMetadataEnvironment } from "../../src/metadata/lmdb-metadata-environment.ts";
import { openLmdbMetadataStore } from "../../src/metadata/lmdb-metadata-store.ts";
import { openLmdbWal } from "../../src/wal/lmdb-wal.ts";
import { BUCKET, sampleIntent, sampleRecord, sampleTxid } from "../support/sample-records.ts";

const CLIENTS = 64;
const WRITES_PER_CLIENT = 30;
const clock = systemClock;
const parent = await mkdtemp(join(tmpdir(), "kintsugi-smoke-"));
const path = join(parent, "metadata");

try {
  await writeManyAtOnce();
  await checkReopened();
  await checkTruncated();
  console.log("metadata and log: ok");
} catch (cause) {
  console.error(cause);
  process.exitCode = 1;
} finally {
  await rm(parent, { recursive: true, force: true });
}

async function open() {
  const environment = await openMetadataEnvironment({
    path,
    clock,
    logger: silentLogger,
    onFenced: (cause) => console.error(cause),
    growthBytes: 1024 * 1024,
  });
  const store = openLmdbMetadataStore({ environment, clock });
  const wal = openLmdbWal({ environment, clock });
  const close = async () => {
    await store.close();
    await wal.close();
    await environment.close();
  };
  return { store, wal, close };
}

async function writeManyAtOnce(): Promise<void> {
  const { store, wal, close } = await open();
  const startedAtMs = clock.monotonicMs();
  let conflictCount = 0;
  const client = async (id: number) => {
    for (let n = 0; n < WRITES_PER_CLIENT; n += 1) {
      const txid = sampleTxid(id * 1_000 + n);
      await wal.append(sampleIntent(1, { txid }) satisfies Intent, soon());
      const own = await store.commit({ record: recordOf(`温度/${id}/${n}`), ifRevision: REVISION_NONE }, soon());
      check(own.ok, "a key with one writer has no conflict");
      const shared = await store.commit({ record: recordOf(`race/${n}`), ifRevision: REVISION_NONE }, soon());
      if (!shared.ok) conflictCount += 1;
      if (n > 0) await wal.settle([txid], soon());
    }
  };
  await Promise.all([...Array(CLIENTS).keys()].map(client));
  check(conflictCount === (CLIENTS - 1) * WRITES_PER_CLIENT, "one creation of each raced key wins");
  const writesPerSecond = (CLIENTS * WRITES_PER_CLIENT * 1_000) / (clock.monotonicMs() - startedAtMs);
  console.log(`${Math.round(writesPerSecond)} writes/s of an intent, two commits and a settlement`);
  await close();
}

async function checkReopened(): Promise<void> {
  const { store, wal, close } = await open();
  const stored = await store.get(BUCKET, "温度/7/3" as ObjectKey, soon());
  check(stored?.record.manifest.strategy === "inline", "the record is there");
  check(stored?.record.userMetadata["owner"] === "fleet-7", "with its attributes");
  const page = await store.list(BUCKET, { prefix: "", delimiter: "/", after: "", limit: 10 }, soon());
  check(page.commonPrefixes.join() === "race/,温度/" && page.entries.length === 0, "the listing groups by bytes");
  const summary = (await store.summarize(soon()))[0];
  check(summary?.objectCount === (CLIENTS + 1) * WRITES_PER_CLIENT, "the summary counts every object");
  const openIntents = await wal.readOpen(0, 1_000, soon());
  check(openIntents.length === CLIENTS, "intents that were not settled are open");
  const elsewhere = await store.scan({ bucket: "zzz" as BucketName, key: "" as ObjectKey }, 10, soon());
  check(elsewhere.length === 0, "a scan ends");
  await close();
}

async function checkTruncated(): Promise<void> {
  await truncate(join(path, "data.mdb"), 64 * 1024);
  const code = await open().then(
    () => "opened",
    (cause: { code?: string }) => cause.code,
  );
  check(code === "storage_error", "a file that is cut off is refused");
}

function recordOf(key: string): ObjectRecord {
  return sampleRecord(key, { manifest: { strategy: "inline", bytes: Buffer.alloc(500, key) } });
}

function check(condition: boolean, claim: string): void {
  if (!condition) throw new Error(`Not so: ${claim}`);
}

function soon() {
  return deadlineIn(clock, 30_000);
}
