import { describe, expect, it } from "vitest";
import { ERROR_CODES, StoreError, isStoreError } from "../../../src/domain/errors.ts";

describe("StoreError", () => {
  it("carries code, message, details and cause, and is not retriable unless said so", () => {
    const cause = new Error("EIO");
    const error = new StoreError("storage_error", "Cannot write", { cause, details: { node: "n1" } });
    expect(error).toMatchObject({ name: "StoreError", code: "storage_error", message: "Cannot write", cause });
    expect(error).toMatchObject({ retriable: false, details: { node: "n1" } });
    expect(new StoreError("overloaded", "full", { retriable: true }).retriable).toBe(true);
    expect("cause" in new StoreError("internal", "no cause")).toBe(false);
  });
});

describe("isStoreError()", () => {
  it("tells store errors from others, and one code from another", () => {
    const error = new StoreError("node_full", "full");
    expect([isStoreError(error), isStoreError(error, "node_full"), isStoreError(error, "node_fenced")]).toEqual([
      true,
      true,
      false,
    ]);
    for (const other of [new Error("x"), { code: "node_full" }, null, undefined, "node_full"]) {
      expect(isStoreError(other)).toBe(false);
    }
  });
});

describe("ERROR_CODES", () => {
  it("are different words in snake case", () => {
    expect(new Set(ERROR_CODES).size).toBe(ERROR_CODES.length);
    for (const code of ERROR_CODES) expect(code).toMatch(/^[a-z][a-z0-9]*(?:_[a-z0-9]+)*$/);
  });
});
