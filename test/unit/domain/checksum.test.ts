import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { cellChecksum, checksumOf, identityOf } from "../../../src/domain/checksum.ts";
import type { Txid } from "../../../src/domain/ids.ts";
import { blobIdOf } from "../../../src/domain/ids.ts";

const txid = "01JD0000000000000000000001" as Txid;
const blob = blobIdOf(txid, "body", 0);

describe("checksumOf()", () => {
  it("is XXH64 with seed 0, as others compute it", () => {
    expect(checksumOf(Buffer.alloc(0)).toString(16)).toBe("ef46db3751d8e999");
    expect(checksumOf(Buffer.from("abc")).toString(16)).toBe("44bc2cf5ad770999");
  });
});

describe("cellChecksum()", () => {
  it("never changes: stored cells must verify for ever", () => {
    expect(identityOf(blob, 7).toString(16)).toBe("fea402f0f54e5f76");
    expect(cellChecksum(Buffer.from("a cell"), blob, 7).toString(16)).toBe("a425a3ae20da7b67");
  });

  it("is the payload's hash mixed with the identity's, so that copies share one pass over the bytes", () => {
    fc.assert(
      fc.property(fc.uint8Array(), fc.nat(5_000_000), (payload, index) => {
        expect(cellChecksum(payload, blob, index)).toBe(checksumOf(payload) ^ identityOf(blob, index));
      }),
    );
  });

  it("does not verify the same bytes in another cell, shard, part or object", () => {
    const payload = Buffer.from("the same bytes everywhere");
    const others = [
      [blob, 1],
      [blobIdOf(txid, "body", 1), 0],
      [blobIdOf(txid, "cold", 0), 0],
      [blobIdOf("01JD0000000000000000000002" as Txid, "body", 0), 0],
    ] as const;
    const all = [cellChecksum(payload, blob, 0), ...others.map(([id, index]) => cellChecksum(payload, id, index))];
    expect(new Set(all).size).toBe(all.length);
  });

  it("changes with any bit of the payload", () => {
    const payload = Buffer.from("some payload of a cell");
    const right = cellChecksum(payload, blob, 0);
    for (let bit = 0; bit < payload.length * 8; bit += 1) {
      const damaged = Buffer.from(payload);
      damaged[bit >> 3] = (damaged[bit >> 3] as number) ^ (1 << (bit & 7));
      expect(cellChecksum(damaged, blob, 0)).not.toBe(right);
    }
  });
});
