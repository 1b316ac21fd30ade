import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  encodeCelledSeal,
  encodePackedSeal,
  packedCells,
  parseSeal,
  sealChecksum,
  volumeOfCell,
} from "../../../src/blob/seal.ts";
import type { BlobId } from "../../../src/domain/ids.ts";

const ID = "01JD0000000000000000000000.body.0" as BlobId;
const allocate = (bytes: number) => Buffer.alloc(bytes, 0xee);
const hexOf = (bytes: Buffer) => bytes.toString("hex").replace(/(.{64})/g, "$1\n");

const packed = encodePackedSeal(
  {
    id: ID,
    sealedAtMs: 1_700_000_000_000,
    descriptor: Buffer.from("what it is"),
    cells: [
      { payload: Buffer.from("first cell"), checksum: 0x0102030405060708n },
      { payload: Buffer.from("2nd"), checksum: 0xfffefdfcfbfaf9f8n },
    ],
  },
  allocate,
);
const celled = encodeCelledSeal({
  id: ID,
  sealedAtMs: 1_700_000_000_001,
  descriptor: Buffer.from("what it is"),
  payloadBytes: 5_000_000_000,
  checksums: [1n, 2n, 3n],
  runs: [
    { firstCell: 0, volume: 7 },
    { firstCell: 2, volume: 9 },
  ],
});

describe("encodePackedSeal()", () => {
  test("encodePackedSeal() writes the bytes of format 1", () => {
    expect(hexOf(packed)).toMatchInlineSnapshot(`
      "01012100020000000d00000000000068e5cf8b010a0000000000000030314a44
      303030303030303030303030303030303030303030302e626f64792e300a0000
      00030000000807060504030201f8f9fafbfcfdfeff77686174206974206973e2
      2d7412cea54a7866697273742063656c6c326e64"
    `);
  });

  test("parseSeal() reads them back", () => {
    const seal = parseSeal(packed, ID);
    expect(seal).toMatchObject({ id: ID, packed: true, cellCount: 2, payloadBytes: 13, sealedAtMs: 1_700_000_000_000 });
    expect(seal.descriptor.toString()).toBe("what it is");
    expect(packedCells(seal).map(String)).toEqual(["first cell", "2nd"]);
    expect([sealChecksum(seal, 0), sealChecksum(seal, 1)]).toEqual([0x0102030405060708n, 0xfffefdfcfbfaf9f8n]);
  });
});

describe("encodeCelledSeal()", () => {
  test("encodeCelledSeal() writes the bytes of format 1", () => {
    expect(hexOf(celled)).toMatchInlineSnapshot(`
      "010021000300000000f2052a01000168e5cf8b010a0000000200000030314a44
      303030303030303030303030303030303030303030302e626f64792e30000000
      0007000000020000000900000001000000000000000200000000000000030000
      000000000077686174206974206973c083aa727191eaf3"
    `);
  });

  test("parseSeal() reads them back", () => {
    const seal = parseSeal(celled, ID);
    expect(seal).toMatchObject({ packed: false, cellCount: 3, payloadBytes: 5_000_000_000 });
    expect([0, 1, 2].map((index) => volumeOfCell(seal, index))).toEqual([7, 7, 9]);
    expect(sealChecksum(seal, 2)).toBe(3n);
  });
});

describe("parseSeal()", () => {
  test("parseSeal() refuses the seal of another blob", () => {
    expect(() => parseSeal(packed, ID.replace("body", "cold") as BlobId)).toThrow(/another blob/);
  });

  test("parseSeal() refuses any change of any byte but those of packed payloads, which cells' checksums protect", () => {
    for (const [bytes, end] of [
      [packed, packed.length - 13],
      [celled, celled.length],
    ] as const) {
      for (let at = 0; at < end; at += 1) {
        const changed = Buffer.from(bytes);
        changed[at] = (changed[at] as number) ^ 1;
        expect(() => parseSeal(changed, ID)).toThrow(/damaged/);
      }
    }
  });

  test("parseSeal() refuses cut and arbitrary bytes and never fails in another way", () => {
    for (let length = 0; length < packed.length; length += 1) {
      expect(() => parseSeal(packed.subarray(0, length), ID)).toThrow(/damaged/);
    }
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        expect(() => parseSeal(Buffer.from(bytes), ID)).toThrow(/damaged/);
        const framed = Buffer.concat([packed.subarray(0, 4), bytes]);
        expect(() => parseSeal(framed, ID)).toThrow(/damaged/);
      }),
    );
  });
});
