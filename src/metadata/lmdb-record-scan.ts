/**
 * Ordered reading of the records in an LMDB database laid out by `lmdb-metadata-layout.ts`. No read transaction outlives
 * a turn of the event loop: what takes longer goes on in the next one, from the key where it stopped.
 */
import { StoreError } from "../domain/errors.ts";
import type { BucketName, ObjectKey } from "../domain/ids.ts";
import type { StoredRecord } from "../domain/record.ts";
import type { Clock } from "../lib/clock.ts";
import type { Deadline } from "../lib/deadline.ts";
import { remainingMs } from "../lib/deadline.ts";
import type { LmdbDatabase } from "../lib/lmdb-environment.ts";
import { nextTurn } from "../lib/next-turn.ts";
import { ListPageBuilder, successorOf } from "./list-page.ts";
import { RECORDS_END, RECORDS_START, keyBehind, slotOf } from "./lmdb-metadata-layout.ts";
import type { ListOptions, ListPage } from "./metadata-store.ts";
import type { StoredValue } from "./stored-value.ts";
import { decodeStoredValue, isReadable } from "./stored-value.ts";

export type RecordSource = {
  readonly clock: Clock;
  /** Runs `query` at once. @throws {StoreError} `metadata_unavailable` */
  read<T>(query: (db: LmdbDatabase) => T): T;
  /** What readers may see of a value just read; null when nothing. Called by a query. */
  visible(slot: string, value: StoredValue | null): StoredValue | null;
};

/** Entries looked at in one turn of the event loop. */
const CHUNK_ENTRIES = 256;

/** The visible value of one key. Its memory is the receiver's. */
export function readValue(source: RecordSource, slot: string): StoredValue | null {
  return source.read((db) => {
    const shared = db.getBinaryFast(Buffer.from(slot));
    // That memory is LMDB's own, overwritten by the next read.
    return source.visible(slot, shared === undefined ? null : Buffer.from(shared.subarray(0, shared.length)));
  });
}

/** @throws {StoreError} `metadata_unavailable` */
export async function listRecords(
  source: RecordSource,
  bucket: BucketName,
  options: ListOptions,
  deadline: Deadline,
): Promise<ListPage> {
  const page = new ListPageBuilder(options);
  const base = Buffer.from(slotOf(bucket, ""));
  const end = page.end === null ? successorOf(base) : Buffer.concat([base, page.end]);
  let start: Buffer | null = Buffer.concat([base, page.from]);
  for (;;) {
    start = offerChunk(source, page, base, start, end);
    if (start === null) return page.finish();
    await giveWay(source, deadline);
  }
}

/** @throws {StoreError} `metadata_unavailable` */
export async function scanRecords(
  source: RecordSource,
  after: { bucket: BucketName; key: ObjectKey } | null,
  limit: number,
  deadline: Deadline,
): Promise<StoredRecord[]> {
  const found: StoredRecord[] = [];
  let start = after === null ? RECORDS_START : keyBehind(Buffer.from(slotOf(after.bucket, after.key)));
  while (found.length < limit) {
    const chunk = readChunk(source, start, Math.min(CHUNK_ENTRIES, limit - found.length));
    const last = chunk.at(-1);
    if (last === undefined) break;
    for (const { value } of chunk) if (value !== null) found.push(decodeStoredValue(value));
    start = keyBehind(last.key);
    await giveWay(source, deadline);
  }
  return found;
}

/** Offers keys from `start` on; answers where to go on in the next turn of the event loop, or null when done. */
function offerChunk(
  source: RecordSource,
  page: ListPageBuilder,
  base: Buffer,
  start: Buffer,
  end: Buffer,
): Buffer | null {
  let from = start;
  let entriesLeft = CHUNK_ENTRIES;
  while (Buffer.compare(from, end) < 0) {
    if (entriesLeft <= 0) return from;
    const answer = source.read((db) => {
      for (const { key, value: latest } of db.getRange({ start: from, end })) {
        if (entriesLeft-- <= 0) return key;
        const slot = key.toString();
        const value = source.visible(slot, latest);
        if (value === null) continue;
        const step = page.offer(slot.slice(base.length), isReadable(value), () => decodeStoredValue(value));
        if (step !== "next") return step;
      }
      return "full";
    });
    if (answer === "full") return null;
    if (answer !== "seek") return answer;
    from = Buffer.concat([base, page.from]);
  }
  return null;
}

function readChunk(source: RecordSource, start: Buffer, limit: number): { key: Buffer; value: StoredValue | null }[] {
  return source.read((db) =>
    [...db.getRange({ start, end: RECORDS_END, limit })].map(({ key, value }) => ({
      key,
      value: source.visible(key.toString(), value),
    })),
  );
}

async function giveWay(source: RecordSource, deadline: Deadline): Promise<void> {
  if (remainingMs(source.clock, deadline) === 0) {
    throw new StoreError("metadata_unavailable", "The metadata store did not answer in time", { retriable: true });
  }
  await nextTurn();
}
