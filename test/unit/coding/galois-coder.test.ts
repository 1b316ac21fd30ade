import { createHash } from "node:crypto";
import { createRequire } from "node:module";
import { describe, expect, test } from "vitest";
import { createCauchyMatrix } from "../../../src/coding/cauchy-matrix.ts";
import { createGaloisField, invertMatrix } from "../../../src/coding/galois-field.ts";
import { encodeParity, packetBytesOf, reconstructData } from "../../../src/coding/galois-coder.ts";
import { fullCellBytes } from "../../../src/domain/geometry.ts";

type Addon = {
  encode(...args: [Buffer, number, number, Buffer, number, number, Buffer, number, number, () => void]): void;
  create(k: number, m: number): Buffer;
};
// Straight from the package: what is under test must not stand between it and the comparison.
const addon = createRequire(import.meta.url)("@ronomon/reed-solomon") as Addon;

const DATA_COUNTS = Array.from({ length: 16 }, (_, index) => index + 1);

describe("encodeParity()", () => {
  test.each(DATA_COUNTS)("makes the addon's bytes for k = %d and every m it knows", async (k) => {
    for (let m = 1; m <= 6; m += 1) {
      const full = fullCellBytes({ scheme: "ec", k, m });
      // Small ones, one that is no power of two, one whose packets are cut for the cache, and a full cell.
      for (const cellBytes of [64, 128, 192, 4_096, 64 * 153, 98_816, full]) {
        const expected = patternStripe(k, m, cellBytes);
        const actual = Buffer.from(expected);
        await encodeWithAddon(expected, k, m, cellBytes);
        encodeParity(actual, k, m, cellBytes);
        expect(actual.equals(expected), `${k}+${m}, cells of ${cellBytes}`).toBe(true);
      }
    }
  });

  test("makes the addon's bytes for the store's own full cell of 4+2", async () => {
    expect(fullCellBytes({ scheme: "ec", k: 4, m: 2 })).toBe(1_048_064);
    expect(packetBytesOf(4, 4, 1_048_064), "the packets are cut for the cache").toBe(32_752);
  });

  test.each([
    // Packets so small that they are not whole words, and a stripe that does not begin on one.
    [8, 8, 0],
    [64, 8, 1],
    [4_096, 4, 3],
  ])("makes the addon's bytes for cells of %d bytes, k = %d, at byte offset %d", async (cellBytes, k, offset) => {
    for (const m of [1, 2, 3, 6]) {
      const expected = patternStripe(k, m, cellBytes);
      const actual = Buffer.concat([Buffer.alloc(offset), expected]).subarray(offset);
      await encodeWithAddon(expected, k, m, cellBytes);
      encodeParity(actual, k, m, cellBytes);
      expect(actual.equals(expected)).toBe(true);
    }
  });

  test("copies the data for k = 1 and adds it up in the first parity shard otherwise", () => {
    const copies = patternStripe(1, 8, 64);
    encodeParity(copies, 1, 8, 64);
    for (let shard = 1; shard <= 8; shard += 1) expect(cell(copies, shard, 64)).toEqual(cell(copies, 0, 64));
    const sum = patternStripe(3, 8, 64);
    encodeParity(sum, 3, 8, 64);
    expect(cell(sum, 3, 64)).toEqual(
      cell(sum, 0, 64).map((byte, at) => byte ^ (sum[64 + at] ?? 0) ^ (sum[128 + at] ?? 0)),
    );
  });

  // On-disk format: what is stored today must decode for ever. Digests of parity over all k and three cell sizes.
  test.each([
    [1, "126faea145a2d705def8c3c547976610"],
    [2, "411a997376615351defab44eaad3f2b8"],
    [3, "f9a725cdd1b58802a2b838ad296bab35"],
    [4, "93197bb1c03cea2feb0114104770fb36"],
    [5, "dd6d73b5d82a3b23639d4e41281b4c47"],
    [6, "e2d7609a623c27eab0db09e603ee831f"],
    [7, "b3e5aacdca56729f6480bbd94cec464c"],
    [8, "509f20505289569cf305445090a6524a"],
  ])("never changes a byte for m = %d", (m, golden) => {
    const hash = createHash("sha256");
    for (const k of DATA_COUNTS) {
      for (const cellBytes of [64, 4_096, 131_072]) {
        const stripe = patternStripe(k, m, cellBytes);
        encodeParity(stripe, k, m, cellBytes);
        hash.update(stripe.subarray(k * cellBytes));
      }
    }
    expect(hash.digest("hex").slice(0, 32)).toBe(golden);
  });

  test("never changes these bytes of 4+2", () => {
    const stripe = patternStripe(4, 2, 64);
    encodeParity(stripe, 4, 2, 64);
    expect(stripe.subarray(4 * 64, 4 * 64 + 16).toString("hex")).toBe("ba107e3b4d450329bbda0fe6ff5b10db");
    expect(stripe.subarray(5 * 64, 5 * 64 + 16).toString("hex")).toBe("ae1a65719420ccc5899db055b5d8e0f4");
  });
});

describe("reconstructData()", () => {
  test("writes nothing but the wanted cells", () => {
    const stripe = patternStripe(4, 2, 64);
    encodeParity(stripe, 4, 2, 64);
    const whole = Buffer.from(stripe);
    stripe.fill(0xaa, 0, 128);
    reconstructData(stripe, 4, 2, 64, [2, 3, 4, 5], [1]);
    expect(cell(stripe, 0, 64)).toEqual(Buffer.alloc(64, 0xaa));
    expect(stripe.subarray(64).equals(whole.subarray(64))).toBe(true);
  });
});

describe("createCauchyMatrix()", () => {
  test("has an invertible square for every choice of rows and columns of 4+4", () => {
    const { field, rows } = createCauchyMatrix(4, 4);
    for (let mask = 1; mask < 256; mask += 1) {
      const rowSet = indexes(mask >> 4);
      const columnSet = indexes(mask & 15);
      if (rowSet.length !== columnSet.length) continue;
      const square = rowSet.map((row) => Uint8Array.from(columnSet, (column) => rows[row]?.[column] ?? 0));
      expect(() => invertMatrix(field, square)).not.toThrow();
    }
  });
});

describe("createGaloisField()", () => {
  test.each([
    [2, 7],
    [4, 19],
    [8, 29],
    [8, 113],
  ])("of 2^%d elements over %d divides what it multiplied", (bits, polynomial) => {
    const field = createGaloisField(bits, polynomial);
    const elements = Array.from({ length: 2 ** bits }, (_, element) => element);
    for (const b of elements.slice(1)) {
      expect(elements.map((a) => field.divide(field.multiply(a, b), b))).toEqual(elements);
    }
  });

  test("refuses a polynomial that does not reach every element", () => {
    expect(() => createGaloisField(4, 0b11111)).toThrow(/primitive/);
  });
});

function patternStripe(k: number, m: number, cellBytes: number): Buffer {
  const stripe = Buffer.alloc((k + m) * cellBytes);
  // A fixed sequence without structure: xorshift of 32 bits.
  let state = 0x9e3779b9 ^ cellBytes;
  for (let at = 0; at < k * cellBytes; at += 1) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    stripe[at] = state & 0xff;
  }
  return stripe;
}

function encodeWithAddon(stripe: Buffer, k: number, m: number, cellBytes: number): Promise<void> {
  const data = 2 ** k - 1;
  const parity = (2 ** m - 1) * 2 ** k;
  return new Promise((resolve) => {
    addon.encode(
      addon.create(k, m),
      data,
      parity,
      stripe,
      0,
      k * cellBytes,
      stripe,
      k * cellBytes,
      m * cellBytes,
      resolve,
    );
  });
}

function cell(stripe: Buffer, shard: number, cellBytes: number): Buffer {
  return stripe.subarray(shard * cellBytes, (shard + 1) * cellBytes);
}

function indexes(mask: number): number[] {
  return [0, 1, 2, 3].filter((index) => (mask >> index) & 1);
}
