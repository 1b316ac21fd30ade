/** Keys are bytes: what was sent is what is stored, listed and read, and no key becomes a path of the file system. */
import { readdir } from "node:fs/promises";
import { dirname } from "node:path";
import { describe, expect, test } from "vitest";
import { pathOf, problemOf, receiptOf, type Answer, type StoreClient } from "./client.ts";
import type { GetServed } from "./served.ts";

/** [target as sent, the key that it names] */
const TARGETS: readonly (readonly [target: string, key: string])[] = [
  ["../x", "../x"],
  ["../../../../etc/passwd", "../../../../etc/passwd"],
  [".", "."],
  ["..", ".."],
  ["a/./b/../c", "a/./b/../c"],
  ["%2e%2e/y", "../y"],
  ["%2e%2e", ".."],
  ["%252e%252e", "%2e%2e"],
  ["a//b", "a//b"],
  ["/lead", "/lead"],
  ["//", "//"],
  ["trail/", "trail/"],
  ["a%2Fb", "a/b"],
  ["a%252Fb", "a%2Fb"],
  ["plus+plus", "plus+plus"],
  ["plus%2Bplus", "plus+plus"],
  ["with%20space", "with space"],
  ["new%0Aline", "new\nline"],
  ["%09%01%7f", "\t\u0001\u007f"],
  ["%F0%9F%98%80", "\u{1f600}"],
  ["nfc-%C3%A9", "nfc-\u00e9"],
  ["nfd-e%CC%81", "nfd-e\u0301"],
  ["e%CC%81", "e\u0301"],
  ["%C3%A9", "\u00e9"],
  ["__proto__", "__proto__"],
  ["constructor", "constructor"],
  ["hash%23mark%3Fquestion", "hash#mark?question"],
  ["semi;colon,comma:@&=$!'()*~", "semi;colon,comma:@&=$!'()*~"],
  ["back%5Cslash", "back\\slash"],
  ["C:%5Cx", "C:\\x"],
  ["con", "con"],
  ["%EF%BF%BD", "\ufffd"],
  ["x".repeat(1_024), "x".repeat(1_024)],
  ["%E2%82%AC".repeat(341) + "x", "\u20ac".repeat(341) + "x"],
];
const REFUSED: readonly (readonly [target: string, code: string])[] = [
  ["", "key_invalid"],
  ["nul%00nul", "key_invalid"],
  ["%00", "key_invalid"],
  ["broken%", "key_invalid"],
  ["broken%2", "key_invalid"],
  ["broken%zz", "key_invalid"],
  ["overlong%C0%AF", "key_invalid"],
  ["surrogate%ED%A0%80", "key_invalid"],
  ["not-utf8-%FF", "key_invalid"],
  ["x".repeat(1_025), "key_too_long"],
  ["%E2%82%AC".repeat(342), "key_too_long"],
];

export function keyChecks(served: GetServed): void {
  describe("keys", () => {
    test("every key is kept as it was sent, once decoded", async () => {
      const { client } = served();
      for (const [target, key] of TARGETS) {
        const context = JSON.stringify(key.slice(0, 40));
        const receipt = receiptOf(await client.put(`/objects/${target}?bucket=keys`, `bytes of ${target}`));
        expect(receipt.key, context).toBe(key);
        // The careful spelling names the same object as the raw one.
        for (const path of [`/objects/${target}`, pathOf(key), pathOf(key, "/read/")]) {
          expect((await client.get(`${path}?bucket=keys`)).body.toString(), path).toBe(`bytes of ${target}`);
        }
      }
      const wanted = [...new Set(TARGETS.map(([, key]) => key))].sort((a, b) => Buffer.compare(bytes(a), bytes(b)));
      expect(await keysIn(client, "keys")).toEqual(wanted);
      for (const key of wanted) {
        expect((await client.send("DELETE", `${pathOf(key, "/delete/")}?bucket=keys`)).status, key).toBe(204);
      }
      expect(await keysIn(client, "keys")).toEqual([]);
    });

    test("the key of /write is the same key", async () => {
      const { client } = served();
      for (const [, key] of TARGETS) {
        const target = `/write?bucket=keys-written&key=${encodeURIComponent(key)}`;
        expect(receiptOf(await client.send("POST", target, { body: key })).key).toBe(key);
        expect((await client.get(`${pathOf(key)}?bucket=keys-written`)).body.toString(), key).toBe(key);
      }
      expect(problemOf(await client.send("POST", "/write?key=", { body: "x" })).code).toBe("key_invalid");
      expect(problemOf(await client.send("POST", "/write", { body: "x" })).code).toBe("parameter_invalid");
    });

    test("what no key may be is refused by every method", async () => {
      const { client } = served();
      for (const [target, code] of REFUSED) {
        for (const method of ["PUT", "GET", "DELETE"] as const) {
          const body = method === "PUT" ? { body: "x" } : {};
          const answer = await client.send(method, `/objects/${target}?bucket=keys`, body);
          expect([answer.status, codeOf(answer)], `${method} ${target.slice(0, 40)}`).toEqual([400, code]);
        }
      }
    });

    test("a key that ends in /info is an object like any other", async () => {
      const { client } = served();
      receiptOf(await client.put("/objects/keys/thing", "the thing"));
      expect(JSON.parse((await client.get("/objects/keys/thing/info")).body.toString())).toMatchObject({
        key: "keys/thing",
      });
      receiptOf(await client.put("/objects/keys/thing/info", "its own bytes"));
      expect((await client.get("/objects/keys/thing/info")).body.toString()).toBe("its own bytes");
      expect((await client.get("/objects/keys/thing")).body.toString()).toBe("the thing");
      const info = await client.get("/objects/keys/thing/info?info");
      expect(JSON.parse(info.body.toString())).toMatchObject({ key: "keys/thing/info" });
      expect((await client.send("DELETE", "/objects/keys/thing/info")).status).toBe(204);
      expect((await client.get("/objects/keys/thing")).status).toBe(200);
      expect((await client.get("/objects/keys/nothing/info")).status).toBe(404);
    });

    test("no key has become a file", async () => {
      const { store } = served();
      const names = (await readdir(dirname(store.dataDir), { recursive: true })).join("\n");
      expect(names).toContain("data.mdb");
      for (const trace of ["passwd", "trail", "plus", "proto", "lead", "nfc"]) expect(names).not.toContain(trace);
    });
  });
}

function bytes(text: string): Buffer {
  return Buffer.from(text);
}

function codeOf(answer: Answer): string {
  return problemOf(answer).code;
}

async function keysIn(client: StoreClient, bucket: string): Promise<string[]> {
  const answer = await client.get(`/objects?bucket=${bucket}&limit=1000`);
  const { objects } = JSON.parse(answer.body.toString()) as { objects: { key: string }[] };
  return objects.map(({ key }) => key);
}
