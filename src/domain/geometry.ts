import { ceilTo, floorTo } from "../lib/bytes.ts";
import { assert } from "../lib/assert.ts";
import { LIMITS } from "../limits.ts";
import type { Redundancy } from "./manifest.ts";

/**
 * How a byte string is cut into stripes and cells. Pure arithmetic on its size, so it is never stored: the same
 * size, code and cell size always give the same cut.
 *
 * Every stripe but the last has k full cells. The last one has k cells just long enough for the rest, padded with
 * zeros to a step that keeps the Reed-Solomon kernels on aligned words. Replicas are not padded: their "stripe" is one
 * cell of plain content.
 */
export type StripeShape = {
  readonly index: number;
  /** Offset of the stripe's first byte in the content. */
  readonly offset: number;
  /** Content bytes in this stripe. */
  readonly dataBytes: number;
  /** Payload bytes of each of its cells. */
  readonly cellBytes: number;
};

const CELL_STEP_SMALL = 64;
const CELL_STEP_LARGE = 512;
const CELL_STEP_LARGE_FROM = 64 * 1_024;

export function dataShards(redundancy: Redundancy): number {
  return redundancy.scheme === "ec" ? redundancy.k : 1;
}

/** Payload bytes of a full cell: fills n pages of LMDB, is aligned, and keeps a stripe within its limit. */
export function fullCellBytes(redundancy: Redundancy): number {
  const share = Math.floor(LIMITS.stripeDataBytesMax / dataShards(redundancy));
  const pages = Math.floor(Math.min(LIMITS.cellBytesMax, share) / LIMITS.pageBytes);
  return floorTo(pages * LIMITS.pageBytes - LIMITS.pageHeaderBytes, CELL_STEP_LARGE);
}

export function stripeCount(sizeBytes: number, redundancy: Redundancy, cellBytes: number): number {
  return Math.ceil(sizeBytes / (cellBytes * dataShards(redundancy)));
}

/** Cell size of the last stripe when `restBytes` of content are left for it. */
export function tailCellBytes(restBytes: number, redundancy: Redundancy, cellBytes: number): number {
  if (redundancy.scheme === "replication") return restBytes;
  const even = Math.ceil(restBytes / redundancy.k);
  return Math.min(cellBytes, ceilTo(even, even < CELL_STEP_LARGE_FROM ? CELL_STEP_SMALL : CELL_STEP_LARGE));
}

export function stripeShape(sizeBytes: number, redundancy: Redundancy, cellBytes: number, index: number): StripeShape {
  const fullBytes = cellBytes * dataShards(redundancy);
  const offset = index * fullBytes;
  assert(index >= 0 && offset < sizeBytes, "the stripe lies within the content");
  const dataBytes = Math.min(fullBytes, sizeBytes - offset);
  return {
    index,
    offset,
    dataBytes,
    cellBytes: dataBytes === fullBytes ? cellBytes : tailCellBytes(dataBytes, redundancy, cellBytes),
  };
}

/** Payload bytes of one whole blob of the set: what its node stores. */
export function blobPayloadBytes(sizeBytes: number, redundancy: Redundancy, cellBytes: number): number {
  const stripes = stripeCount(sizeBytes, redundancy, cellBytes);
  if (stripes === 0) return 0;
  return (stripes - 1) * cellBytes + stripeShape(sizeBytes, redundancy, cellBytes, stripes - 1).cellBytes;
}
