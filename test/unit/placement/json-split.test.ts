import { describe, expect, test } from "vitest";
import { isStoreError } from "../../../src/domain/errors.ts";
import type { HybridLayout } from "../../../src/domain/manifest.ts";
import { LIMITS } from "../../../src/limits.ts";
import { createJsonSplitter, type SplitOptions } from "../../../src/placement/json-split.ts";
import { joinPieces, piecesOf } from "../../../src/placement/layout.ts";

type Split = { readonly cold: string; readonly hot: string; readonly layout: HybridLayout };

function split(
  text: string,
  hotFields: readonly string[],
  mode: SplitOptions["mode"] = "strict",
  chunkBytes = 1e9,
): Split {
  const bytes = new Uint8Array(Buffer.from(text, "latin1"));
  const splitter = createJsonSplitter({ hotFields, mode });
  const cold: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; at += chunkBytes) {
    const chunk = bytes.slice(at, at + chunkBytes);
    cold.push(chunk.subarray(0, splitter.push(chunk)));
  }
  const { hot, layout } = splitter.finish();
  const coldBytes = Buffer.concat(cold);
  expect(Buffer.from(joinPieces(piecesOf(layout, coldBytes.length), coldBytes, hot)).toString("latin1")).toBe(text);
  return { cold: coldBytes.toString("latin1"), hot: Buffer.from(hot).toString("latin1"), layout };
}

function failure(text: string, hotFields: readonly string[] = [], chunkBytes = 1e9): string {
  try {
    split(text, hotFields, "strict", chunkBytes);
  } catch (error) {
    if (isStoreError(error)) return `${error.code} ${error.details["offset"]}: ${error.message}`;
    throw error;
  }
  return "accepted";
}

const LONG_NAME = "n".repeat(LIMITS.hotFieldNameBytesMax);

describe("createJsonSplitter()", () => {
  test("takes the values of hot fields out and notes their places among the cold bytes", () => {
    expect(split('{"id" : 7, "log":[1,2],"status": {"on":true} }', ["status", "id"])).toEqual({
      cold: '{"id" : , "log":[1,2],"status":  }',
      hot: '7{"on":true}',
      layout: {
        memberCount: 3,
        closeAt: 33,
        addressable: true,
        absent: [],
        fields: [
          { name: "id", ordinal: 0, commaBefore: -1, keyAt: 1, valueAt: 8, commaAfter: 8, valueBytes: 1 },
          { name: "status", ordinal: 2, commaBefore: 21, keyAt: 22, valueAt: 32, commaAfter: -1, valueBytes: 11 },
        ],
      },
    });
  });

  test("looks at the top level only, and notes what is not there", () => {
    const { cold, hot, layout } = split('{"a":{"status":1},"b":["status"],"c":"status"}', ["status", "id"]);
    expect([cold, hot]).toEqual(['{"a":{"status":1},"b":["status"],"c":"status"}', ""]);
    expect(layout).toEqual({ memberCount: 3, closeAt: 45, fields: [], absent: ["status", "id"], addressable: true });
  });

  test("takes every kind of value", () => {
    const values = ['"x\\"}"', "-1.50e+3", "0", "true", "false", "null", "[[],{}]", '{"a":[{}]}', '""', "[]", "{}"];
    for (const value of values) {
      for (const [before, after] of [
        ["", ""],
        [" ", "\n"],
      ]) {
        const text = `{"a":1,"status":${before}${value}${after},"b":${value}${after}}`;
        for (const chunkBytes of [1, 2, 3, 1e9]) expect(split(text, ["status"], "strict", chunkBytes).hot).toBe(value);
        expect(split(`{"status":${before}${value}${after}}`, ["status"]).hot).toBe(value);
      }
    }
  });

  test("matches keys by what they say, across chunks, whatever they say", () => {
    for (const chunkBytes of [1, 3, 7, 1e9]) {
      const hot = split(
        '{"device\\u005fid":1,"\\ud83d\\ude00":2,"__proto__":3,"x":4}',
        ["device_id", "\u{1f600}", "__proto__", "constructor"],
        "strict",
        chunkBytes,
      );
      expect(hot.hot).toBe("123");
      expect(hot.layout.fields.map((field) => field.name)).toEqual(["device_id", "\u{1f600}", "__proto__"]);
      expect(hot.layout.absent).toEqual(["constructor"]);
    }
  });

  test("takes names of up to the limit for hot, written out or escaped; longer ones and the empty one never", () => {
    const escaped = "\\u006e".repeat(LIMITS.hotFieldNameBytesMax);
    for (const chunkBytes of [100, 1e9]) {
      expect(split(`{"${LONG_NAME}":1}`, [LONG_NAME], "strict", chunkBytes).hot).toBe("1");
      expect(split(`{"${escaped}":1}`, [LONG_NAME], "strict", chunkBytes).hot).toBe("1");
      expect(split(`{"${LONG_NAME}n":1}`, [`${LONG_NAME}n`], "strict", chunkBytes).hot).toBe("");
      expect(split(`{"${escaped}\\u006e":1}`, [LONG_NAME, `${LONG_NAME}n`], "strict", chunkBytes).hot).toBe("");
      expect(split('{"":1}', [""], "strict", chunkBytes)).toMatchObject({ hot: "", layout: { absent: [] } });
    }
  });

  test("looks for no more names than a table holds", () => {
    const names = Array.from({ length: LIMITS.hotFieldsMax + 5 }, (_, index) => `f${index}`);
    const { layout } = split(`{${names.map((name) => `"${name}":0`).join(",")}}`, names);
    expect(layout.fields.length).toBe(LIMITS.hotFieldsMax);
    expect(layout.absent).toEqual([]);
  });

  test("leaves a value beyond the limit cold, and names no field when its first bytes were taken already", () => {
    const large = `"${"x".repeat(LIMITS.hotValueBytesMax)}"`;
    const text = `{"a":${large},"status":1}`;
    const whole = split(text, ["a", "status"]);
    expect(whole.hot).toBe("1");
    expect(whole.layout.fields.map((field) => field.name)).toEqual(["status"]);
    const cut = split(text, ["a", "status"], "strict", 100);
    expect(cut.hot.length).toBeGreaterThan(1);
    expect(cut.layout.fields.map((field) => field.name)).toEqual(["", "status"]);
    for (const { layout } of [whole, cut]) expect([layout.absent, layout.addressable]).toEqual([[], true]);
  });

  test("works on shared memory", () => {
    const text = '{"x":1,"st\\u0061tus":"on","y":2}';
    const bytes = new Uint8Array(new SharedArrayBuffer(text.length));
    bytes.set(Buffer.from(text));
    const splitter = createJsonSplitter({ hotFields: ["status"], mode: "strict" });
    const coldBytes = splitter.push(bytes);
    expect(Buffer.from(splitter.finish().hot).toString()).toBe('"on"');
    expect(Buffer.from(bytes.slice(0, coldBytes)).toString()).toBe('{"x":1,"st\\u0061tus":,"y":2}');
  });
});

describe("createJsonSplitter() in strict mode", () => {
  test.each([
    ["", "json_invalid 0: Cannot read the document: the document ends at byte 0, expected a JSON object"],
    [" \n", "json_invalid 2: Cannot read the document: the document ends at byte 2, expected a JSON object"],
    ["[1]", "json_not_object 0: Cannot read the document: byte 0 is 0x5b, expected a JSON object"],
    [" nope", "json_not_object 1: Cannot read the document: byte 1 is 0x6e, expected a JSON object"],
    [
      "\u00ef\u00bb\u00bf{}",
      "json_invalid 0: Cannot read the document: byte 0 is 0xef, a byte order mark, expected a JSON object",
    ],
    [
      '{"a":1}x',
      "json_invalid 7: Cannot read the document: byte 7 is 0x78, expected nothing but whitespace after the object",
    ],
    [
      "{}{}",
      "json_invalid 2: Cannot read the document: byte 2 is 0x7b, expected nothing but whitespace after the object",
    ],
    ['{"a":1,}', "json_invalid 7: Cannot read the document: byte 7 is 0x7d, expected a key in double quotes"],
    ['{"a":[1,]}', "json_invalid 8: Cannot read the document: byte 8 is 0x5d, expected a value"],
    [
      '{"a":[1}',
      "json_invalid 7: Cannot read the document: byte 7 is 0x7d, expected a comma or the end of the object or array",
    ],
    ['{"a" 1}', "json_invalid 5: Cannot read the document: byte 5 is 0x31, expected a colon"],
    ['{"a":\u0000}', "json_invalid 5: Cannot read the document: byte 5 is 0x00, expected a value"],
    [
      '{"a":"\n"}',
      "json_invalid 6: Cannot read the document: byte 6 is 0x0a, expected the characters of a string without raw control characters",
    ],
    ['{"a":"\\x"}', "json_invalid 7: Cannot read the document: byte 7 is 0x78, expected an escape sequence"],
    ['{"a":"\\u12g4"}', "json_invalid 10: Cannot read the document: byte 10 is 0x67, expected four hexadecimal digits"],
    [
      '{"a":"\u00ed\u00a0\u0080"}',
      "json_invalid 7: Cannot read the document: byte 7 is 0xa0, expected well-formed UTF-8",
    ],
    ['{"a":tru}', "json_invalid 8: Cannot read the document: byte 8 is 0x7d, expected a number, true, false or null"],
    [
      '{"a":1',
      "json_invalid 6: Cannot read the document: the document ends at byte 6, expected a number, true, false or null",
    ],
  ])("refuses %j", (text, wanted) => {
    expect(failure(text)).toBe(wanted);
    expect(failure(text, ["a"])).toContain(wanted.slice(0, wanted.indexOf(":")));
    expect(failure(text, [], 1)).toBe(wanted);
  });

  test.each(["01", "-", "1.", ".5", "+1", "1e", "1e+", "0x1", "NaN", "Infinity", "00", "-01", "1.2.3", "--1", "1e5.5"])(
    "refuses the number %s, hot or not",
    (number) => {
      for (const text of [`{"a":${number}}`, `{"a":${number} }`, `{"a":[${number}]}`]) {
        expect(failure(text)).toContain("json_invalid");
        expect(failure(text, ["a"])).toContain("json_invalid");
      }
    },
  );

  test("takes exactly the UTF-8 that a fatal text decoder takes", () => {
    const decoder = new TextDecoder("utf-8", { fatal: true });
    const edges = [0x22, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0];
    const tails = edges.flatMap((second) => [
      [second],
      [second, 0x80],
      [second, 0xbf, 0x80],
      [second, 0x80, 0xbf, 0x41],
    ]);
    const wrong: string[] = [];
    for (let lead = 0x80; lead <= 0xff; lead += 1) {
      for (const tail of tails) {
        const text = Buffer.from([0x61, lead, ...tail]);
        let isUtf8 = !text.includes(0x22);
        try {
          decoder.decode(text);
        } catch {
          isUtf8 = false;
        }
        const accepted = failure(`{"k":"${text.toString("latin1")}"}`) === "accepted";
        if (accepted !== isUtf8) wrong.push(text.toString("hex"));
      }
    }
    expect(wrong).toEqual([]);
  });

  test("refuses a hot field that is there twice, however it is spelled, but not another field", () => {
    const text = '{"a":1,"b":2,"\\u0061":3}';
    expect(failure(text, ["a"])).toContain("hot_field_duplicate 13:");
    expect(failure(text, ["b"])).toBe("accepted");
    expect(failure('{"b":1,"b":1}', ["b"], 1)).toContain("hot_field_duplicate 7:");
  });

  test("refuses one level more than the limit, at once, and takes the limit", () => {
    const nested = (levels: number): string => `{"a":${"[".repeat(levels - 1)}${"]".repeat(levels - 1)}}`;
    expect(failure(nested(LIMITS.jsonDepthMax))).toBe("accepted");
    expect(failure(nested(LIMITS.jsonDepthMax), ["a"])).toBe("accepted");
    expect(failure(nested(LIMITS.jsonDepthMax + 1))).toContain(`json_too_deep ${LIMITS.jsonDepthMax + 4}:`);
    expect(failure(`{"a":${"[".repeat(5_000_000)}`)).toContain("json_too_deep");
    expect(failure(`${'{"a":'.repeat(1_000_000)}`)).toContain("json_too_deep");
  });
});

describe("createJsonSplitter() in lenient mode", () => {
  test.each([
    ["", ""],
    ["\u0000\u00ff not JSON", ""],
    ['{"a":1,"b":2', "1"],
    ['{"a":1,"a":2}', "1"],
    ['{"a":1}}', "1"],
    ['{"a":"\u00ff","b":1}', ""],
    ['{"a":tru', "tru"],
  ])("lets %j through with whole reads only", (text, hot) => {
    const parts = split(text, ["a"], "lenient");
    expect([parts.hot, parts.layout.addressable, parts.layout.absent]).toEqual([hot, false, []]);
  });

  test("keeps bytes of a value that turns out to be broken, nameless", () => {
    const parts = split('{"a":"xxxxxxxx\u0001"}', ["a"], "lenient", 8);
    expect(parts.hot).toBe('"xx');
    expect(parts.layout.fields.map((field) => field.name)).toEqual([""]);
  });
});
