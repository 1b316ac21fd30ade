/** Listings: order, prefixes, delimiters, pages, and that a listing says what HEAD says. */
import { beforeAll, describe, expect, test } from "vitest";
import { pathOf, problemOf, receiptOf, type StoreClient } from "./client.ts";
import type { GetServed } from "./served.ts";

type Page = {
  readonly objects: readonly {
    readonly key: string;
    readonly etag: string;
    readonly sizeBytes: number;
    readonly version: string;
    readonly strategy: string;
    readonly contentType: string;
    readonly sha256: string;
  }[];
  readonly commonPrefixes: readonly string[];
  readonly next: string | null;
};

const KEYS = [
  ...["a", "a/", "a/1", "a/2", "a/b/1", "a/b/2", "a/c", "a0", "b//x", "b/", "z", "\u{1f600}/x", "\uffee", "é"],
  ...Array.from({ length: 25 }, (_, index) => `many/${String(index).padStart(2, "0")}/leaf`),
];
const IN_ORDER = [...KEYS].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));

export function listingChecks(served: GetServed): void {
  describe("listings", () => {
    beforeAll(async () => {
      const { client } = served();
      await Promise.all(
        [...KEYS, "a/deleted", "many/00/deleted"].map(async (key, index) => {
          receiptOf(await client.put(`${pathOf(key)}?bucket=listing`, `body ${index} of ${key}`));
        }),
      );
      for (const key of ["a/deleted", "many/00/deleted"]) {
        await client.send("DELETE", `${pathOf(key)}?bucket=listing`);
      }
    });

    test("all keys come in the order of their bytes, and equal their HEADs", async () => {
      const { client } = served();
      const page = await list(client, {});
      expect(page.objects.map(({ key }) => key)).toEqual(IN_ORDER);
      expect([page.commonPrefixes, page.next]).toEqual([[], null]);
      for (const entry of page.objects) {
        const { headers } = await client.send("HEAD", `${pathOf(entry.key)}?bucket=listing`);
        expect(headers, entry.key).toMatchObject({
          etag: `"${entry.etag}"`,
          "content-length": String(entry.sizeBytes),
          "x-kintsugi-version": entry.version,
          "x-kintsugi-strategy": entry.strategy,
          "content-type": entry.contentType,
          "x-kintsugi-sha256": entry.sha256,
        });
      }
    });

    test.each([
      ["prefix", { prefix: "a/" }, ["a/", "a/1", "a/2", "a/b/1", "a/b/2", "a/c"], []],
      ["prefix of nothing", { prefix: "nothing" }, [], []],
      ["delimiter", { delimiter: "/" }, ["a", "a0", "z", "é", "\uffee"], ["a/", "b/", "many/", "\u{1f600}/"]],
      ["prefix and delimiter", { prefix: "a/", delimiter: "/" }, ["a/", "a/1", "a/2", "a/c"], ["a/b/"]],
      ["after", { after: "b/", prefix: "b" }, ["b//x"], []],
      ["after and delimiter", { after: "many/", delimiter: "/" }, ["z", "é", "\uffee"], ["\u{1f600}/"]],
    ] as const)("%s", async (_, parameters, keys, prefixes) => {
      const page = await list(served().client, parameters);
      expect(page.objects.map(({ key }) => key)).toEqual(keys);
      expect([...page.commonPrefixes].sort()).toEqual([...prefixes].sort());
    });

    test.each([1, 2, 7, 1_000])("pages of %d hold everything once", async (limit) => {
      const { client } = served();
      for (const delimiter of ["", "/"]) {
        const whole = await list(client, { delimiter, limit: 1_000 });
        const keys: string[] = [];
        const prefixes: string[] = [];
        let after: string | null = "";
        while (after !== null) {
          const page: Page = await list(client, { delimiter, limit, after });
          expect(page.objects.length + page.commonPrefixes.length).toBeLessThanOrEqual(limit);
          keys.push(...page.objects.map(({ key }) => key));
          prefixes.push(...page.commonPrefixes);
          after = page.next;
        }
        expect(keys).toEqual(whole.objects.map(({ key }) => key));
        expect(prefixes).toEqual(whole.commonPrefixes);
      }
    });

    test("parameters that are wrong are refused", async () => {
      const { client } = served();
      for (const query of [
        "limit=0",
        "limit=1001",
        "limit=x",
        "limit=-1",
        "prefix=%00",
        "unknown=1",
        "limit=1&limit=2",
      ]) {
        const answer = await client.get(`/objects?${query}`);
        expect([answer.status, problemOf(answer).code], query).toEqual([400, "parameter_invalid"]);
      }
      expect(problemOf(await client.get("/objects?bucket=Not%20a%20bucket")).code).toBe("bucket_invalid");
      expect((await list(client, {}, "never-written")).objects).toEqual([]);
    });
  });
}

async function list(
  client: StoreClient,
  parameters: Readonly<Record<string, string | number>>,
  bucket = "listing",
): Promise<Page> {
  const all = Object.entries({ bucket, ...parameters }).map(([name, value]) => `${name}=${encodeURIComponent(value)}`);
  const answer = await client.get(`/objects?${all.join("&")}`);
  expect(answer.status).toBe(200);
  return JSON.parse(answer.body.toString()) as Page;
}
