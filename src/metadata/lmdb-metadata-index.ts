/**
 * The records of all metadata streams in one ordered LMDB index, with the place in each stream up to which it holds
 * them. It is filled from the streams alone and can be made anew from them at any time. Records of a transaction and
 * the place reached become visible together, and at once.
 *
 * LMDB has no checksums, and a commit is made from what was read here: so each record ends with one of its own, which
 * covers its key. A record that does not match fails the index, and the next start makes it anew.
 */
import { crc32 } from "node:zlib";
import { StoreError } from "../domain/errors.ts";
import type { BucketName, ObjectKey, Revision } from "../domain/ids.ts";
import type { StoredRecord } from "../domain/record.ts";
import { assert } from "../lib/assert.ts";
import type { Clock } from "../lib/clock.ts";
import type { Deadline } from "../lib/deadline.ts";
import type { LmdbDatabase } from "../lib/lmdb-environment.ts";
import type { IndexEnvironment } from "./lmdb-index-environment.ts";
import { bucketOfSlot, putStreamPlace, putSummary, readStreamPlaces, readSummaries } from "./lmdb-metadata-layout.ts";
import type { StreamPlace } from "./lmdb-metadata-layout.ts";
import type { RecordSource } from "./lmdb-record-scan.ts";
import { listRecords, readValue, scanRecords } from "./lmdb-record-scan.ts";
import type { BucketSummary, ListOptions, ListPage } from "./metadata-store.ts";
import type { StoredValue } from "./stored-value.ts";
import { revisionOf } from "./stored-value.ts";
import type { StreamEntry } from "./stream-progress.ts";
import { summarizeChange } from "./summarize-change.ts";

const CHECKSUM_BYTES = 4;

export class MetadataIndex {
  readonly #environment: IndexEnvironment;
  readonly #source: RecordSource;
  #places: Map<number, StreamPlace>;
  #summaries: Map<BucketName, BucketSummary>;

  /** The environment stays the caller's. @throws {StoreError} `metadata_unavailable` it cannot be read */
  constructor(environment: IndexEnvironment, clock: Clock) {
    this.#environment = environment;
    this.#source = { clock, read: (query) => environment.read(query), visible: verifyValue };
    try {
      this.#places = environment.read(readStreamPlaces);
      this.#summaries = environment.read(readSummaries);
    } catch (cause) {
      throw environment.fail("Reading", cause);
    }
  }

  /** The place reached in a stream; null when it is not known here. */
  placeOf(stream: number): StreamPlace | null {
    return this.#places.get(stream) ?? null;
  }

  /** Forgets every record; the streams are then to be followed from their beginnings. */
  clear(createdAt: readonly string[]): void {
    const places = new Map(createdAt.map((created, stream) => [stream, { applied: 0, createdAt: created }]));
    this.#environment.write({ entryCount: places.size, valueBytes: 0 }, (db) => {
      db.clearSync();
      for (const [stream, place] of places) putStreamPlace(db, stream, place);
    });
    this.#places = places;
    this.#summaries = new Map();
  }

  /** False while there is no room on the disk for more. */
  hasRoom(): boolean {
    return this.#environment.hasRoom();
  }

  /** Puts the records among `entries`, which follow on what was applied before. @throws {StoreError} `metadata_unavailable` */
  apply(stream: number, entries: readonly StreamEntry[]): void {
    const place = this.#places.get(stream);
    const last = entries.at(-1);
    assert(place !== undefined && last !== undefined, "a stream is known before it is followed");
    let valueBytes = 0;
    let entryCount = 1;
    for (const { value } of entries) {
      if (value === null) continue;
      valueBytes += value.length;
      entryCount += 1;
    }
    // Nothing but barriers: the place is told with the next record, and until then they are followed again.
    if (entryCount === 1) return;
    const summaries = new Map<BucketName, BucketSummary>();
    const reached = { ...place, applied: last.sequence };
    this.#environment.write({ entryCount: entryCount * 2, valueBytes }, (db) => {
      for (const entry of entries) this.#put(db, entry, summaries);
      for (const summary of summaries.values()) putSummary(db, summary);
      putStreamPlace(db, stream, reached);
    });
    this.#places.set(stream, reached);
    for (const [bucket, summary] of summaries) this.#summaries.set(bucket, summary);
  }

  /** Its memory is the receiver's. */
  valueOf(slot: string): StoredValue | null {
    return readValue(this.#source, slot);
  }

  revisionOf(slot: string): Revision {
    return this.#environment.read((db) => revisionOf(readShared(db, Buffer.from(slot))));
  }

  list(bucket: BucketName, options: ListOptions, deadline: Deadline): Promise<ListPage> {
    return listRecords(this.#source, bucket, options, deadline);
  }

  scan(
    after: { bucket: BucketName; key: ObjectKey } | null,
    limit: number,
    deadline: Deadline,
  ): Promise<StoredRecord[]> {
    return scanRecords(this.#source, after, limit, deadline);
  }

  /** Of all buckets that ever held something. */
  summaries(): BucketSummary[] {
    return [...this.#summaries.values()];
  }

  #put(db: LmdbDatabase, { slot, value }: StreamEntry, summaries: Map<BucketName, BucketSummary>): void {
    if (slot === null || value === null) return;
    const key = Buffer.from(slot);
    const bucket = bucketOfSlot(slot);
    const before = summaries.get(bucket) ?? this.#summaries.get(bucket) ?? null;
    const after = summarizeChange(bucket, before, readShared(db, key), value);
    if (after !== before) summaries.set(bucket, after);
    const checked = Buffer.allocUnsafe(value.length + CHECKSUM_BYTES);
    checked.set(value);
    checked.writeUInt32BE(checksumOf(key, value), value.length);
    db.putSync(key, checked);
  }
}

function checksumOf(key: Uint8Array, value: Uint8Array): number {
  return crc32(value, crc32(key));
}

function verifyValue(slot: string, checked: Buffer | null): StoredValue | null {
  if (checked === null) return null;
  const value = checked.subarray(0, -CHECKSUM_BYTES);
  if (checked.readUInt32BE(value.length) === checksumOf(Buffer.from(slot), value)) return value;
  throw new StoreError("storage_error", "A record in the metadata index does not match its checksum");
}

/** A value in LMDB's own memory, which the next read overwrites. */
function readShared(db: LmdbDatabase, key: Buffer): StoredValue | null {
  const shared = db.getBinaryFast(key);
  return shared === undefined ? null : shared.subarray(0, shared.length);
}
