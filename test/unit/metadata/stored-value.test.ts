import { describe, expect, test } from "vitest";
import type { Revision } from "../../../src/domain/ids.ts";
import {
  decodeStoredValue,
  encodeStoredValue,
  isReadable,
  markOf,
  objectBytesOf,
  revisionOf,
  withMark,
  withRevision,
} from "../../../src/metadata/stored-value.ts";
import { sampleRecord } from "../../support/sample-records.ts";

/** An object of 2^33 + 5 bytes at revision 2^40 + 7; what follows the head is the record's own format. */
const GOLDEN_HEAD = "01" + "00" + "0000010000000007" + "0000000200000005" + "01";

describe("stored value", () => {
  test("encodeStoredValue() writes the bytes of format 1", () => {
    const value = encodeStoredValue(sampleRecord("a", { sizeBytes: 2 ** 33 + 5 }));
    withRevision(value, (2 ** 40 + 7) as Revision);
    expect(value.subarray(0, 19).toString("hex")).toBe(GOLDEN_HEAD);
  });

  test("withMark() writes its number where the revision comes later", () => {
    const value = withMark(encodeStoredValue(sampleRecord("a")), 2 ** 48 - 1);
    expect(markOf(value)).toBe(2 ** 48 - 1);
    expect(value.subarray(0, 10).toString("hex")).toBe("01" + "00" + "0000ffffffffffff");
    expect(revisionOf(withRevision(value, 7 as Revision))).toBe(7);
  });

  test.each(["object", "tombstone", "fence"] as const)(
    "decodeStoredValue() gives back a record that is %s",
    (state) => {
      const record = sampleRecord("ключ", { state, sizeBytes: 2 ** 50 });
      const value = withRevision(encodeStoredValue(record), 9 as Revision);
      expect(decodeStoredValue(value)).toEqual({ record, revision: 9 });
      expect([isReadable(value), revisionOf(value), objectBytesOf(value)]).toEqual([state === "object", 9, 2 ** 50]);
    },
  );

  test("revisionOf() refuses a format of the future", () => {
    const value = encodeStoredValue(sampleRecord("a"));
    value[0] = 2;
    expect(() => revisionOf(value)).toThrowError(expect.objectContaining({ code: "format_unknown" }));
    expect(() => decodeStoredValue(value)).toThrowError(expect.objectContaining({ code: "format_unknown" }));
  });
});
