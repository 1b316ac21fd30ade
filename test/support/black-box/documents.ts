/** Split documents: the identical bytes come back, hot fields cost no node, and wrong JSON is refused whole. */
import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import { telemetryDocument } from "../telemetry.ts";
import { problemOf, receiptOf } from "./client.ts";
import type { GetServed } from "./served.ts";

const DOCUMENTS: Readonly<Record<string, string>> = {
  "nothing in it": "{}",
  "white space all over": ' \n{ "device_id"\t:\r\n "d-1" ,\n\n "x" : [ 1 , 2 ]\n} \n',
  "cold names twice": '{"x":1,"status":"a","x":2,"x":{"x":3},"y":[],"y":[]}',
  "64-bit integers": '{"a":9007199254740993,"status_code":18446744073709551615,"b":-9223372036854775808}',
  "numbers beyond doubles": '{"battery_level":1e400,"a":-1E-400,"b":1.0,"c":0.10,"d":-0,"e":-0.0,"f":1e+2}',
  escapes: String.raw`{"user_id":"\u0000\ud83d\ude00\ud800 \/ \b\f\n\r\t\"\\","\u0061":"\u00e9","stat\u0075s":"on"}`,
  "names of objects' own": '{"__proto__":{"a":1},"constructor":{"prototype":{"b":2}},"device_id":"d","toString":null}',
  "text beyond ASCII": '{"device_id":"größe ☃ \u{1f600}","温度":"\u2028\u2029","länge":"é e\u0301"}',
  "only hot fields": '{"device_id":"d","battery_level":3,"status":{"nested":[1,{"deep":null}]}}',
  "no hot field": '{"a":[[[[[]]]]],"b":{"c":{"d":{}}}}',
  "empty values": '{"device_id":"","status":{},"mode":[],"":"empty name","a":null}',
};

const WRONG: readonly (readonly [name: string, document: string, code: string, offset: number | null])[] = [
  ["nothing", "", "json_invalid", 0],
  ["an array", "[1,2]", "json_not_object", 0],
  ["a string", '"text"', "json_not_object", 0],
  ["a document cut off", '{"a":1', "json_invalid", 6],
  ["a comma too many", '{"a":1,}', "json_invalid", 7],
  ["a leading zero", '{"a":01}', "json_invalid", 6],
  ["half a word", '{"a":nul}', "json_invalid", 8],
  ["a control character", '{"a":"\u0001"}', "json_invalid", 6],
  ["more behind the end", '{"a":1} x', "json_invalid", 8],
  ["single quotes", "{'a':1}", "json_invalid", 1],
  ["an unknown escape", '{"a":"\\x"}', "json_invalid", 7],
  ["a hot field twice", '{"status":1,"x":2,"status":3}', "hot_field_duplicate", null],
  ["nesting beyond the limit", `{"a":${"[".repeat(5_000)}${"]".repeat(5_000)}}`, "json_too_deep", null],
];

export function documentChecks(served: GetServed): void {
  describe("split documents", () => {
    test.each(Object.entries(DOCUMENTS))("%s: the same bytes come back", async (name, text) => {
      const { client } = served();
      const path = `/objects/documents/${encodeURIComponent(name)}`;
      for (const chunked of [false, true]) {
        const answer = await client.send("PUT", `${path}?strategy=field_hybrid`, { body: text, chunked });
        expect(receiptOf(answer).strategy).toBe("field_hybrid");
        const read = await client.get(path);
        expect(read.body.toString()).toBe(text);
        expect(read.headers["x-kintsugi-sha256"]).toBe(createHash("sha256").update(text).digest("hex"));
      }
    });

    test("a large document is split without being asked, and costs little more than its erasure code", async () => {
      const { client } = served();
      const document = telemetryDocument({ seed: 5 });
      const headers = { "content-type": "application/json" };
      const receipt = receiptOf(await client.put("/objects/documents/large", document, headers));
      expect(receipt).toMatchObject({ strategy: "field_hybrid", sizeBytes: document.length });
      expect(receipt.nodeBytesWritten / document.length).toBeLessThan(1.52);
      expect((await client.get("/objects/documents/large")).body.equals(document)).toBe(true);
    });

    test.each(WRONG)("%s is refused whole", async (_, text, code, offset) => {
      const { client } = served();
      for (const chunked of [false, true]) {
        const target = "/objects/documents/wrong?strategy=field_hybrid";
        const answer = await client.send("PUT", target, { body: text, chunked });
        const problem = problemOf(answer);
        expect([answer.status, problem.code]).toEqual([400, code]);
        if (offset !== null) expect(problem["offset"]).toBe(offset);
        expect((await client.get("/objects/documents/wrong")).status).toBe(404);
      }
    });

    test("what is no JSON object is kept all the same where nobody asked for a split", async () => {
      const { client } = served();
      for (const text of [`{"a":1,}${" ".repeat(20_000)}`, `{${"x".repeat(70_000)}`, `[${"1,".repeat(20_000)}1]`]) {
        receiptOf(await client.put("/objects/documents/lenient", text, { "content-type": "application/json" }));
        expect((await client.get("/objects/documents/lenient")).body.toString()).toBe(text);
      }
    });

    test("a PUT that changes hot fields only writes no byte on any node", async () => {
      const { client } = served();
      const document = telemetryDocument({ seed: 6 }).toString();
      receiptOf(await client.put("/objects/documents/hot-put", document));
      for (const [from, to] of [
        [/"battery_level": \d+/, '"battery_level": 1e400'],
        [/"status_code": \d+/, '"status_code": {"longer":[1, 2, 3]}'],
        [/"device_id": "[^"]*"/, '"device_id": ""'],
      ] as const) {
        const changed = document.replace(from, to);
        const receipt = receiptOf(await client.put("/objects/documents/hot-put", changed));
        expect(receipt).toMatchObject({
          nodeBytesWritten: 0,
          sha256: createHash("sha256").update(changed).digest("hex"),
        });
        expect((await client.get("/objects/documents/hot-put")).body.toString()).toBe(changed);
      }
    });

    test("?fields= answers hot fields from the record and others from the document", async () => {
      const { client } = served();
      const document = `{"device_id":"d-1", "cold":{"n":9007199254740993,"z":1.0}, "battery_level" : 1e400, "__proto__":{"x":1}, "a,b":7, "pad":"${"p".repeat(30_000)}"}`;
      receiptOf(await client.put("/objects/documents/fields", document));
      for (const [fields, text, source] of [
        ["device_id,battery_level", '{"device_id":"d-1","battery_level":1e400}', "hot"],
        ["battery_level,device_id,battery_level", '{"battery_level":1e400,"device_id":"d-1"}', "hot"],
        ["status", "{}", "hot"],
        ["cold", '{"cold":{"n":9007199254740993,"z":1.0}}', "document"],
        ["device_id,cold,nothing", '{"device_id":"d-1","cold":{"n":9007199254740993,"z":1.0}}', "document"],
        ["__proto__", '{"__proto__":{"x":1}}', "document"],
        ["a%2Cb", '{"a,b":7}', "document"],
        ["constructor", "{}", "document"],
      ] as const) {
        const answer = await client.get(`/objects/documents/fields?fields=${fields}`);
        expect(answer.status, fields).toBe(200);
        expect(answer.body.toString(), fields).toBe(text);
        expect(answer.headers, fields).toMatchObject({
          "x-kintsugi-source": source,
          "content-type": "application/json",
        });
      }
      const { etag = "" } = (await client.get("/objects/documents/fields?fields=device_id")).headers;
      const conditional = await client.get("/objects/documents/fields?fields=device_id", { "if-none-match": etag });
      expect(conditional.status).toBe(304);
      expect((await client.get("/objects/documents/fields?fields=")).status).toBe(400);
      expect((await client.get("/objects/documents/none?fields=a")).status).toBe(404);
    });

    test("?fields= of what is no JSON is an error, not a guess", async () => {
      const { client } = served();
      receiptOf(await client.put("/objects/documents/binary?strategy=ec", Buffer.alloc(9_000, 1)));
      const answer = await client.get("/objects/documents/binary?fields=a");
      expect([answer.status, problemOf(answer).code]).toEqual([400, "json_not_object"]);
    });
  });
}
