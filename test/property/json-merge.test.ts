import { deepStrictEqual } from "node:assert";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createJsonSplitter } from "../../src/placement/json-split.ts";
import { planHotPatch } from "../../src/placement/hot-patch.ts";
import { documentBytes, joinPieces, pieceBytes, piecesOf, restrictPieces } from "../../src/placement/layout.ts";
import { mergeDocument, mergeValue } from "../../src/placement/merge-patch.ts";
import { projectFields, projectHot } from "../../src/placement/project.ts";
import {
  documentText,
  mergedModel,
  modelOf,
  NAMES,
  patchText,
  rawMembers,
  valueText,
} from "../support/json-documents.ts";

const TIME_BOX = { interruptAfterTimeLimit: 10_000 } as const;
const bytesOf = (text: string): Uint8Array => new Uint8Array(Buffer.from(text));
const textOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString();
const HOT = ["status", "device_id", "__proto__", "a", "温度"];

/** Members that the patch does not name, as written, in order. */
function untouched(text: string, patch: string): { name: string; value: string }[] {
  const named = new Set(rawMembers(patch).map(({ name }) => name));
  return rawMembers(text).filter(({ name }) => !named.has(name));
}

describe("mergeDocument()", () => {
  test("means what RFC 7396 says and leaves the bytes of all other members alone", () => {
    fc.assert(
      fc.property(documentText([]), patchText(NAMES), ({ text }, patch) => {
        const merged = textOf(mergeDocument(bytesOf(text), bytesOf(patch)));
        expect(modelOf(merged)).toEqual(mergedModel(modelOf(text), modelOf(patch)));
        deepStrictEqual(untouched(merged, patch), untouched(text, patch));
        const names = rawMembers(merged).map(({ name }) => name);
        for (const { name } of rawMembers(patch))
          expect(names.filter((other) => other === name).length).toBeLessThan(2);
      }),
      { numRuns: 6_000, ...TIME_BOX },
    );
  });
});

describe("mergeValue()", () => {
  test("means what RFC 7396 says for any two values", () => {
    const deepPatch = fc.oneof(valueText, patchText(["a", "b", "status"]));
    fc.assert(
      fc.property(
        fc.option(
          fc.oneof(
            valueText,
            documentText([]).map(({ text }) => text),
          ),
        ),
        deepPatch,
        (target, patch) => {
          const merged = textOf(mergeValue(target === null ? null : bytesOf(target), bytesOf(patch)));
          expect(modelOf(merged)).toEqual(mergedModel(target === null ? undefined : modelOf(target), modelOf(patch)));
        },
      ),
      { numRuns: 6_000, ...TIME_BOX },
    );
  });
});

describe("planHotPatch()", () => {
  test("changes table and hot part so that the document means what RFC 7396 says, patch after patch", () => {
    fc.assert(
      fc.property(documentText(HOT), fc.array(patchText(HOT), { minLength: 1, maxLength: 6 }), ({ text }, patches) => {
        const cold = bytesOf(text);
        const splitter = createJsonSplitter({ hotFields: HOT, mode: "strict" });
        const coldBytes = splitter.push(cold);
        let { hot, layout } = splitter.finish();
        let before = text;
        for (const patch of patches) {
          const plan = planHotPatch({ layout, hot, hotFields: HOT, patch: bytesOf(patch) });
          if (plan.kind === "rewrite") throw new Error("every field of the patch is hot");
          ({ hot, layout } = plan);
          const after = textOf(joinPieces(piecesOf(layout, coldBytes), cold, hot));
          deepStrictEqual(modelOf(after), mergedModel(modelOf(before), modelOf(patch)));
          deepStrictEqual(untouched(after, patch), untouched(before, patch));
          deepStrictEqual(
            new Set(
              rawMembers(after)
                .filter(({ name }) => HOT.includes(name))
                .map(({ name }) => name),
            ),
            liveNames(layout),
          );
          expect(documentBytes(layout, coldBytes, hot.length)).toBe(Buffer.byteLength(after));
          deepStrictEqual(projectHot(layout, hot, HOT), projectFields(bytesOf(after), HOT));
          before = after;
        }
      }),
      { numRuns: 2_500, ...TIME_BOX },
    );
  });
});

function liveNames(layout: Parameters<typeof piecesOf>[0]): Set<string> {
  return new Set(layout.fields.filter(({ valueBytes }) => valueBytes >= 0).map(({ name }) => name));
}

describe("restrictPieces()", () => {
  test("cuts out exactly the bytes of the range", () => {
    fc.assert(
      fc.property(documentText(HOT), patchText(HOT), fc.nat(400), fc.nat(400), ({ text }, patch, a, b) => {
        const cold = bytesOf(text);
        const splitter = createJsonSplitter({ hotFields: HOT, mode: "strict" });
        const coldBytes = splitter.push(cold);
        const plan = planHotPatch({ ...splitter.finish(), hotFields: HOT, patch: bytesOf(patch) });
        if (plan.kind === "rewrite") throw new Error("every field of the patch is hot");
        const pieces = piecesOf(plan.layout, coldBytes);
        const whole = joinPieces(pieces, cold, plan.hot);
        const [start, end] = [Math.min(a, b), Math.max(a, b)];
        const range = restrictPieces(pieces, start, end);
        expect(textOf(joinPieces(range, cold, plan.hot))).toBe(textOf(whole.subarray(start, end)));
        expect(range.every((piece) => pieceBytes(piece) > 0)).toBe(true);
      }),
      { numRuns: 2_000, ...TIME_BOX },
    );
  });
});

describe("projectFields()", () => {
  test("gives the wanted fields that JSON.parse finds, as they are spelled, in the order wanted", () => {
    fc.assert(
      fc.property(
        documentText([]),
        fc.array(fc.constantFrom(...NAMES, "missing"), { maxLength: 5 }),
        ({ text }, wanted) => {
          const last = new Map(rawMembers(text).map(({ name, value }) => [name, value]));
          const projected = textOf(projectFields(bytesOf(text), wanted));
          const names = [...new Set(wanted)].filter((name) => last.has(name));
          deepStrictEqual(
            rawMembers(projected),
            names.map((name) => ({ name, value: last.get(name) })),
          );
          const all = modelOf(text) as ReadonlyMap<string, unknown>;
          expect(modelOf(projected)).toEqual(new Map(names.map((name) => [name, all.get(name)])));
        },
      ),
      { numRuns: 4_000, ...TIME_BOX },
    );
  });
});
