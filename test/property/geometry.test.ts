import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  blobPayloadBytes,
  dataShards,
  fullCellBytes,
  stripeCount,
  stripeShape,
  tailCellBytes,
} from "../../src/domain/geometry.ts";
import type { Redundancy } from "../../src/domain/manifest.ts";
import { LIMITS } from "../../src/limits.ts";
import { stripeMemoryBytes } from "../../src/object/upload-content.ts";

/** LMDB stores a value in whole pages and needs 16 bytes of them. */
const PAGE_OVERHEAD = 16;

const ec = fc.record({
  scheme: fc.constant("ec" as const),
  k: fc.integer({ min: 1, max: LIMITS.dataShardsMax }),
  m: fc.integer({ min: 1, max: LIMITS.parityShardsMax }),
});
const replication = fc.record({ scheme: fc.constant("replication" as const), copies: fc.integer({ min: 1, max: 9 }) });
const redundancies: fc.Arbitrary<Redundancy> = fc.oneof({ weight: 3, arbitrary: ec }, replication);

/** Codes with sizes of any order of magnitude, and most often near a multiple of something that matters. */
const contents = redundancies.chain((redundancy) => {
  const cellBytes = fullCellBytes(redundancy);
  const steps = [1, 64, 512, 65_536, cellBytes, cellBytes * dataShards(redundancy)];
  const near = fc
    .tuple(fc.constantFrom(...steps), fc.integer({ min: 0, max: 50 }), fc.integer({ min: -2, max: 2 }))
    .map(([step, count, off]) => Math.max(0, step * count + off));
  const any = fc.maxSafeNat().map((size) => size % LIMITS.objectBytesMax);
  return fc.record({
    redundancy: fc.constant(redundancy),
    cellBytes: fc.constant(cellBytes),
    sizeBytes: fc.oneof(near, any),
  });
});

/** Indexes worth looking at: all of few, else the ends and some between. */
function sampleIndexes(count: number): number[] {
  if (count <= 60) return Array.from({ length: count }, (_, index) => index);
  return [0, 1, 2, Math.floor(count / 3), Math.floor(count / 2), count - 3, count - 2, count - 1];
}

describe("fullCellBytes()", () => {
  test("fills whole LMDB pages, is aligned, and keeps cell and stripe within their limits", () => {
    fc.assert(
      fc.property(redundancies, (redundancy) => {
        const cellBytes = fullCellBytes(redundancy);
        const pages = Math.ceil((cellBytes + PAGE_OVERHEAD) / LIMITS.pageBytes);
        expect(cellBytes % 512).toBe(0);
        expect(cellBytes).toBeLessThanOrEqual(pages * LIMITS.pageBytes - PAGE_OVERHEAD);
        // What alignment wastes of the last page is less than one step and the overhead.
        expect(pages * LIMITS.pageBytes - cellBytes).toBeLessThan(512 + PAGE_OVERHEAD);
        expect(cellBytes).toBeLessThanOrEqual(LIMITS.cellBytesMax);
        expect(cellBytes * dataShards(redundancy)).toBeLessThanOrEqual(LIMITS.stripeDataBytesMax);
        expect(cellBytes).toBeGreaterThan(LIMITS.packedBlobBytesMax);
      }),
    );
  });

  test("is what stored manifests of these codes say", () => {
    const codes: [number, number][] = [
      [1, 1_048_064],
      [2, 1_048_064],
      [4, 1_048_064],
      [5, 835_072],
      [8, 523_776],
      [16, 261_632],
    ];
    for (const [k, cellBytes] of codes) expect(fullCellBytes({ scheme: "ec", k, m: 2 }), `k = ${k}`).toBe(cellBytes);
    expect(fullCellBytes({ scheme: "replication", copies: 3 })).toBe(1_048_064);
  });
});

describe("stripeShape()", () => {
  test("cuts any content into stripes that cover it exactly, in order and without gaps", () => {
    fc.assert(
      fc.property(contents, ({ redundancy, cellBytes, sizeBytes }) => {
        const count = stripeCount(sizeBytes, redundancy, cellBytes);
        const fullBytes = cellBytes * dataShards(redundancy);
        expect(count === 0).toBe(sizeBytes === 0);
        for (const index of sampleIndexes(count)) {
          const shape = stripeShape(sizeBytes, redundancy, cellBytes, index);
          expect(shape.index).toBe(index);
          expect(shape.offset).toBe(index * fullBytes);
          expect(shape.dataBytes).toBe(index < count - 1 ? fullBytes : sizeBytes - shape.offset);
          expect(shape.dataBytes).toBeGreaterThan(0);
        }
        expect(() => stripeShape(sizeBytes, redundancy, cellBytes, count)).toThrow("within the content");
      }),
    );
  });

  test("gives cells that hold their stripe, within the full cell, with less than a step of padding each", () => {
    fc.assert(
      fc.property(contents, ({ redundancy, cellBytes, sizeBytes }) => {
        const count = stripeCount(sizeBytes, redundancy, cellBytes);
        for (const index of sampleIndexes(count)) {
          const shape = stripeShape(sizeBytes, redundancy, cellBytes, index);
          const shards = dataShards(redundancy);
          expect(shape.cellBytes).toBeLessThanOrEqual(cellBytes);
          expect(shape.cellBytes * shards).toBeGreaterThanOrEqual(shape.dataBytes);
          if (redundancy.scheme === "replication") {
            expect(shape.cellBytes).toBe(shape.dataBytes);
            continue;
          }
          const even = Math.ceil(shape.dataBytes / shards);
          const step = even < 65_536 ? 64 : 512;
          expect(shape.cellBytes % step).toBe(0);
          expect(shape.cellBytes - even).toBeLessThan(step);
        }
      }),
    );
  });
});

describe("blobPayloadBytes()", () => {
  test("is the sum of the blob's cells", () => {
    fc.assert(
      fc.property(contents, ({ redundancy, cellBytes, sizeBytes }) => {
        const count = stripeCount(sizeBytes, redundancy, cellBytes);
        fc.pre(count <= 2_000);
        let sum = 0;
        for (let index = 0; index < count; index += 1) {
          sum += stripeShape(sizeBytes, redundancy, cellBytes, index).cellBytes;
        }
        expect(blobPayloadBytes(sizeBytes, redundancy, cellBytes)).toBe(sum);
      }),
    );
  });
});

describe("stripeMemoryBytes()", () => {
  test("has room for every stripe of content of that size, parity included, and for any stripe of an unknown size", () => {
    fc.assert(
      fc.property(contents, ({ redundancy, cellBytes, sizeBytes }) => {
        const shards = redundancy.scheme === "ec" ? redundancy.k + redundancy.m : 1;
        const unknown = stripeMemoryBytes(redundancy, cellBytes, null);
        expect(unknown).toBe(cellBytes * shards);
        const known = stripeMemoryBytes(redundancy, cellBytes, sizeBytes);
        expect(known).toBeLessThanOrEqual(unknown);
        expect(known).toBeGreaterThan(0);
        const count = stripeCount(sizeBytes, redundancy, cellBytes);
        for (const index of sampleIndexes(count)) {
          const shape = stripeShape(sizeBytes, redundancy, cellBytes, index);
          expect(shape.cellBytes * shards).toBeLessThanOrEqual(known);
        }
      }),
    );
  });

  test("is no more than small content needs", () => {
    const code = { scheme: "ec", k: 4, m: 2 } as const;
    expect(stripeMemoryBytes(code, fullCellBytes(code), 1_000)).toBe(
      6 * tailCellBytes(1_000, code, fullCellBytes(code)),
    );
    expect(tailCellBytes(1_000, code, fullCellBytes(code))).toBe(256);
  });
});
