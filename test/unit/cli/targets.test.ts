import fc from "fast-check";
import { expect, test } from "vitest";
import { encodeQuery, objectTarget, quoteTag } from "../../../src/cli/targets.ts";

test("objectTarget() encodes everything but unreserved characters and slashes", () => {
  expect(objectTarget("a-b._~/C9")).toBe("/objects/a-b._~/C9");
  expect(objectTarget("a b?c#d%e&f+g")).toBe("/objects/a%20b%3Fc%23d%25e%26f%2Bg");
  expect(objectTarget("!'()*")).toBe("/objects/%21%27%28%29%2A");
  expect(objectTarget("../a//./b")).toBe("/objects/../a//./b");
  expect(objectTarget("k", { info: true, bucket: null, fields: ["a,b", "c d"] })).toBe(
    "/objects/k?info&fields=a%2Cb,c%20d",
  );
});

test("objectTarget() of any key decodes to that key, and is plain ASCII", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary", minLength: 1 }), (key) => {
      fc.pre(key.isWellFormed());
      const target = objectTarget(key);
      expect(target).toMatch(/^\/objects\/[A-Za-z0-9\-._~/%]+$/);
      expect(decodeURIComponent(target.slice("/objects/".length))).toBe(key);
    }),
  );
});

test("objectTarget() refuses what no request can carry", () => {
  expect(() => objectTarget("")).toThrow(/empty/);
  expect(() => objectTarget("\ud800")).toThrow(/well-formed/);
});

test("encodeQuery() keeps nothing of parameters that are not given", () => {
  expect(encodeQuery({ prefix: null, after: "a&b=c", limit: 3 })).toBe("?after=a%26b%3Dc&limit=3");
  expect(encodeQuery({ prefix: null })).toBe("");
});

test("quoteTag() puts bare entity tags in quotes and leaves the others", () => {
  expect(["abc", '"abc"', 'W/"abc"', "*"].map(quoteTag)).toEqual(['"abc"', '"abc"', 'W/"abc"', "*"]);
});
