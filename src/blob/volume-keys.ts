import type { BlobId } from "../domain/ids.ts";
import { assert } from "../lib/assert.ts";
import { asBuffer } from "../lib/bytes.ts";

/**
 * Keys inside a volume. The first byte is the kind; LMDB orders keys by their bytes, so the seals of a volume are in
 * the order of blob ids and the cells of a blob in the order of their indexes.
 */
const KIND_COUNTERS = 0;
const KIND_CELL = 1;
const KIND_SEAL = 2;
const KIND_MARKER = 3;

const BLOB_ID_BYTES_MAX = 64;

export const COUNTERS_KEY = Buffer.from([KIND_COUNTERS]);
/** Where the seals of a volume begin and end, as bounds of a scan. */
export const SEALS_FROM = Buffer.from([KIND_SEAL]);
export const SEALS_TO = Buffer.from([KIND_MARKER]);
export const MARKERS_FROM = Buffer.from([KIND_MARKER]);
export const MARKERS_TO = Buffer.from([KIND_MARKER + 1]);

export function sealKey(id: BlobId | string): Buffer {
  return idKey(KIND_SEAL, id, 0);
}

export function markerKey(id: BlobId): Buffer {
  return idKey(KIND_MARKER, id, 0);
}

export function cellKey(id: BlobId, index: number): Buffer {
  const key = idKey(KIND_CELL, id, 5);
  key[id.length + 1] = 0;
  key.writeUInt32BE(index, id.length + 2);
  return key;
}

/** Bounds of all cells of one blob. */
export function cellBounds(id: BlobId): { from: Buffer; to: Buffer } {
  const from = idKey(KIND_CELL, id, 1);
  from[id.length + 1] = 0;
  const to = idKey(KIND_CELL, id, 1);
  to[id.length + 1] = 1;
  return { from, to };
}

/** The blob id of a seal or marker key. */
export function blobIdOfKey(key: Uint8Array): BlobId {
  return asBuffer(key).toString("latin1", 1) as BlobId;
}

function idKey(kind: number, id: string, spareBytes: number): Buffer {
  assert(id.length <= BLOB_ID_BYTES_MAX, "a blob id is short");
  const key = Buffer.allocUnsafe(1 + id.length + spareBytes);
  key[0] = kind;
  key.write(id, 1, "latin1");
  return key;
}
