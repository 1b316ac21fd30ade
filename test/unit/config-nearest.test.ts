import fc from "fast-check";
import { expect, test } from "vitest";
import { editDistance, nearestName } from "../../src/config/nearest.ts";

test.each([
  ["port", "port", 0],
  ["prot", "port", 1],
  ["prt", "port", 1],
  ["ports", "port", 1],
  ["pirt", "port", 1],
  ["", "port", 4],
  ["kitten", "sitting", 3],
])("editDistance() of %s and %s is %i", (from, to, edits) => {
  expect(editDistance(from, to)).toBe(edits);
});

test("editDistance() is symmetric, and zero for equal words only", () => {
  const word = fc.string({ maxLength: 12 });
  fc.assert(
    fc.property(word, word, (a, b) => {
      expect(editDistance(a, b)).toBe(editDistance(b, a));
      expect(editDistance(a, b) === 0).toBe(a === b);
      expect(editDistance(a, b)).toBeLessThanOrEqual(Math.max(a.length, b.length));
    }),
  );
});

test("nearestName() takes the closest, whatever its case, and null from nothing", () => {
  expect(nearestName("DATADIR", ["port", "dataDir", "host"])).toEqual({ name: "dataDir", edits: 0 });
  expect(nearestName("x", [])).toBeNull();
});
