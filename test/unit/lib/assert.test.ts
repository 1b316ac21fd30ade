import { describe, expect, it } from "vitest";
import { AssertionError, assert, unreachable } from "../../../src/lib/assert.ts";

describe("assert()", () => {
  it("passes what holds", () => {
    for (const truthy of [true, 1, "x", {}]) expect(() => assert(truthy, "it holds")).not.toThrow();
  });

  it("throws an AssertionError that says what should hold", () => {
    for (const falsy of [false, 0, "", null, undefined]) {
      expect(() => assert(falsy, "a batch has items")).toThrow(AssertionError);
      expect(() => assert(falsy, "a batch has items")).toThrow("Broken invariant: a batch has items");
    }
  });
});

describe("unreachable()", () => {
  it("throws an AssertionError that names the value", () => {
    expect(() => unreachable({ kind: "new" } as never)).toThrow(AssertionError);
    expect(() => unreachable({ kind: "new" } as never)).toThrow('{"kind":"new"}');
  });
});
