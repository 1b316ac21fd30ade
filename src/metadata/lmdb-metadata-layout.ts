/**
 * Keys and small values of the LMDB metadata store, in byte order. The first byte tells the kind; those from 0x10 on
 * belong to other stores in the same environment.
 *
 * | key                         | value                                                                |
 * |-----------------------------|----------------------------------------------------------------------|
 * | 00 "revision"               | the last revision given, written with the batch that used it         |
 * | 00 "incarnation"            | name of this metadata, which the data that belongs to it remembers    |
 * | 00 "stream" index           | the place reached in a stream, in an index that follows streams      |
 * | 01 bucket 00 key            | current record (`stored-value.ts`)                                   |
 * | 02 bucket 00 key 00 version | reserved for versions kept beside the current one                    |
 * | 03 bucket                   | counts of readable objects, written with the batch that changed them |
 */
import { StoreError } from "../domain/errors.ts";
import type { BucketName, Revision } from "../domain/ids.ts";
import { REVISION_NONE } from "../domain/ids.ts";
import type { LmdbDatabase } from "../lib/lmdb-environment.ts";
import { readUint64, writeUint64 } from "../lib/uint64.ts";
import { successorOf } from "./list-page.ts";
import type { BucketSummary } from "./metadata-store.ts";

const REVISION_KEY = Buffer.from("\u0000revision");
const INCARNATION_KEY = Buffer.from("\u0000incarnation");
const STREAMS_START = Buffer.from("\u0000stream");
const SUMMARIES_START = Buffer.of(3);
const SMALL_FORMAT_VERSION = 1;
const SMALL_NUMBER_BYTES = 8;

export const RECORDS_START = Buffer.of(1);
export const RECORDS_END = successorOf(RECORDS_START);

/** Bucket and key as one string whose UTF-8 bytes are the LMDB key of the current record. */
export function slotOf(bucket: BucketName, key: string): string {
  return `\u0001${bucket}\u0000${key}`;
}

export function bucketOfSlot(slot: string): BucketName {
  return slot.slice(1, slot.indexOf("\u0000", 1)) as BucketName;
}

/** The first LMDB key behind `key`. */
export function keyBehind(key: Buffer): Buffer {
  return Buffer.concat([key, Buffer.of(0)]);
}

/** @throws {StoreError} `format_unknown` */
export function readRevision(db: LmdbDatabase): Revision {
  const value = db.getBinary(REVISION_KEY);
  return value === undefined ? REVISION_NONE : (readSmall(value, 0) as Revision);
}

export function putRevision(db: LmdbDatabase, revision: Revision): void {
  void db.put(REVISION_KEY, encodeSmall(revision));
}

/** Null where it was never named. */
export function readIncarnation(db: LmdbDatabase): string | null {
  return db.getBinary(INCARNATION_KEY)?.toString("latin1", 1) ?? null;
}

export function putIncarnation(db: LmdbDatabase, incarnation: string): void {
  void db.put(INCARNATION_KEY, Buffer.concat([Buffer.of(SMALL_FORMAT_VERSION), Buffer.from(incarnation, "latin1")]));
}

/** @throws {StoreError} `format_unknown` */
export function readSummaries(db: LmdbDatabase): Map<BucketName, BucketSummary> {
  const summaries = new Map<BucketName, BucketSummary>();
  for (const { key, value } of db.getRange({ start: SUMMARIES_START, end: successorOf(SUMMARIES_START) })) {
    const bucket = key.toString("latin1", SUMMARIES_START.length) as BucketName;
    summaries.set(bucket, { bucket, objectCount: readSmall(value, 0), objectBytes: readSmall(value, 1) });
  }
  return summaries;
}

export function putSummary(db: LmdbDatabase, { bucket, objectCount, objectBytes }: BucketSummary): void {
  void db.put(Buffer.concat([SUMMARIES_START, Buffer.from(bucket)]), encodeSmall(objectCount, objectBytes));
}

/** How far an index follows a stream. `createdAt` tells a stream from another one of the same name. */
export type StreamPlace = { readonly applied: number; readonly createdAt: string };

/** @throws {StoreError} `format_unknown` */
export function readStreamPlaces(db: LmdbDatabase): Map<number, StreamPlace> {
  const places = new Map<number, StreamPlace>();
  for (const { key, value } of db.getRange({ start: STREAMS_START, end: successorOf(STREAMS_START) })) {
    const place = { applied: readSmall(value, 0), createdAt: value.toString("utf8", SMALL_NUMBER_BYTES + 1) };
    places.set(readUint64(key, STREAMS_START.length), place);
  }
  return places;
}

export function putStreamPlace(db: LmdbDatabase, stream: number, { applied, createdAt }: StreamPlace): void {
  const key = Buffer.concat([STREAMS_START, Buffer.alloc(SMALL_NUMBER_BYTES)]);
  writeUint64(key, stream, STREAMS_START.length);
  void db.put(key, Buffer.concat([encodeSmall(applied), Buffer.from(createdAt)]));
}

/** Layout: version byte, then numbers of 8 bytes. */
function encodeSmall(...numbers: number[]): Buffer {
  const value = Buffer.allocUnsafe(1 + SMALL_NUMBER_BYTES * numbers.length);
  value[0] = SMALL_FORMAT_VERSION;
  numbers.forEach((number, index) => writeUint64(value, number, 1 + SMALL_NUMBER_BYTES * index));
  return value;
}

function readSmall(value: Buffer, index: number): number {
  if (value[0] !== SMALL_FORMAT_VERSION) {
    throw new StoreError(
      "format_unknown",
      `Cannot read a metadata entry of format ${value[0]}: this program knows ${SMALL_FORMAT_VERSION}`,
    );
  }
  return readUint64(value, 1 + SMALL_NUMBER_BYTES * index);
}
