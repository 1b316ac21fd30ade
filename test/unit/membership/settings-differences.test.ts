import { describe, expect, test } from "vitest";
import { listDifferences } from "../../../src/membership/settings-differences.ts";

describe("listDifferences()", () => {
  test("finds nothing in equal settings, whatever the order of members and of lists", () => {
    expect(listDifferences({ a: 1, b: { c: ["x", "y"] } }, { b: { c: ["y", "x"] }, a: 1 })).toEqual([]);
  });

  test("names every path that differs, with both values", () => {
    const stored = { streams: 3, defaults: { k: 4, m: 2, strategy: "auto" } };
    const here = { streams: 5, defaults: { k: 4, m: 1, strategy: "ec" } };
    expect(listDifferences(stored, here)).toEqual([
      { path: "defaults.m", stored: "2", here: "1" },
      { path: "defaults.strategy", stored: '"auto"', here: '"ec"' },
      { path: "streams", stored: "3", here: "5" },
    ]);
  });

  test("shows what one side lacks", () => {
    expect(listDifferences({ buckets: { a: { k: 2 } } }, { buckets: {}, extra: true })).toEqual([
      { path: "buckets.a", stored: '{"k":2}', here: "nothing" },
      { path: "extra", stored: "nothing", here: "true" },
    ]);
  });

  test("shows of a list what the other one lacks", () => {
    expect(listDifferences({ hot: ["a", "b"] }, { hot: ["b", "c", "d"] })).toEqual([
      { path: "hot", stored: 'also "a"', here: 'also "c", "d"' },
    ]);
    expect(listDifferences({ hot: [] }, { hot: ["c"] })).toEqual([
      { path: "hot", stored: "nothing more", here: 'also "c"' },
    ]);
  });
});
