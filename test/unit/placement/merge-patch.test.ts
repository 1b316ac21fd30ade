import { describe, expect, test } from "vitest";
import { LIMITS } from "../../../src/limits.ts";
import { mergeDocument, mergeValue, parsePatch } from "../../../src/placement/merge-patch.ts";

const bytesOf = (text: string): Uint8Array => new Uint8Array(Buffer.from(text));
const textOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString();
const merged = (document: string, patch: string): string => textOf(mergeDocument(bytesOf(document), bytesOf(patch)));
const mergedValue = (target: string | null, patch: string): string =>
  textOf(mergeValue(target === null ? null : bytesOf(target), bytesOf(patch)));

describe("mergeValue()", () => {
  test.each([
    // RFC 7396, appendix A
    ['{"a":"b"}', '{"a":"c"}', '{"a":"c"}'],
    ['{"a":"b"}', '{"b":"c"}', '{"a":"b","b":"c"}'],
    ['{"a":"b"}', '{"a":null}', "{}"],
    ['{"a":"b","b":"c"}', '{"a":null}', '{"b":"c"}'],
    ['{"a":["b"]}', '{"a":"c"}', '{"a":"c"}'],
    ['{"a":"c"}', '{"a":["b"]}', '{"a":["b"]}'],
    ['{"a":{"b":"c"}}', '{"a":{"b":"d","c":null}}', '{"a":{"b":"d"}}'],
    ['{"a":[{"b":"c"}]}', '{"a":[1]}', '{"a":[1]}'],
    ['["a","b"]', '["c","d"]', '["c","d"]'],
    ['{"a":"b"}', '["c"]', '["c"]'],
    ['{"a":"foo"}', "null", "null"],
    ['{"a":"foo"}', '"bar"', '"bar"'],
    ['{"e":null}', '{"a":1}', '{"e":null,"a":1}'],
    ["[1,2]", '{"a":"b","c":null}', '{"a":"b"}'],
    ["{}", '{"a":{"bb":{"ccc":null}}}', '{"a":{"bb":{}}}'],
  ])("merges %s and %s as RFC 7396 shows", (target, patch, wanted) => {
    expect(mergedValue(target, patch)).toBe(wanted);
  });

  test("strips nulls from what meets no target, but not from arrays", () => {
    expect(mergedValue(null, '{ "a" : {"b":null, "c":[null,{"d":null}]} }')).toBe('{"a":{"c":[null,{"d":null}]}}');
  });

  test("copies what needs no stripping as it is spelled", () => {
    expect(mergedValue(null, ' { "a" : [ 1.0 , 1e400 ] } ')).toBe('{ "a" : [ 1.0 , 1e400 ] }');
  });
});

describe("mergeDocument()", () => {
  test("does what the example of RFC 7396, section 3, does", () => {
    const document = `{
  "title": "Goodbye!",
  "author" : {
    "givenName" : "John",
    "familyName" : "Doe"
  },
  "tags":[ "example", "sample" ],
  "content": "This will be unchanged"
}`;
    const patch = `{
  "title": "Hello!",
  "phoneNumber": "+01-123-456-7890",
  "author": {
    "familyName": null
  },
  "tags": [ "example" ]
}`;
    expect(JSON.parse(merged(document, patch))).toEqual({
      title: "Hello!",
      author: { givenName: "John" },
      tags: ["example"],
      content: "This will be unchanged",
      phoneNumber: "+01-123-456-7890",
    });
  });

  test("keeps the bytes of everything that is not named, and the numbers of the patch", () => {
    expect(
      merged(' { "a" : 1.0,\n "b":\t18446744073709551615 , "a2":{"x": 1e5}}\n', '{"a2":{"y":9007199254740993}}'),
    ).toBe(' { "a" : 1.0,\n "b":\t18446744073709551615 , "a2":{"x": 1e5,"y":9007199254740993}}\n');
    expect(merged('{"a":1}', '{"b":1.0,"c":1e400}')).toBe('{"a":1,"b":1.0,"c":1e400}');
  });

  test("leaves one comma fewer than members, whichever are removed", () => {
    const names = ["a", "b", "c", "d"];
    for (let mask = 0; mask < 16; mask += 1) {
      const patch = Object.fromEntries(names.filter((_, i) => mask & (1 << i)).map((name) => [name, null]));
      const left = names.filter((_, i) => !(mask & (1 << i)));
      expect(merged('{"a":1,"b":1,"c":1,"d":1}', JSON.stringify(patch))).toBe(
        `{${left.map((name) => `"${name}":1`).join(",")}}`,
      );
      expect(JSON.parse(merged(' { "a":1 , "b":1 , "c":1 , "d":1 } ', JSON.stringify({ ...patch, e: 1 })))).toEqual(
        Object.fromEntries([...left, "e"].map((name) => [name, 1])),
      );
    }
  });

  test("changes the last of several members of one name and removes the others", () => {
    expect(merged('{"a":1,"b":0,"a":{"x":1},"c":0}', '{"a":{"y":2}}')).toBe('{"b":0,"a":{"x":1,"y":2},"c":0}');
    expect(merged('{"a":{"x":1},"a":{"z":1}}', '{"a":{"x":2}}')).toBe('{"a":{"z":1,"x":2}}');
    expect(merged('{"a":{"x":1},"a":5}', '{"a":{"x":2}}')).toBe('{"a":{"x":2}}');
    expect(merged('{"a":1,"a":2,"b":3,"a":4}', '{"a":null}')).toBe('{"b":3}');
    expect(merged('{"a":1,"a":2}', '{"b":1}')).toBe('{"a":1,"a":2,"b":1}');
  });

  test("lets the last of several members of one name in the patch count", () => {
    expect(merged('{"a":1}', '{"a":null,"a":2}')).toBe('{"a":2}');
    expect(merged('{"a":1}', '{"a":2,"a":null}')).toBe("{}");
    expect(merged("{}", '{"a":{"x":1,"x":2}}')).toBe('{"a":{"x":2}}');
  });

  test("matches names by what they say, and takes __proto__ for a name", () => {
    expect(merged('{"device\\u005fid":1}', '{"device_id":2}')).toBe('{"device\\u005fid":2}');
    expect(merged('{"device_id":1}', '{"device\\u005fid":null}')).toBe("{}");
    expect(merged('{"x":1}', '{"__proto__":{"polluted":true},"constructor":null}')).toBe(
      '{"x":1,"__proto__":{"polluted":true}}',
    );
    expect(merged('{"__proto__":{"a":1}}', '{"__proto__":{"a":null}}')).toBe('{"__proto__":{}}');
    expect(merged('{"\\\\":1}', '{"\\u005c":2}')).toBe('{"\\\\":2}');
  });

  test("goes as deep as JSON may and refuses more", () => {
    const nest = (levels: number, core: string): string => '{"a":'.repeat(levels) + core + "}".repeat(levels);
    const levels = LIMITS.jsonDepthMax;
    expect(merged(nest(levels, "1"), nest(levels, "2"))).toBe(nest(levels, "2"));
    expect(() => merged("{}", nest(levels + 1, "1"))).toThrow(expect.objectContaining({ code: "json_too_deep" }));
    expect(() => merged(nest(levels + 1, "1"), "{}")).toThrow(expect.objectContaining({ code: "json_too_deep" }));
  });

  test("says which of the two is no JSON object, and where", () => {
    const error = (code: string, offset: number, message: RegExp): unknown =>
      expect.objectContaining({ code, message: expect.stringMatching(message), details: { offset } });
    expect(() => merged("[]", "{}")).toThrow(error("json_not_object", 0, /the stored document/) as Error);
    expect(() => merged("{}", " null")).toThrow(error("json_not_object", 1, /the patch/) as Error);
    expect(() => merged("{}", '{"a":01}')).toThrow(error("json_invalid", 6, /the patch: byte 6 is 0x31/) as Error);
    expect(() => merged("{}", '{"a":')).toThrow(error("json_invalid", 5, /ends at byte 5, expected a value/) as Error);
  });
});

describe("parsePatch()", () => {
  test("gives the members as they are spelled and marks removals", () => {
    const { members } = parsePatch(bytesOf('{"a": 1.0, "b" :null, "c":{ "d":null}, "n":"null"}'));
    expect([...members].map(([name, node]) => [name, textOf(node.value), node.removes])).toEqual([
      ["a", "1.0", false],
      ["b", "null", true],
      ["c", '{ "d":null}', false],
      ["n", '"null"', false],
    ]);
  });
});
