import xxhash from "xxhash-wasm";
import type { CellChecksum } from "./blob.ts";
import type { BlobId } from "./ids.ts";

const { h64Raw } = await xxhash();
const encoder = new TextEncoder();

/** XXH64 of plain bytes. */
export function checksumOf(bytes: Uint8Array): bigint {
  return h64Raw(bytes);
}

/** What turns the checksum of a payload into that of one cell of one blob. */
export function identityOf(blob: BlobId, cellIndex: number): bigint {
  return h64Raw(encoder.encode(`${blob}#${cellIndex}`));
}

/**
 * Checksum of a cell. The payload's hash and the identity's are combined by exclusive or, so that the hash of one
 * payload serves all of its replicas.
 */
export function cellChecksum(payload: Uint8Array, blob: BlobId, cellIndex: number): CellChecksum {
  return h64Raw(payload) ^ identityOf(blob, cellIndex);
}
