import { assert } from "../lib/assert.ts";
import type { CellChecksum } from "../domain/blob.ts";
import { cellChecksum, checksumOf, identityOf } from "../domain/checksum.ts";
import { blobIdOf } from "../domain/ids.ts";
import type { DecodeRequest, DecodeResult, EncodeRequest, UploadOptions } from "./coder.ts";
import type { ReedSolomon } from "./reed-solomon.ts";

/**
 * From the content of one stripe to cells with checksums, and back. Works in place and holds no state, so that every
 * coder, in whatever thread, does the same.
 */

/**
 * Pads the data cells with zeros, fills the parity cells and answers the checksum of every cell. Calls `meanwhile` once
 * while the parity is being computed elsewhere: it may read the content, and change nothing.
 */
export async function encodeStripe(
  reedSolomon: ReedSolomon,
  blobs: Pick<UploadOptions, "txid" | "part" | "redundancy">,
  stripe: Uint8Array,
  request: EncodeRequest,
  meanwhile: () => void,
): Promise<CellChecksum[]> {
  const { txid, part, redundancy } = blobs;
  const { stripeIndex, dataBytes, cellBytes } = request;
  if (redundancy.scheme === "replication") {
    assertRoom(stripe, dataBytes, cellBytes, cellBytes);
    stripe.fill(0, dataBytes, cellBytes);
    meanwhile();
    // The payload's hash is shared by its copies: only their identities differ.
    const hash = checksumOf(stripe.subarray(0, cellBytes));
    return Array.from(
      { length: redundancy.copies },
      (_, copy) => hash ^ identityOf(blobIdOf(txid, part, copy), stripeIndex),
    );
  }
  const { k, m } = redundancy;
  assertRoom(stripe, dataBytes, k * cellBytes, (k + m) * cellBytes);
  // Stripes are reused: what an earlier upload left behind the content must not reach a cell.
  stripe.fill(0, dataBytes, k * cellBytes);
  const checksumsOf = (from: number, to: number): CellChecksum[] =>
    Array.from({ length: to - from }, (_, offset) =>
      cellChecksum(cellOf(stripe, from + offset, cellBytes), blobIdOf(txid, part, from + offset), stripeIndex),
    );
  const parity = reedSolomon.encodeParity(stripe, k, m, cellBytes);
  let dataChecksums: CellChecksum[];
  try {
    meanwhile();
    dataChecksums = checksumsOf(0, k);
  } finally {
    // Also when something above throws: the stripe is not given back while another thread writes to it.
    await parity;
  }
  return [...dataChecksums, ...checksumsOf(k, k + m)];
}

/** Verifies the cells of a stripe and rebuilds in place what is wanted and missing, if enough of them are right. */
export async function decodeStripe(
  reedSolomon: ReedSolomon,
  stripe: Uint8Array,
  request: DecodeRequest,
): Promise<DecodeResult> {
  const { redundancy, cellBytes, wanted } = request;
  const right: number[] = [];
  const damaged: number[] = [];
  for (const cell of request.cells) {
    const at = redundancy.scheme === "replication" ? 0 : cell.shardIndex;
    const blob = blobIdOf(request.txid, request.part, cell.shardIndex);
    const checksum = cellChecksum(cellOf(stripe, at, cellBytes), blob, request.stripeIndex);
    (checksum === cell.checksum ? right : damaged).push(cell.shardIndex);
  }
  if (redundancy.scheme === "replication") {
    assert(request.cells.length <= 1, "a replica is verified alone");
    return { ok: right.length === 1, damaged };
  }
  const { k, m } = redundancy;
  assert(new Set(request.cells.map((cell) => cell.shardIndex)).size === request.cells.length, "a shard is read once");
  assert(
    wanted.every((shard) => shard < k),
    "only data shards are wanted",
  );
  const missing = wanted.filter((shard) => !right.includes(shard));
  if (missing.length === 0) return { ok: true, damaged };
  if (right.length < k) return { ok: false, damaged };
  await reedSolomon.reconstruct(stripe, k, m, cellBytes, right, missing);
  return { ok: true, damaged };
}

function cellOf(stripe: Uint8Array, shard: number, cellBytes: number): Uint8Array {
  const cell = stripe.subarray(shard * cellBytes, (shard + 1) * cellBytes);
  assert(cell.length === cellBytes, "a cell lies within its stripe");
  return cell;
}

function assertRoom(stripe: Uint8Array, contentBytes: number, dataBytes: number, allBytes: number): void {
  assert(contentBytes <= dataBytes, "the content fits the data cells");
  assert(allBytes <= stripe.length, "the cells fit the stripe");
}
