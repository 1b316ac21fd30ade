import { assert } from "../lib/assert.ts";
import { codeParameters } from "./cauchy-parameters.ts";
import type { GaloisField } from "./galois-field.ts";
import { createGaloisField } from "./galois-field.ts";

/**
 * The code that turns k data shards into m parity shards: parity row r is the sum over c of `rows[r][c]` × data c.
 * Row 0 is all ones, so the first parity shard is the plain exclusive or of the data. Part of the on-disk format.
 */
export type CauchyMatrix = {
  readonly k: number;
  readonly m: number;
  readonly field: GaloisField;
  readonly rows: readonly Uint8Array[];
};

/** The matrix of one code. The same k and m give the same matrix forever. */
export function createCauchyMatrix(k: number, m: number): CauchyMatrix {
  const { bits, polynomial, columnOffset, rowOffset } = codeParameters(k, m);
  assert(k + m <= 2 ** bits, "a code has no more shards than its field has elements");
  const field = createGaloisField(bits, polynomial);
  const rows = m <= 2 ? sparseRows(field, k, m) : cauchyRows(field, k, m, columnOffset, rowOffset);
  return { k, m, field, rows };
}

/** With at most two parity shards any distinct coefficients work in the second row: take those that cost least. */
function sparseRows(field: GaloisField, k: number, m: number): Uint8Array[] {
  const rows: Uint8Array[] = [new Uint8Array(k).fill(1)];
  if (m === 1) return rows;
  const elements = Array.from({ length: 2 ** field.bits - 1 }, (_, index) => index + 1);
  const cheapestFirst = elements.toSorted((a, b) => field.ones(a) - field.ones(b) || a - b);
  rows.push(Uint8Array.from(cheapestFirst.slice(0, k)));
  return rows;
}

/**
 * A Cauchy matrix, 1 / (y + x) for disjoint ranges of x and y, keeps its property (every square part of it can be
 * inverted) when a row or a column is divided by one of its elements. So columns are divided to make row 0 all
 * ones, and each further row by that one of its elements which leaves the fewest exclusive ors.
 */
function cauchyRows(field: GaloisField, k: number, m: number, columnOffset: number, rowOffset: number): Uint8Array[] {
  const first = cauchyRow(field, k, columnOffset, rowOffset);
  const rows: Uint8Array[] = [new Uint8Array(k).fill(1)];
  for (let index = 1; index < m; index += 1) {
    const plain = cauchyRow(field, k, columnOffset, rowOffset + index);
    rows.push(
      cheapestMultiple(
        field,
        plain.map((value, column) => field.divide(value, first[column] as number)),
      ),
    );
  }
  return rows;
}

function cauchyRow(field: GaloisField, k: number, columnOffset: number, y: number): Uint8Array {
  return Uint8Array.from({ length: k }, (_, column) => field.divide(1, y ^ (columnOffset + column)));
}

function cheapestMultiple(field: GaloisField, row: Uint8Array): Uint8Array {
  const costOf = (candidate: Uint8Array): number => candidate.reduce((sum, value) => sum + field.ones(value), 0);
  let best = row;
  let bestCost = costOf(row);
  for (const divisor of row) {
    const candidate = row.map((value) => field.divide(value, divisor));
    const cost = costOf(candidate);
    if (cost < bestCost) {
      best = candidate;
      bestCost = cost;
    }
  }
  return best;
}
