import { assert } from "../lib/assert.ts";

/**
 * Arithmetic in GF(2^w). A number is a polynomial over GF(2); adding is exclusive or, and multiplying by a fixed
 * element is a w × w matrix of bits, which is what the coder works with.
 */
export type GaloisField = {
  readonly bits: number;
  multiply(a: number, b: number): number;
  divide(a: number, b: number): number;
  /** The element whose bit `row` says whether input bit `column` contributes to output bit `row` when multiplying by `a`. */
  shifted(a: number, column: number): number;
  /** Ones in the bit matrix of `a`: what multiplying by it costs in exclusive ors. */
  ones(a: number): number;
};

/** `polynomial` may be given with or without its leading bit. */
export function createGaloisField(bits: number, polynomial: number): GaloisField {
  const size = 2 ** bits;
  const order = size - 1;
  const logs = new Int32Array(size);
  // Twice as long as the group, so that a sum of two logarithms needs no modulo.
  const powers = new Int32Array(2 * order);
  let value = 1;
  for (let exponent = 0; exponent < order; exponent += 1) {
    assert(exponent === 0 || value !== 1, "the polynomial of a Galois field is primitive");
    powers[exponent] = value;
    powers[exponent + order] = value;
    logs[value] = exponent;
    value <<= 1;
    if (value >= size) value = (value ^ polynomial) & order;
  }

  const logOf = (a: number): number => logs[a] as number;
  const multiply = (a: number, b: number): number => (a === 0 || b === 0 ? 0 : (powers[logOf(a) + logOf(b)] as number));
  const divide = (a: number, b: number): number => {
    assert(b !== 0, "a Galois field element is not divided by zero");
    return a === 0 ? 0 : (powers[logOf(a) + order - logOf(b)] as number);
  };
  const shifted = (a: number, column: number): number => multiply(a, 1 << column);
  const ones = (a: number): number => {
    let count = 0;
    for (let column = 0; column < bits; column += 1) count += countBits(shifted(a, column));
    return count;
  };
  return { bits, multiply, divide, shifted, ones };
}

/**
 * Inverts a square matrix, given and answered row by row.
 * @throws {AssertionError} when it has no inverse
 */
export function invertMatrix(field: GaloisField, matrix: readonly Uint8Array[]): Uint8Array[] {
  const size = matrix.length;
  const left = matrix.map((row) => Uint8Array.from(row));
  const right = left.map((_, index) => {
    const row = new Uint8Array(size);
    row[index] = 1;
    return row;
  });
  for (let column = 0; column < size; column += 1) {
    const pivot = left.findIndex((row, index) => index >= column && row[column] !== 0);
    assert(pivot !== -1, "any k shards of a Reed-Solomon code determine its data");
    swapRows(left, column, pivot);
    swapRows(right, column, pivot);
    const head = left[column]?.[column] as number;
    scaleRow(field, left[column] as Uint8Array, head);
    scaleRow(field, right[column] as Uint8Array, head);
    for (let row = 0; row < size; row += 1) {
      const factor = left[row]?.[column] as number;
      if (row === column || factor === 0) continue;
      addScaledRow(field, left[row] as Uint8Array, left[column] as Uint8Array, factor);
      addScaledRow(field, right[row] as Uint8Array, right[column] as Uint8Array, factor);
    }
  }
  return right;
}

function swapRows(rows: Uint8Array[], a: number, b: number): void {
  [rows[a], rows[b]] = [rows[b] as Uint8Array, rows[a] as Uint8Array];
}

function scaleRow(field: GaloisField, row: Uint8Array, divisor: number): void {
  for (let column = 0; column < row.length; column += 1) row[column] = field.divide(row[column] as number, divisor);
}

function addScaledRow(field: GaloisField, row: Uint8Array, source: Uint8Array, factor: number): void {
  for (let column = 0; column < row.length; column += 1) {
    row[column] = (row[column] as number) ^ field.multiply(source[column] as number, factor);
  }
}

function countBits(value: number): number {
  let count = 0;
  for (let rest = value; rest !== 0; rest &= rest - 1) count += 1;
  return count;
}
