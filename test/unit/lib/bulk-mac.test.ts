import { createDecipheriv, createSecretKey } from "node:crypto";
import { describe, expect, test } from "vitest";
import { BULK_MACS, BulkMac, chooseBulkMac, equalTags, rankBulkMacs } from "../../../src/lib/bulk-mac.ts";
import { systemClock } from "../../../src/lib/clock.ts";

const key = createSecretKey(Buffer.alloc(32, 7));
const bytes = Buffer.from("bytes that nobody may change");

describe.each(BULK_MACS)("BulkMac with %s", (name) => {
  const mac = new BulkMac(name, key);

  test("tag() is what the cipher's other half accepts, for exactly these bytes and this nonce", () => {
    const nonce = Buffer.from("0605040302010a0000000100", "hex");
    const tag = mac.tag(0x010203040506, 10, 1, bytes);
    const isAccepted = (claimed: Uint8Array) => {
      const decipher =
        name === "gmac"
          ? createDecipheriv("aes-256-gcm", key, nonce, { authTagLength: 16 })
          : createDecipheriv("chacha20-poly1305", key, nonce, { authTagLength: 16 });
      decipher.setAAD(claimed, { plaintextLength: 0 });
      decipher.setAuthTag(tag);
      try {
        decipher.final();
        return true;
      } catch {
        return false;
      }
    };
    expect(isAccepted(bytes)).toBe(true);
    expect(isAccepted(bytes.subarray(1))).toBe(false);
  });

  test("tag() differs with every part of the nonce, the key and the bytes", () => {
    const other = Buffer.from(bytes);
    other[3] = (other[3] as number) ^ 1;
    const tags = [
      mac.tag(1, 2, 3, bytes),
      mac.tag(9, 2, 3, bytes),
      mac.tag(1, 9, 3, bytes),
      mac.tag(1, 2, 9, bytes),
      mac.tag(1, 2, 3, other),
      new BulkMac(name, createSecretKey(Buffer.alloc(32, 8))).tag(1, 2, 3, bytes),
    ];
    expect(new Set(tags.map((tag) => tag.toString("hex"))).size).toBe(tags.length);
    expect(equalTags(mac.tag(1, 2, 3, bytes), tags[0] as Buffer)).toBe(true);
    expect(equalTags(tags[0] as Buffer, tags[1] as Buffer)).toBe(false);
    expect(equalTags(tags[0] as Buffer, (tags[0] as Buffer).subarray(1))).toBe(false);
  });

  test("tag() takes memory that threads share", () => {
    const shared = new Uint8Array(new SharedArrayBuffer(bytes.length));
    shared.set(bytes);
    expect(mac.tag(1, 2, 3, shared)).toEqual(mac.tag(1, 2, 3, bytes));
  });
});

test("rankBulkMacs() has everything that this runtime can do", () => {
  expect(rankBulkMacs(systemClock, key).sort()).toEqual([...BULK_MACS].sort());
});

test("chooseBulkMac() takes what both can do, and in doubt the one without a slow side", () => {
  expect(chooseBulkMac(["gmac", "poly1305"], ["gmac", "poly1305"])).toBe("gmac");
  expect(chooseBulkMac(["gmac", "poly1305"], ["poly1305", "gmac"])).toBe("poly1305");
  expect(chooseBulkMac(["poly1305", "gmac"], ["gmac"])).toBe("gmac");
  expect(chooseBulkMac(["gmac"], [])).toBeNull();
});
