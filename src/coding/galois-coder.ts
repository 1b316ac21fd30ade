import { assert } from "../lib/assert.ts";
import type { CauchyMatrix } from "./cauchy-matrix.ts";
import { createCauchyMatrix } from "./cauchy-matrix.ts";
import type { GaloisField } from "./galois-field.ts";
import { invertMatrix } from "./galois-field.ts";

/**
 * Reed-Solomon in plain TypeScript. Its bytes are those of the native addon, so it is at once the fallback where the
 * addon could not be installed, the coder of the widest codes, which the addon lacks, and the oracle of the tests.
 *
 * A shard is cut into windows of w packets. Multiplying a shard by an element of GF(2^w) is a w × w matrix of bits over
 * its packets, so that coding is nothing but exclusive ors of whole packets. The packet size decides which bytes are
 * combined: it is part of the on-disk format.
 */

/** Fills the m parity cells behind the k data cells. `cellBytes` is a multiple of 8. */
export function encodeParity(stripe: Uint8Array, k: number, m: number, cellBytes: number): void {
  const matrix = matrixOf(k, m);
  const sources = Array.from({ length: k }, (_, shard) => shard);
  matrix.rows.forEach((row, index) => combineShards(matrix, stripe, cellBytes, row, sources, k + index));
}

/**
 * Rebuilds the wanted data shards from the first k of `have`, which lists shards in rising order. Writes nothing but the
 * wanted cells. `cellBytes` is a multiple of 8.
 */
export function reconstructData(
  stripe: Uint8Array,
  k: number,
  m: number,
  cellBytes: number,
  have: readonly number[],
  wanted: readonly number[],
): void {
  assert(have.length >= k, "rebuilding needs k shards");
  const matrix = matrixOf(k, m);
  const sources = have.slice(0, k);
  const rows = sources.map((shard) => (shard < k ? unitRow(k, shard) : (matrix.rows[shard - k] as Uint8Array)));
  const inverse = invertMatrix(matrix.field, rows);
  for (const shard of wanted) {
    assert(!have.includes(shard), "a shard that is there is not rebuilt");
    combineShards(matrix, stripe, cellBytes, inverse[shard] as Uint8Array, sources, shard);
  }
}

/** Bytes of one packet: w of them, from each of k shards, and one more should fit a cache of 1 MiB together. */
export function packetBytesOf(w: number, k: number, cellBytes: number): number {
  let bytes = cellBytes / w;
  while (bytes > 64 && bytes % 2 === 0 && (1 + k * w) * bytes > 1_048_576) bytes /= 2;
  return bytes;
}

const matrices = new Map<number, CauchyMatrix>();

function matrixOf(k: number, m: number): CauchyMatrix {
  const key = k * 32 + m;
  const known = matrices.get(key);
  if (known !== undefined) return known;
  const matrix = createCauchyMatrix(k, m);
  matrices.set(key, matrix);
  return matrix;
}

function unitRow(size: number, index: number): Uint8Array {
  const row = new Uint8Array(size);
  row[index] = 1;
  return row;
}

/** Sets shard `target` to the sum of `row[i]` × shard `sources[i]`. */
function combineShards(
  matrix: CauchyMatrix,
  stripe: Uint8Array,
  cellBytes: number,
  row: Uint8Array,
  sources: readonly number[],
  target: number,
): void {
  const w = matrix.field.bits;
  assert(cellBytes % 8 === 0 && cellBytes > 0, "a coded cell has whole words");
  const packetBytes = packetBytesOf(w, matrix.k, cellBytes);
  const aligned = packetBytes % 4 === 0 && stripe.byteOffset % 4 === 0;
  const lanes = aligned ? new Int32Array(stripe.buffer, stripe.byteOffset, stripe.byteLength >> 2) : stripe;
  const laneBytes = aligned ? 4 : 1;
  const packet = packetBytes / laneBytes;
  const cell = cellBytes / laneBytes;
  const plan = planPackets(matrix.field, row, sources, cell, packet);
  const addends = plan.map((offsets) => new Int32Array(offsets.length));
  for (let window = 0; window < cell; window += w * packet) {
    for (let index = 0; index < w; index += 1) {
      const offsets = plan[index] as Int32Array;
      const at = addends[index] as Int32Array;
      for (let i = 0; i < offsets.length; i += 1) at[i] = (offsets[i] as number) + window;
      const to = target * cell + window + index * packet;
      if (aligned) addPackets(lanes as Int32Array, to, at, packet);
      else addPacketsBytewise(stripe, to, at, packet);
    }
  }
}

/** For each packet of the target, where in the first window the packets lie that add up to it. */
function planPackets(
  field: GaloisField,
  row: Uint8Array,
  sources: readonly number[],
  cell: number,
  packet: number,
): Int32Array[] {
  return Array.from({ length: field.bits }, (_, bit) => {
    const offsets: number[] = [];
    sources.forEach((shard, index) => {
      for (let column = 0; column < field.bits; column += 1) {
        if ((field.shifted(row[index] as number, column) >> bit) & 1) offsets.push(shard * cell + column * packet);
      }
    });
    return Int32Array.from(offsets);
  });
}

/** Sets the packet at `to` to the sum of the packets at `at`, three at a time: each pass over the target costs a load and a store. */
function addPackets(lanes: Int32Array, to: number, at: Int32Array, length: number): void {
  const count = at.length;
  const rest = count % 3;
  let next = rest === 0 ? 3 : rest;
  const first = at[0] as number;
  if (next === 1) lanes.copyWithin(to, first, first + length);
  else if (next === 2) setSumOf2(lanes, to, first, at[1] as number, length);
  else setSumOf3(lanes, to, first, at[1] as number, at[2] as number, length);
  for (; next < count; next += 3) {
    addSumOf3(lanes, to, at[next] as number, at[next + 1] as number, at[next + 2] as number, length);
  }
}

function setSumOf2(v: Int32Array, to: number, a: number, b: number, length: number): void {
  for (let i = 0; i < length; i += 1) v[to + i] = (v[a + i] as number) ^ (v[b + i] as number);
}

function setSumOf3(v: Int32Array, to: number, a: number, b: number, c: number, length: number): void {
  for (let i = 0; i < length; i += 1) {
    v[to + i] = (v[a + i] as number) ^ (v[b + i] as number) ^ (v[c + i] as number);
  }
}

function addSumOf3(v: Int32Array, to: number, a: number, b: number, c: number, length: number): void {
  for (let i = 0; i < length; i += 1) {
    v[to + i] = (v[to + i] as number) ^ (v[a + i] as number) ^ (v[b + i] as number) ^ (v[c + i] as number);
  }
}

/** For the rare packet that does not lie on words. */
function addPacketsBytewise(bytes: Uint8Array, to: number, at: Int32Array, length: number): void {
  const first = at[0] as number;
  bytes.copyWithin(to, first, first + length);
  for (let index = 1; index < at.length; index += 1) {
    const from = at[index] as number;
    for (let i = 0; i < length; i += 1) bytes[to + i] = (bytes[to + i] as number) ^ (bytes[from + i] as number);
  }
}
