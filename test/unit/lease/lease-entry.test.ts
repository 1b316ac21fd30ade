import { describe, expect, test } from "vitest";
import { decodeLeaseEntry, encodeLeaseEntry } from "../../../src/lease/lease-entry.ts";

/** What was stored by version 1. */
const GOLDEN = `01${"00112233aabbccdd"}00001770${Buffer.from("healer-ü").toString("hex")}`;
const ENTRY = { instance: "00112233aabbccdd", ttlMs: 6_000, holder: "healer-ü" };

describe("lease entry", () => {
  test("encodeLeaseEntry() writes the bytes of version 1", () => {
    expect(encodeLeaseEntry(ENTRY).toString("hex")).toBe(GOLDEN);
  });

  test("decodeLeaseEntry() reads the bytes of version 1, wherever they lie in memory", () => {
    const within = Buffer.concat([Buffer.from("before"), Buffer.from(GOLDEN, "hex"), Buffer.from("behind")]);
    expect(decodeLeaseEntry(within.subarray(6, -6))).toEqual(ENTRY);
    const released = { ...ENTRY, holder: "" };
    expect(decodeLeaseEntry(encodeLeaseEntry(released))).toEqual(released);
  });

  test("decodeLeaseEntry() refuses other versions and entries that end early", () => {
    const unknown = expect.objectContaining({ code: "format_unknown" });
    for (const version of [0, 2, 255]) {
      const other = encodeLeaseEntry(ENTRY);
      other[0] = version;
      expect(() => decodeLeaseEntry(other)).toThrowError(unknown);
    }
    for (const length of [0, 1, 12]) {
      expect(() => decodeLeaseEntry(encodeLeaseEntry(ENTRY).subarray(0, length))).toThrowError(unknown);
    }
  });
});
