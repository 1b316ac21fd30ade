import { assert } from "../lib/assert.ts";
import { LIMITS } from "../limits.ts";

/**
 * Which matrix codes k data shards into m parity shards. This table is part of the on-disk format: the parity bytes of
 * every stored object follow from it, so an entry never changes. Up to six parity shards it must equal the one built
 * into the native addon, so that what one of them wrote the other can read.
 */
export type CodeParameters = {
  /** The field has 2^bits elements. */
  readonly bits: 2 | 4 | 8;
  readonly polynomial: number;
  /** First column and row element of the Cauchy matrix; -1 where a code of one or two parity shards uses none. */
  readonly columnOffset: number;
  readonly rowOffset: number;
};

/** The entry for one code. Needs k and m within `LIMITS`. */
export function codeParameters(k: number, m: number): CodeParameters {
  assert(k >= 1 && k <= LIMITS.dataShardsMax, "a code has 1 to 16 data shards");
  assert(m >= 1 && m <= LIMITS.parityShardsMax, "a code has 1 to 8 parity shards");
  const [bits, polynomial, columnOffset = -1, rowOffset = -1] = TABLE[k - 1]?.[m - 1] ?? WIDEST;
  return { bits, polynomial, columnOffset, rowOffset };
}

type Entry = readonly [bits: 2 | 4 | 8, polynomial: number, columnOffset?: number, rowOffset?: number];

/** Seven and eight parity shards, which the addon does not have: one matrix for every k, the sparsest there is for 16 + 8. */
const WIDEST: Entry = [8, 113, 25, 208];

/** Row k - 1, entry m - 1. */
// oxfmt-ignore
const TABLE: readonly (readonly Entry[])[] = [
  [[2, 7], [2, 7], [2, 7, 0, 1], [4, 19, 0, 1], [4, 19, 0, 1], [4, 19, 0, 1]],
  [[2, 7], [2, 7], [4, 19, 0, 4], [4, 19, 0, 5], [4, 19, 2, 9], [4, 19, 4, 10]],
  [[2, 7], [4, 19], [4, 19, 0, 9], [4, 19, 1, 8], [4, 19, 1, 9], [4, 19, 0, 9]],
  [[4, 19], [4, 19], [4, 19, 0, 9], [4, 19, 3, 11], [4, 19, 3, 11], [4, 19, 11, 4]],
  [[4, 19], [4, 19], [4, 19, 4, 13], [4, 19, 3, 12], [4, 19, 0, 9], [4, 19, 0, 9]],
  [[4, 19], [4, 19], [4, 19, 2, 12], [4, 19, 2, 12], [4, 19, 0, 9], [4, 19, 0, 9]],
  [[4, 19], [4, 19], [4, 19, 1, 13], [4, 19, 2, 12], [4, 19, 0, 9], [4, 19, 7, 0]],
  [[4, 19], [4, 19], [4, 19, 2, 13], [4, 19, 2, 12], [4, 19, 0, 9], [4, 19, 0, 8]],
  [[4, 19], [4, 19], [4, 19, 1, 13], [4, 19, 2, 12], [4, 19, 0, 9], [4, 19, 1, 10]],
  [[4, 19], [4, 19], [4, 19, 1, 13], [4, 19, 0, 12], [4, 19, 0, 11], [4, 19, 0, 10]],
  [[4, 19], [4, 19], [4, 19, 0, 13], [4, 19, 0, 12], [4, 19, 0, 11], [8, 135, 58, 188]],
  [[4, 19], [4, 19], [4, 19, 3, 0], [4, 19, 0, 12], [8, 113, 24, 208], [8, 135, 57, 188]],
  [[4, 19], [4, 19], [4, 19, 0, 13], [8, 135, 59, 189], [8, 113, 27, 236], [8, 113, 27, 236]],
  [[4, 19], [4, 19], [8, 169, 4, 252], [8, 135, 58, 189], [8, 135, 58, 189], [8, 135, 58, 188]],
  [[4, 19], [8, 135], [8, 113, 24, 209], [8, 135, 58, 189], [8, 101, 28, 232], [8, 113, 120, 241]],
  [[8, 29], [8, 135], [8, 113, 22, 213], [8, 113, 22, 212], [8, 101, 28, 232], [8, 101, 28, 232]],];
