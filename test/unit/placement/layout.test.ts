import { describe, expect, test } from "vitest";
import { createJsonSplitter } from "../../../src/placement/json-split.ts";
import { planHotPatch, type HotPatchPlan } from "../../../src/placement/hot-patch.ts";
import type { HybridLayout } from "../../../src/domain/manifest.ts";
import { LIMITS } from "../../../src/limits.ts";
import { documentBytes, joinPieces, piecesOf, restrictPieces } from "../../../src/placement/layout.ts";
import { projectFields, projectHot } from "../../../src/placement/project.ts";

type Stored = { readonly cold: Uint8Array; readonly hot: Uint8Array; readonly layout: HybridLayout };

const bytesOf = (text: string): Uint8Array => new Uint8Array(Buffer.from(text));
const textOf = (bytes: Uint8Array | null): string | null => (bytes === null ? null : Buffer.from(bytes).toString());

function stored(text: string, hotFields: readonly string[]): Stored {
  const bytes = bytesOf(text);
  const splitter = createJsonSplitter({ hotFields, mode: "lenient" });
  const cold = bytes.subarray(0, splitter.push(bytes));
  return { cold, ...splitter.finish() };
}

function planned(document: Stored, hotFields: readonly string[], patch: string): HotPatchPlan {
  return planHotPatch({ layout: document.layout, hot: document.hot, hotFields, patch: bytesOf(patch) });
}

function patched(document: Stored, hotFields: readonly string[], patch: string): Stored {
  const plan = planned(document, hotFields, patch);
  if (plan.kind === "rewrite") throw new Error("the patch needs a rewrite");
  return { cold: document.cold, hot: plan.hot, layout: plan.layout };
}

const read = ({ cold, hot, layout }: Stored): string | null =>
  textOf(joinPieces(piecesOf(layout, cold.length), cold, hot));

describe("piecesOf()", () => {
  test("leaves one comma fewer than members, whichever are removed, whatever is appended", () => {
    const names = ["a", "b", "c", "d"];
    const hotFields = [...names, "e", "f"];
    for (const text of [
      '{"a":1,"b":1,"c":1,"d":1}',
      '{"a":1,"b":1,"c":1,"d":1,"z":1}',
      '{"z":1,"a":1,"b":1,"c":1,"d":1}',
      '{"a":1,"b":1,"z":1,"c":1,"d":1}',
    ]) {
      const document = stored(text, hotFields);
      for (let mask = 0; mask < 16; mask += 1) {
        const patch = Object.fromEntries(names.filter((_, i) => mask & (1 << i)).map((name) => [name, null]));
        const left = Object.keys(JSON.parse(text) as object).filter((name) => !(name in patch));
        const written = (members: readonly string[]): string => `{${members.map((name) => `"${name}":1`).join(",")}}`;
        expect(read(patched(document, hotFields, JSON.stringify(patch)))).toBe(written(left));
        expect(read(patched(document, hotFields, JSON.stringify({ ...patch, e: 1, f: 1 })))).toBe(
          written([...left, "e", "f"]),
        );
      }
    }
  });

  test("skips the key, the colon and one comma of a removed member, but no whitespace between members", () => {
    const hotFields = ["a", "b"];
    const document = stored('{ "a" : 1 , "b" :\n2 , "c" : 3 }', hotFields);
    expect(read(patched(document, hotFields, '{"a":null}'))).toBe('{   "b" :\n2 , "c" : 3 }');
    expect(read(patched(document, hotFields, '{"b":null}'))).toBe('{ "a" : 1   , "c" : 3 }');
    expect(read(patched(document, hotFields, '{"a":null,"b":null}'))).toBe('{     "c" : 3 }');
  });

  test("refuses a table that does not fit the parts", () => {
    const { layout, cold, hot } = stored('{"a":1,"b":2}', ["a", "b"]);
    const damaged = expect.objectContaining({ code: "object_damaged" });
    expect(() => piecesOf(layout, 3)).toThrow(damaged);
    expect(() => documentBytes(layout, cold.length, hot.length + 1)).toThrow(damaged);
    expect(() => piecesOf({ ...layout, fields: layout.fields.toReversed() }, cold.length)).toThrow(damaged);
    expect(() => projectHot(layout, hot.subarray(1), ["a"])).toThrow(damaged);
  });
});

describe("restrictPieces()", () => {
  test("cuts literals, cold and hot stretches", () => {
    const hotFields = ["a", "new"];
    const document = patched(stored('{"a":"hot","z":0}', hotFields), hotFields, '{"new":true}');
    const pieces = piecesOf(document.layout, document.cold.length);
    const whole = read(document) as string;
    for (let start = 0; start <= whole.length; start += 1) {
      for (let end = start; end <= whole.length + 2; end += 1) {
        expect(textOf(joinPieces(restrictPieces(pieces, start, end), document.cold, document.hot))).toBe(
          whole.slice(start, end),
        );
      }
    }
  });
});

describe("planHotPatch()", () => {
  const hotFields = ["status", "id", "extra"];
  const document = stored('{"id":1,"log":[1],"status":{"on":true,"n":1.0}}', hotFields);

  test("merges into hot values and keeps the cold bytes", () => {
    expect(read(patched(document, hotFields, '{"status":{"on":null,"v":1e400}}'))).toBe(
      '{"id":1,"log":[1],"status":{"n":1.0,"v":1e400}}',
    );
    expect(read(patched(document, hotFields, "{}"))).toBe(read(document));
  });

  test("removes a field and sets it again at its old place", () => {
    const removed = patched(document, hotFields, '{"id":null}');
    expect(read(removed)).toBe('{"log":[1],"status":{"on":true,"n":1.0}}');
    expect(read(patched(removed, hotFields, '{"id":null}'))).toBe(read(removed));
    expect(read(patched(removed, hotFields, '{"id":{"x":null}}'))).toBe(
      '{"id":{},"log":[1],"status":{"on":true,"n":1.0}}',
    );
  });

  test("appends a hot field that the document never had, forgets it when removed", () => {
    const appended = patched(document, hotFields, '{"extra":[1]}');
    expect(read(appended)).toBe('{"id":1,"log":[1],"status":{"on":true,"n":1.0},"extra":[1]}');
    expect(appended.layout.absent).toEqual([]);
    const removed = patched(appended, hotFields, '{"extra":null}');
    expect(removed.layout).toEqual(document.layout);
    expect(read(patched(stored("{ }", ["x"]), ["x"], '{"x":1}'))).toBe('{ "x":1}');
  });

  test("needs a rewrite for what may be among the cold bytes", () => {
    const rewrite = { kind: "rewrite" };
    expect(planned(document, hotFields, '{"log":1}')).toEqual(rewrite);
    expect(planned(document, hotFields, '{"id":2,"unknown":null}')).toEqual(rewrite);
    // Hot only since the document was stored: "log" is cold, "later" unknown.
    expect(planned(document, [...hotFields, "log", "later"], '{"log":1}')).toEqual(rewrite);
    expect(planned(document, [...hotFields, "log", "later"], '{"later":1}')).toEqual(rewrite);
    // Not hot any more: the next whole write should not find it in the hot part.
    expect(planned(document, ["status", "id"], '{"extra":1}')).toEqual(rewrite);
    expect(planned(document, [...hotFields, ""], '{"":1}')).toEqual(rewrite);
    expect(planned(stored('{"id":1,"id":2}', ["id"]), ["id"], '{"id":3}')).toEqual(rewrite);
  });

  test("needs a rewrite for a field whose value was too large to be hot, also when bytes of it are", () => {
    const large = `"${"x".repeat(LIMITS.hotValueBytesMax)}"`;
    expect(planned(stored(`{"id":${large}}`, hotFields), hotFields, '{"id":1}')).toEqual({ kind: "rewrite" });
    const bytes = bytesOf(`{"id":${large},"status":1}`);
    const splitter = createJsonSplitter({ hotFields, mode: "strict" });
    const cold = [bytes.subarray(0, 100), bytes.subarray(100)].map((part) => part.subarray(0, splitter.push(part)));
    const cut = { cold: Buffer.concat(cold), ...splitter.finish() };
    expect(planned(cut, hotFields, '{"id":1}')).toEqual({ kind: "rewrite" });
    expect(projectHot(cut.layout, cut.hot, ["id"])).toBe(null);
    expect(projectHot(cut.layout, cut.hot, [""])).toBe(null);
    expect(read(patched(cut, hotFields, '{"status":null,"extra":2}'))).toBe(`{"id":${large},"extra":2}`);
  });

  test("needs a rewrite for a value beyond the limit", () => {
    const value = (bytes: number): string => `{"id":"${"x".repeat(bytes - 2)}"}`;
    expect(planned(document, hotFields, value(LIMITS.hotValueBytesMax)).kind).toBe("hot");
    expect(planned(document, hotFields, value(LIMITS.hotValueBytesMax + 1)).kind).toBe("rewrite");
  });

  test("needs a rewrite for more fields than a table holds", () => {
    const many = Array.from({ length: LIMITS.hotFieldsMax }, (_, index) => `f${index}`);
    const full = stored(`{${many.map((name) => `"${name}":0`).join(",")}}`, many);
    const layout = { ...full.layout, absent: ["extra"] };
    expect(planned({ ...full, layout }, [...many, "extra"], '{"extra":1}')).toEqual({ kind: "rewrite" });
  });

  test("refuses a patch that is no JSON object", () => {
    expect(() => planned(document, hotFields, "null")).toThrow(expect.objectContaining({ code: "json_not_object" }));
    expect(() => planned(document, hotFields, '{"id":}')).toThrow(expect.objectContaining({ code: "json_invalid" }));
  });
});

describe("projectHot()", () => {
  const hotFields = ["status", "id", "extra"];
  const document = stored('{"id":1,"log":[1],"status":"on"}', hotFields);

  test("answers from the hot part what it can decide, in the order asked", () => {
    expect(textOf(projectHot(document.layout, document.hot, ["status", "extra", "id", "id"]))).toBe(
      '{"status":"on","id":1}',
    );
    expect(textOf(projectHot(document.layout, document.hot, []))).toBe("{}");
    const removed = patched(document, hotFields, '{"id":null,"extra":2}');
    expect(textOf(projectHot(removed.layout, removed.hot, hotFields))).toBe('{"status":"on","extra":2}');
  });

  test("is null for fields that may be cold", () => {
    expect(projectHot(document.layout, document.hot, ["id", "log"])).toBe(null);
    expect(projectHot(document.layout, document.hot, ["missing"])).toBe(null);
    const broken = stored('{"id":1,', ["id"]);
    expect(projectHot(broken.layout, broken.hot, ["id"])).toBe(null);
  });
});

describe("projectFields()", () => {
  test("gives values as they are spelled, in the order asked, the last of several", () => {
    const text = '{"a": 1.0,"b":{ "x" : 1e400},"a":2,"c\\u0064":[ ]}';
    expect(textOf(projectFields(bytesOf(text), ["b", "cd", "a", "missing", "b"]))).toBe(
      '{"b":{ "x" : 1e400},"cd":[ ],"a":2}',
    );
    expect(textOf(projectFields(bytesOf(text), []))).toBe("{}");
    expect(textOf(projectFields(bytesOf('{"\\"":1,"__proto__":2}'), ['"', "__proto__", ""]))).toBe(
      '{"\\"":1,"__proto__":2}',
    );
  });

  test("refuses what is no JSON object, also behind the last wanted field", () => {
    expect(() => projectFields(bytesOf('{"a":1} x'), ["a"])).toThrow(expect.objectContaining({ code: "json_invalid" }));
    expect(() => projectFields(bytesOf("7"), ["a"])).toThrow(expect.objectContaining({ code: "json_not_object" }));
  });
});
