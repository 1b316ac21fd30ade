import { StoreError } from "../domain/errors.ts";
import type { Revision } from "../domain/ids.ts";
import { REVISION_NONE } from "../domain/ids.ts";
import type { ObjectRecord, StoredRecord } from "../domain/record.ts";
import { decodeRecord, encodeRecord } from "../domain/record.ts";
import { readUint64, writeUint64 } from "../lib/uint64.ts";

/**
 * A record as an ordered index keeps it: a fixed head with what commits, listings and summaries decide by, so that they
 * need not decode the record, then the record.
 * Layout: version byte, state byte, revision (8), object bytes (8), encoded record. Numbers are big-endian.
 */
export type StoredValue = Buffer;

const FORMAT_VERSION = 1;
const AT = { version: 0, state: 1, revision: 2, sizeBytes: 10, record: 18 } as const;
const STATE_BYTES = { object: 0, tombstone: 1, fence: 2 } as const satisfies Record<ObjectRecord["state"], number>;

/** Encodes a record whose revision is not known yet; see `withRevision`. */
export function encodeStoredValue(record: ObjectRecord): StoredValue {
  const encoded = encodeRecord(record);
  const value = Buffer.allocUnsafe(AT.record + encoded.length);
  value[AT.version] = FORMAT_VERSION;
  value[AT.state] = STATE_BYTES[record.state];
  writeUint64(value, REVISION_NONE, AT.revision);
  writeUint64(value, record.sizeBytes, AT.sizeBytes);
  value.set(encoded, AT.record);
  return value;
}

/** Writes the revision into the value itself. */
export function withRevision(value: StoredValue, revision: Revision): StoredValue {
  writeUint64(value, revision, AT.revision);
  return value;
}

/**
 * Writes a number by which its writer knows the value again, 0…2^53 - 1, where the revision belongs later. For values on
 * their way to a store that gives revisions itself.
 */
export function withMark(value: StoredValue, mark: number): StoredValue {
  writeUint64(value, mark, AT.revision);
  return value;
}

/** The mark of a value that has no revision yet. @throws {StoreError} `format_unknown` */
export function markOf(value: StoredValue): number {
  return revisionOf(value);
}

/** `value` must stay unchanged as long as the record is used. @throws {StoreError} `format_unknown` */
export function decodeStoredValue(value: StoredValue): StoredRecord {
  return { record: decodeRecord(value.subarray(AT.record)), revision: revisionOf(value) };
}

/** The revision of a value, or of nothing. @throws {StoreError} `format_unknown` */
export function revisionOf(value: StoredValue | null): Revision {
  if (value === null) return REVISION_NONE;
  if (value[AT.version] !== FORMAT_VERSION) {
    throw new StoreError(
      "format_unknown",
      `Cannot read an index entry of format ${value[AT.version]}: this program knows ${FORMAT_VERSION}`,
    );
  }
  return readUint64(value, AT.revision) as Revision;
}

/** True for an object that can be read: no tombstone, no fence. */
export function isReadable(value: StoredValue): boolean {
  return value[AT.state] === STATE_BYTES.object;
}

export function objectBytesOf(value: StoredValue): number {
  return readUint64(value, AT.sizeBytes);
}
