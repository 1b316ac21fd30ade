import { describe, expect, test } from "vitest";
import { encodeEntry, intentKey, intentOf, sequenceOf, txidOf } from "../../../src/wal/lmdb-wal-layout.ts";
import { sampleIntent, sampleTxid } from "../../support/sample-records.ts";

describe("LMDB log layout", () => {
  test("intentKey() sorts as sequences do, and gives them back", () => {
    const sequences = [0, 1, 255, 256, 2 ** 32 - 1, 2 ** 32, 2 ** 53 - 1];
    const keys = sequences.map(intentKey);
    expect(keys.toSorted((a, b) => Buffer.compare(a, b))).toEqual(keys);
    expect(keys.map(sequenceOf)).toEqual(sequences);
    expect(intentKey(2 ** 32 + 5).toString("hex")).toBe("100000000100000005");
  });

  test("encodeEntry() writes the bytes of format 1", () => {
    const value = encodeEntry(sampleIntent(7));
    // Version, txid, then the version of the intent's own format.
    expect(value.subarray(0, 28).toString("latin1")).toBe(`\u0001${sampleTxid(7)}\u0001`);
    expect([txidOf(value), intentOf(value)]).toEqual([sampleTxid(7), sampleIntent(7)]);
  });

  test("txidOf() refuses a format of the future", () => {
    const value = encodeEntry(sampleIntent(7));
    value[0] = 2;
    expect(() => txidOf(value)).toThrowError(expect.objectContaining({ code: "format_unknown" }));
  });
});
