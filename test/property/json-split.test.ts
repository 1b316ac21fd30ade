import { deepStrictEqual } from "node:assert";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { isStoreError } from "../../src/domain/errors.ts";
import type { HybridLayout } from "../../src/domain/manifest.ts";
import { LIMITS } from "../../src/limits.ts";
import { createJsonSplitter, type SplitOptions } from "../../src/placement/json-split.ts";
import { documentBytes, hotValuesOf, joinPieces, piecesOf } from "../../src/placement/layout.ts";
import { cutBytes, documentText, NAMES } from "../support/json-documents.ts";

const TIME_BOX = { interruptAfterTimeLimit: 10_000 } as const;
const bytesOf = (text: string): Uint8Array => new Uint8Array(Buffer.from(text));
/** Bytes as text, one character each: cheap to compare and fit to print. */
const latin1Of = (bytes: Uint8Array): string => Buffer.from(bytes).toString("latin1");
const sizes = fc.array(fc.integer({ min: 0, max: 24 }), { maxLength: 6 });
const hotSet = fc.uniqueArray(fc.constantFrom(...NAMES, "missing"), { maxLength: 6 });
const mode = fc.constantFrom<SplitOptions["mode"]>("strict", "lenient");

type Split = { readonly cold: Uint8Array; readonly hot: Uint8Array; readonly layout: HybridLayout };

function split(options: SplitOptions, chunks: readonly Uint8Array[]): Split {
  const splitter = createJsonSplitter(options);
  const cold = Buffer.concat(chunks.map((chunk) => chunk.subarray(0, splitter.push(chunk))));
  return { cold, ...splitter.finish() };
}

function joined({ cold, hot, layout }: Split): Uint8Array {
  const whole = joinPieces(piecesOf(layout, cold.length), cold, hot);
  expect(documentBytes(layout, cold.length, hot.length)).toBe(whole.length);
  return whole;
}

/** Changes, drops, repeats or inserts bytes here and there. */
const mutation = fc.record({
  at: fc.nat(),
  kind: fc.constantFrom("replace", "insert", "delete", "double"),
  byte: fc.oneof(fc.constantFrom(...Buffer.from('{}[],:"\\ -+.0eEtn\n')), fc.nat(255)),
});

function mutate(bytes: Uint8Array, mutations: readonly { at: number; kind: string; byte: number }[]): Uint8Array {
  let list = [...bytes];
  for (const { at, kind, byte } of mutations) {
    const index = list.length === 0 ? 0 : at % list.length;
    if (kind === "replace") list[index] = byte;
    else if (kind === "insert") list.splice(index, 0, byte);
    else if (kind === "delete") list.splice(index, 1);
    else list = [...list.slice(0, index), ...list.slice(Math.max(0, index - 3))];
  }
  return Uint8Array.from(list);
}

describe("createJsonSplitter()", () => {
  test("gives back the identical bytes, with the values of just the hot fields hot, for any chunks", () => {
    fc.assert(
      fc.property(
        hotSet.chain((hotFields) => fc.tuple(fc.constant(hotFields), documentText(hotFields))),
        mode,
        sizes,
        ([hotFields, { text, members }], chosen, cuts) => {
          const bytes = bytesOf(text);
          const parts = split({ hotFields, mode: chosen }, cutBytes(bytes, cuts));
          expect(latin1Of(joined(parts))).toBe(latin1Of(bytes));
          expect(parts.layout.addressable).toBe(true);
          expect(parts.layout.memberCount).toBe(members.length);
          const hot = members.filter(({ name }) => hotFields.includes(name));
          deepStrictEqual(
            [...hotValuesOf(parts.layout, parts.hot)].map(([name, value]) => [name, Buffer.from(value).toString()]),
            hot.map(({ name, value }) => [name, value]),
          );
          const found = new Set(hot.map(({ name }) => name));
          deepStrictEqual(
            parts.layout.absent,
            hotFields.filter((name) => !found.has(name)),
          );
          deepStrictEqual(parts, split({ hotFields, mode: "strict" }, [Uint8Array.from(bytes)]));
        },
      ),
      { numRuns: 4_000, ...TIME_BOX },
    );
  });

  test("in lenient mode takes any bytes, gives back the identical ones, and calls only JSON addressable", () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc
            .tuple(documentText([]), fc.array(mutation, { maxLength: 3 }))
            .map(([{ text }, list]) => mutate(bytesOf(text), list)),
          fc.uint8Array({ maxLength: 64 }),
        ),
        hotSet,
        sizes,
        (bytes, hotFields, cuts) => {
          const parts = split({ hotFields, mode: "lenient" }, cutBytes(bytes, cuts));
          expect(latin1Of(joined(parts))).toBe(latin1Of(bytes));
          expect(!parts.layout.addressable || parsesAsObject(bytes)).toBe(true);
        },
      ),
      { numRuns: 8_000, ...TIME_BOX },
    );
  });

  test("in strict mode accepts exactly the objects that JSON.parse accepts", () => {
    let refused = 0;
    fc.assert(
      fc.property(documentText([]), fc.array(mutation, { maxLength: 2 }), sizes, ({ text }, mutations, cuts) => {
        const bytes = mutate(bytesOf(text), mutations);
        const accepted = accepts(cutBytes(bytes, cuts));
        if (!accepted) refused += 1;
        expect(accepted).toBe(parsesAsObject(bytes));
      }),
      { numRuns: 10_000, ...TIME_BOX },
    );
    expect(refused).toBeGreaterThan(0);
  });

  test("keeps a value cold or nameless exactly when it is larger than the limit, and the bytes identical", () => {
    const limit = LIMITS.hotValueBytesMax;
    const large = fc.record({
      valueBytes: fc.oneof(fc.integer({ min: limit - 2, max: limit + 2 }), fc.integer({ min: 2, max: 3 * limit })),
      cuts: fc.array(fc.integer({ min: 1, max: limit + 10 }), { maxLength: 5 }),
      tail: fc.constantFrom(',"status":7}', "}", ',"a":[1]} ', ',"a":1,"a":2}', ',"a":x}', "", "]"),
    });
    fc.assert(
      fc.property(large, ({ valueBytes, cuts, tail }) => {
        const bytes = bytesOf(`{"device_id" : "${"x".repeat(valueBytes - 2)}"${tail}`);
        const hotFields = ["status", "device_id", "a"];
        const parts = split({ hotFields, mode: "lenient" }, cutBytes(bytes, cuts));
        expect(latin1Of(joined(parts))).toBe(latin1Of(bytes));
        expect(parts.layout.fields.some(({ name }) => name === "device_id")).toBe(valueBytes <= limit);
        expect(parts.layout.absent).not.toContain("device_id");
        expect(parts.hot.length).toBeLessThanOrEqual(2 * limit);
      }),
      { numRuns: 500, ...TIME_BOX },
    );
  });
});

function accepts(chunks: readonly Uint8Array[]): boolean {
  try {
    split({ hotFields: [], mode: "strict" }, chunks);
    return true;
  } catch (error) {
    if (isStoreError(error)) return false;
    throw error;
  }
}

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function parsesAsObject(bytes: Uint8Array): boolean {
  try {
    const value: unknown = JSON.parse(decoder.decode(bytes));
    return typeof value === "object" && value !== null && !Array.isArray(value);
  } catch {
    return false;
  }
}
