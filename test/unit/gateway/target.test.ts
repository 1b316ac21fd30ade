import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { isStoreError } from "../../../src/domain/errors.ts";
import type { BucketName, ObjectKey } from "../../../src/domain/ids.ts";
import { bucketOf, keyOfPath, parseQuery, pathOfKey, splitTarget } from "../../../src/gateway/rest/target.ts";

const codeOf = (action: () => unknown): string => {
  try {
    action();
  } catch (cause) {
    if (isStoreError(cause)) return cause.code;
    throw cause;
  }
  return "none";
};

describe("keyOfPath()", () => {
  test.each([
    ["a/../b", "a/../b"],
    ["%2e%2e/x", "../x"],
    ["a//b/", "a//b/"],
    ["/a", "/a"],
    ["a+b%2B", "a+b+"],
    ["%252e", "%2e"],
    ["%F0%9F%A6%86", "\u{1f986}"],
    ["e%CC%81", "e\u0301"],
    ["%C3%A9", "\u00e9"],
    ["%EF%BB%BFx", "\ufeffx"],
    ["%0A%0D%09", "\n\r\t"],
    ["a\\b", "a\\b"],
  ])("decodes %s once and normalises nothing", (raw, key) => {
    expect(keyOfPath(`/objects/${raw}`, "/objects/")).toBe(key);
  });

  test.each(["%", "%2", "%zz", "%ff", "%C3", "%C0%AF", "%ED%A0%80", "%F5%80%80%80"])("refuses %s", (raw) => {
    expect(codeOf(() => keyOfPath(`/objects/${raw}`, "/objects/"))).toBe("key_invalid");
  });

  test("refuses NUL, nothing, and more than 1,024 bytes", () => {
    expect(codeOf(() => keyOfPath("/objects/a%00b", "/objects/"))).toBe("key_invalid");
    expect(codeOf(() => keyOfPath("/objects/", "/objects/"))).toBe("key_invalid");
    expect(keyOfPath(`/objects/${"a".repeat(1_024)}`, "/objects/")).toHaveLength(1_024);
    expect(codeOf(() => keyOfPath(`/objects/${"a".repeat(1_025)}`, "/objects/"))).toBe("key_too_long");
    expect(codeOf(() => keyOfPath(`/objects/${"%C3%A9".repeat(513)}`, "/objects/"))).toBe("key_too_long");
  });

  test("reads back every key from the path that pathOfKey() gives it", () => {
    const keys = fc
      .string({ unit: "grapheme", minLength: 1, maxLength: 100 })
      .filter((key) => key.isWellFormed() && !key.includes("\0"));
    fc.assert(
      fc.property(keys, (key) => {
        const { path, query } = splitTarget(pathOfKey("other" as BucketName, key as ObjectKey));
        expect(keyOfPath(path, "/objects/")).toBe(key);
        expect(bucketOf(parseQuery(query, ["bucket"]))).toBe("other");
      }),
    );
  });
});

describe("parseQuery()", () => {
  test("decodes names and values once and leaves plus signs alone", () => {
    expect(parseQuery("prefix=a+b%2Bc%252e&limit=", ["prefix", "limit"])).toEqual({ prefix: "a+b+c%2e", limit: "" });
  });

  test("leaves fields encoded, whose commas are told apart first", () => {
    expect(parseQuery("fields=a%2Cb,c", ["fields"])).toEqual({ fields: "a%2Cb,c" });
  });

  test.each(["bucket=a&bucket=b", "bucke=a", "bucket=%", "%=a", "__proto__=a", "constructor=a"])(
    "refuses %s",
    (query) => {
      expect(codeOf(() => parseQuery(query, ["bucket"]))).toBe("parameter_invalid");
    },
  );
});
