/** JSON merge patches: what is named changes, every other byte stays, and nobody's change is lost. */
import { describe, expect, test } from "vitest";
import { telemetryDocument } from "../telemetry.ts";
import { problemOf, receiptOf, StoreClient } from "./client.ts";
import type { GetServed } from "./served.ts";

const PAD = `"pad": "${"p".repeat(20_000)}"`;
const DOCUMENT = `{ "device_id": "d-1",  "battery_level": 97, "status": {"a": 1, "b": [1, 2]}, ${PAD}, "cold" : {"x": 1.0, "y": {"z": 9007199254740993}}, "last":1e400 }`;
const CONNECTIONS = 8;
const PATCHES_EACH = 15;

/** [patch, text in the document before, text in its place afterwards, whether a node was written] */
const PATCHES = [
  ['{"battery_level": 96}', '"battery_level": 97', '"battery_level": 96', "hot"],
  ['{"battery_level":1.50}', '"battery_level": 97', '"battery_level": 1.50', "hot"],
  ['{"status":{"a":2}}', '{"a": 1, "b"', '{"a": 2, "b"', "hot"],
  ['{"last": 2}', '"last":1e400', '"last":2', "cold"],
  ['{"cold":{"y":{"z":2}}}', '"z": 9007199254740993', '"z": 2', "cold"],
  ['{"cold":{"x":0.10},"battery_level":5}', "", "", "cold"],
] as const;

export function patchChecks(served: GetServed): void {
  describe("patches", () => {
    test.each(PATCHES)("%s changes what it names and no other byte", async (patch, before, after, kind) => {
      const { client } = served();
      receiptOf(await client.put("/objects/patches/doc?strategy=field_hybrid", DOCUMENT));
      const answer = await client.patch("/objects/patches/doc", patch);
      const receipt = receiptOf(answer);
      expect(answer.status).toBe(200);
      if (kind === "hot") expect(receipt.nodeBytesWritten).toBe(0);
      else expect(receipt.nodeBytesWritten).toBeGreaterThan(20_000);
      const read = await client.get("/objects/patches/doc");
      const expected =
        before === ""
          ? DOCUMENT.replace('"x": 1.0', '"x": 0.10').replace('"battery_level": 97', '"battery_level": 5')
          : DOCUMENT.replace(before, after);
      expect(read.body.toString()).toBe(expected);
      expect(read.headers.etag).toBe(`"${receipt.etag}"`);
      expect(read.headers["content-length"]).toBe(String(Buffer.byteLength(expected)));
    });

    test("null removes, hot and cold, nested too, and new fields are added", async () => {
      const { client } = served();
      receiptOf(await client.put("/objects/patches/null?strategy=field_hybrid", DOCUMENT));
      const expected = JSON.parse(DOCUMENT) as Record<string, unknown>;
      for (const [patch, change] of [
        ['{"battery_level":null}', () => delete expected["battery_level"]],
        ['{"status":{"a":null}}', () => (expected["status"] = { b: [1, 2] })],
        ['{"cold":{"y":null}}', () => (expected["cold"] = { x: 1 })],
        ['{"last":null,"never":null}', () => delete expected["last"]],
        ['{"added":{"deep":{"gone":null,"kept":1}}}', () => (expected["added"] = { deep: { kept: 1 } })],
        ['{"signal_strength":-70}', () => (expected["signal_strength"] = -70)],
        ['{"battery_level":[null]}', () => (expected["battery_level"] = [null])],
      ] as const) {
        receiptOf(await client.patch("/objects/patches/null", patch));
        change();
        const text = (await client.get("/objects/patches/null")).body.toString();
        expect(JSON.parse(text), patch).toEqual(expected);
      }
    });

    test("fields called __proto__ and constructor are data", async () => {
      const { client } = served();
      receiptOf(await client.put("/objects/patches/proto?strategy=field_hybrid", '{"a":1,"device_id":"d"}'));
      receiptOf(await client.patch("/objects/patches/proto", '{"__proto__":{"polluted":1},"constructor":{"x":2}}'));
      const whole = (await client.get("/objects/patches/proto")).body.toString().replaceAll(" ", "");
      expect(whole).toContain('"__proto__":{"polluted":1}');
      expect(whole).toContain('"constructor":{"x":2}');
      const fields = await client.get("/objects/patches/proto?fields=__proto__,constructor");
      expect(fields.body.toString()).toBe('{"__proto__":{"polluted":1},"constructor":{"x":2}}');
      receiptOf(await client.patch("/objects/patches/proto", '{"__proto__":null,"constructor":null}'));
      expect((await client.get("/objects/patches/proto")).body.toString().replaceAll(" ", "")).toBe(
        '{"a":1,"device_id":"d"}',
      );
    });

    test("If-Match holds a patch to the version that its sender saw", async () => {
      const { client } = served();
      const { etag } = receiptOf(await client.put("/objects/patches/match?strategy=field_hybrid", DOCUMENT));
      for (const patch of ['{"battery_level":1}', '{"last":1}']) {
        const refused = await client.patch("/objects/patches/match", patch, { "if-match": '"other"' });
        expect([refused.status, problemOf(refused).code]).toEqual([412, "precondition_failed"]);
      }
      const first = receiptOf(await client.patch("/objects/patches/match", '{"last":1}', { "if-match": `"${etag}"` }));
      const late = await client.patch("/objects/patches/match", '{"last":2}', { "if-match": `"${etag}"` });
      expect(late.status).toBe(412);
      const hot = await client.patch("/objects/patches/match", '{"status":0}', { "if-match": `"${first.etag}"` });
      expect(hot.status).toBe(200);
    });

    test("wrong patches are refused and change nothing", async () => {
      const { client } = served();
      receiptOf(await client.put("/objects/patches/wrong?strategy=field_hybrid", DOCUMENT));
      const path = "/objects/patches/wrong";
      for (const [patch, status, code, offset] of [
        ['{"a":1,}', 400, "json_invalid", 7],
        ['{"a":', 400, "json_invalid", 5],
        ["[1]", 400, "json_not_object", 0],
        ["null", 400, "json_not_object", 0],
        ["", 400, "body_required", null],
        [`{"a":${'{"a":'.repeat(600)}1${"}".repeat(600)}}`, 400, "json_too_deep", null],
        [`{"a":"${"x".repeat(1_048_576)}"}`, 413, "body_too_large", null],
      ] as const) {
        const answer = await client.patch(path, patch);
        expect([answer.status, problemOf(answer).code], patch.slice(0, 40)).toEqual([status, code]);
        if (offset !== null) expect(problemOf(answer)["offset"], patch).toBe(offset);
      }
      for (const type of ["application/json", "text/plain", ""]) {
        const answer = await client.patch(path, '{"a":1}', { "content-type": type });
        expect([answer.status, problemOf(answer).code], type).toEqual([415, "media_type_unsupported"]);
      }
      expect((await client.get(path)).body.toString()).toBe(DOCUMENT);
      receiptOf(await client.put("/objects/patches/binary?strategy=ec", Buffer.alloc(5_000, 7)));
      const onBytes = await client.patch("/objects/patches/binary", '{"a":1}');
      expect([onBytes.status, problemOf(onBytes).code]).toEqual([400, "json_not_object"]);
    });

    test.each(["hot", "cold", "mixed"] as const)(
      "patches from 8 connections at once lose nothing: %s",
      async (kind) => {
        const path = `/objects/patches/concurrent-${kind}`;
        const document = telemetryDocument({ seed: 9, bytesMin: kind === "hot" ? 800_000 : 30_000 });
        receiptOf(await served().client.put(`${path}?strategy=field_hybrid`, document));
        const hotNames = ["device_id", "battery_level", "status_code", "is_active", "view_count", "like_count"];
        hotNames.push("user_id", "rssi");
        const nameOf = (connection: number) =>
          kind === "hot" || (kind === "mixed" && connection % 2 === 0)
            ? (hotNames[connection] as string)
            : `cold_${connection}`;
        await Promise.all(
          Array.from({ length: CONNECTIONS }, async (_, connection) => {
            using client = new StoreClient(served().store.url, 1);
            for (let step = 1; step <= PATCHES_EACH; step += 1) {
              const patch = JSON.stringify({ [nameOf(connection)]: step, log: { [`c${connection}s${step}`]: step } });
              const own = kind === "hot" ? JSON.stringify({ [nameOf(connection)]: step }) : patch;
              const answer = await client.patch(path, own);
              expect(answer.status, answer.body.toString()).toBe(200);
              const seen = await client.get(`${path}?fields=${nameOf(connection)}`);
              expect(seen.body.toString()).toBe(`{"${nameOf(connection)}":${step}}`);
            }
          }),
        );
        const final = JSON.parse((await served().client.get(path)).body.toString()) as Record<string, unknown>;
        const expected = JSON.parse(document.toString()) as Record<string, unknown>;
        const log: Record<string, number> = {};
        for (let connection = 0; connection < CONNECTIONS; connection += 1) {
          expected[nameOf(connection)] = PATCHES_EACH;
          for (let step = 1; step <= PATCHES_EACH; step += 1) log[`c${connection}s${step}`] = step;
        }
        if (kind !== "hot") expected["log"] = log;
        expect(final).toEqual(expected);
      },
    );
  });
}
