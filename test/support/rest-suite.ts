/**
 * What the REST door promises over a proper client, whatever store is behind it. Keys are prefixed by the suite, so it
 * can run against a store that holds other things.
 */
import { createHash } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { RestTarget, StartRest } from "./rest-server.ts";

type Problem = { readonly code: string; readonly status: number; readonly requestId: string; readonly detail: string };

const PREFIX = "rest-suite";

export function restSuite(start: StartRest): void {
  let target: RestTarget;
  beforeAll(async () => {
    target = await start();
  });
  afterAll(() => target[Symbol.asyncDispose]());

  const call = (method: string, path: string, init: RequestInit = {}) => fetch(target.url + path, { method, ...init });
  const put = (key: string, body: string | Uint8Array<ArrayBuffer>, headers: Record<string, string> = {}) =>
    call("PUT", `/objects/${PREFIX}/${key}`, { body, headers });
  const get = (key: string, headers: Record<string, string> = {}) =>
    call("GET", `/objects/${PREFIX}/${key}`, { headers });
  const problemOf = async (response: Response): Promise<Problem> => {
    expect(response.headers.get("content-type")).toBe("application/problem+json");
    const problem = (await response.json()) as Problem;
    expect(problem.status).toBe(response.status);
    expect(problem.requestId).toBe(response.headers.get("x-request-id"));
    return problem;
  };

  describe("PUT /objects/<key>", () => {
    test("creates with 201 and a place, replaces with 200", async () => {
      const created = await put("put/new", "one");
      expect(created.status).toBe(201);
      expect(created.headers.get("location")).toBe(`/objects/${PREFIX}/put/new`);
      const receipt = (await created.json()) as { etag: string; version: string; sha256: string; created: boolean };
      expect(created.headers.get("etag")).toBe(`"${receipt.etag}"`);
      expect(created.headers.get("x-kintsugi-version")).toBe(receipt.version);
      expect(receipt.sha256).toBe(createHash("sha256").update("one").digest("hex"));
      const replaced = await put("put/new", "two");
      expect(replaced.status).toBe(200);
      expect(replaced.headers.get("location")).toBeNull();
      expect(await (await get("put/new")).text()).toBe("two");
    });

    test("also as POST, and as POST /write", async () => {
      expect((await call("POST", `/objects/${PREFIX}/put/post`, { body: "a" })).status).toBe(201);
      expect((await call("POST", `/write?key=${PREFIX}%2Fput%2Fwrite&strategy=auto`, { body: "b" })).status).toBe(201);
      expect(await (await call("GET", `/read/${PREFIX}/put/write`)).text()).toBe("b");
      expect((await call("DELETE", `/delete/${PREFIX}/put/write`)).status).toBe(204);
      expect((await call("GET", `/read/${PREFIX}/put/write`)).status).toBe(404);
    });

    test("keeps content type and metadata and gives them back with the digests", async () => {
      await put("put/kept", "hello", { "content-type": "Text/Plain; charset=X", "x-kintsugi-meta-Owner": "me" });
      const read = await get("put/kept");
      expect(Object.fromEntries(read.headers)).toMatchObject({
        "content-type": "Text/Plain; charset=X",
        "content-length": "5",
        "accept-ranges": "bytes",
        "x-kintsugi-meta-owner": "me",
        "x-kintsugi-sha256": "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
        "repr-digest": "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:",
        "x-content-type-options": "nosniff",
        "content-security-policy": "sandbox; default-src 'none'",
      });
    });

    test("refuses a body with another digest than announced, and keeps nothing of it", async () => {
      for (const headers of [
        { "x-kintsugi-sha256": "0".repeat(64) },
        { "content-md5": "AAAAAAAAAAAAAAAAAAAAAA==" },
        { "content-digest": "sha-256=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:" },
      ]) {
        const refused = await put("put/digest", "hello", headers as Record<string, string>);
        expect(refused.status).toBe(400);
        expect((await problemOf(refused)).code).toBe("digest_mismatch");
      }
      expect((await get("put/digest")).status).toBe(404);
      const right = { "content-md5": "XUFAKrxLKna5cZ2REBfFkg==" };
      expect((await put("put/digest", "hello", right)).status).toBe(201);
    });

    test.each([
      ["?strategy=best", "strategy_unknown"],
      ["?consistency=two", "parameter_invalid"],
      ["?stratgy=ec", "parameter_invalid"],
      ["?bucket=UPPER", "bucket_invalid"],
    ])("refuses %s", async (query, code) => {
      const refused = await call("PUT", `/objects/${PREFIX}/put/refused${query}`, { body: "a" });
      expect(refused.status).toBe(400);
      expect((await problemOf(refused)).code).toBe(code);
    });

    test("keeps buckets apart", async () => {
      const path = `/objects/${PREFIX}/put/bucket`;
      const created = await call("PUT", `${path}?bucket=other`, { body: "other" });
      expect(created.headers.get("location")).toBe(`${path}?bucket=other`);
      expect((await call("GET", path)).status).toBe(404);
      expect(await (await call("GET", `${path}?bucket=other`)).text()).toBe("other");
    });
  });

  describe("GET and HEAD /objects/<key>", () => {
    test.each([0, 1, 1_024, 8_192, 8_193, 65_535, 65_536, 65_537, 1_048_577, 9_000_001])(
      "give back %i bytes, with and without a declared length",
      async (size) => {
        const bytes = Buffer.alloc(size);
        for (let at = 0; at < size; at += 1) bytes[at] = (at * 31) ^ (at >>> 8);
        await put("get/sized", bytes);
        expect(Buffer.from(await (await get("get/sized")).arrayBuffer()).equals(bytes)).toBe(true);
        const stream = new Blob([bytes]).stream();
        await call("PUT", `/objects/${PREFIX}/get/chunked`, { body: stream, duplex: "half" } as RequestInit);
        const read = await get("get/chunked");
        expect(read.headers.get("content-length")).toBe(String(size));
        expect(Buffer.from(await read.arrayBuffer()).equals(bytes)).toBe(true);
        const head = await call("HEAD", `/objects/${PREFIX}/get/chunked`);
        expect([head.status, head.headers.get("content-length")]).toEqual([200, String(size)]);
        expect(head.headers.get("etag")).toBe(read.headers.get("etag"));
      },
    );

    test("answer single ranges with 206 and unsatisfiable ones with 416", async () => {
      await put("get/range", "0123456789");
      const ranged = async (range: string) => {
        const answer = await get("get/range", { range });
        return [answer.status, answer.headers.get("content-range"), await answer.text()];
      };
      expect(await ranged("bytes=2-4")).toEqual([206, "bytes 2-4/10", "234"]);
      expect(await ranged("bytes=7-")).toEqual([206, "bytes 7-9/10", "789"]);
      expect(await ranged("bytes=-2")).toEqual([206, "bytes 8-9/10", "89"]);
      expect(await ranged("bytes=-99")).toEqual([206, "bytes 0-9/10", "0123456789"]);
      expect(await ranged("bytes=1-1,3-3")).toEqual([200, null, "0123456789"]);
      expect(await ranged("bytes=x")).toEqual([200, null, "0123456789"]);
      const refused = await get("get/range", { range: "bytes=10-" });
      expect([refused.status, refused.headers.get("content-range")]).toEqual([416, "bytes */10"]);
      expect((await problemOf(refused)).code).toBe("range_invalid");
    });

    test("send the whole when If-Range names another version", async () => {
      await put("get/if-range", "0123456789");
      const etag = (await get("get/if-range")).headers.get("etag") as string;
      const same = await get("get/if-range", { range: "bytes=0-0", "if-range": etag });
      expect([same.status, await same.text()]).toEqual([206, "0"]);
      const other = await get("get/if-range", { range: "bytes=0-0", "if-range": '"other"' });
      expect([other.status, await other.text()]).toEqual([200, "0123456789"]);
    });

    test("answer conditions with 304 and 412", async () => {
      await put("get/conditions", "a");
      const first = await get("get/conditions");
      const etag = first.headers.get("etag") as string;
      const modified = first.headers.get("last-modified") as string;
      for (const method of ["GET", "HEAD"]) {
        const path = `/objects/${PREFIX}/get/conditions`;
        const unchanged = await call(method, path, { headers: { "if-none-match": `"x", W/${etag}` } });
        expect([unchanged.status, unchanged.headers.get("etag"), await unchanged.text()]).toEqual([304, etag, ""]);
        expect((await call(method, path, { headers: { "if-modified-since": modified } })).status).toBe(304);
        expect((await call(method, path, { headers: { "if-match": '"x"' } })).status).toBe(412);
        expect((await call(method, path, { headers: { "if-match": etag } })).status).toBe(200);
      }
    });

    test("tell of what is not there", async () => {
      const missing = await get("get/missing");
      expect(missing.status).toBe(404);
      expect((await problemOf(missing)).code).toBe("object_not_found");
      const head = await call("HEAD", `/objects/${PREFIX}/get/missing`);
      expect([head.status, await head.text()]).toEqual([404, ""]);
    });
  });

  describe("conditional writes", () => {
    test("create once, replace only what was seen, delete only what was seen", async () => {
      expect((await put("cas/a", "1", { "if-none-match": "*" })).status).toBe(201);
      const again = await put("cas/a", "2", { "if-none-match": "*" });
      expect(again.status).toBe(412);
      expect((await problemOf(again)).code).toBe("precondition_failed");
      const etag = (await get("cas/a")).headers.get("etag") as string;
      expect((await put("cas/a", "3", { "if-match": etag })).status).toBe(200);
      expect((await put("cas/a", "4", { "if-match": etag })).status).toBe(412);
      const path = `/objects/${PREFIX}/cas/a`;
      expect((await call("DELETE", path, { headers: { "if-match": etag } })).status).toBe(412);
      expect(await (await get("cas/a")).text()).toBe("3");
      expect((await call("DELETE", path)).status).toBe(204);
      expect((await call("DELETE", path)).status).toBe(404);
    });

    test("are refused before a large body is sent in vain, and the connection stays usable", async () => {
      await put("cas/large", "here");
      const refused = await put("cas/large", new Uint8Array(5_000_000), { "if-none-match": "*" });
      expect(refused.status).toBe(412);
      expect(await (await get("cas/large")).text()).toBe("here");
    });
  });

  describe("documents", () => {
    const DOCUMENT = '{"device_id":"d1","battery_level":80,"a,b":1,"deep":{"x":1,"y":2},"gone":true}';

    test("GET ?fields= answers just those fields", async () => {
      await put("doc/fields", DOCUMENT, { "content-type": "application/json" });
      const read = await get("doc/fields?fields=battery_level,a%2Cb,missing");
      expect(read.headers.get("content-type")).toBe("application/json");
      expect(await read.json()).toEqual({ battery_level: 80, "a,b": 1 });
      expect((await get("doc/fields?fields=")).status).toBe(400);
      expect((await get("doc/missing?fields=a")).status).toBe(404);
    });

    test("PATCH merges, with null removing and If-Match honoured", async () => {
      const created = await put("doc/patch", DOCUMENT, { "content-type": "application/json" });
      const etag = created.headers.get("etag") as string;
      const patch = (body: string, headers: Record<string, string> = {}) =>
        call("PATCH", `/objects/${PREFIX}/doc/patch`, {
          body,
          headers: { "content-type": "application/merge-patch+json", ...headers },
        });
      expect((await patch('{"battery_level":79,"gone":null,"deep":{"y":3}}', { "if-match": etag })).status).toBe(200);
      const expected = { device_id: "d1", battery_level: 79, "a,b": 1, deep: { x: 1, y: 3 } };
      expect(await (await get("doc/patch")).json()).toEqual(expected);
      expect((await patch('{"battery_level":1}', { "if-match": etag })).status).toBe(412);
      for (const [body, code] of [
        ["", "body_required"],
        ["[1]", "json_not_object"],
        ["{", "json_invalid"],
      ] as const) {
        expect((await problemOf(await patch(body))).code).toBe(code);
      }
      const plain = await patch("{}", { "content-type": "application/json" });
      expect([plain.status, (await problemOf(plain)).code]).toEqual([415, "media_type_unsupported"]);
      expect((await patch("{}", { "x-kintsugi-sha256": "0".repeat(64) })).status).toBe(400);
      expect(await (await get("doc/patch")).json()).toEqual(expected);
    });
  });

  describe("GET ?info", () => {
    test("describes an object, also as <key>/info where no object has that name", async () => {
      await put("info/a", "hello", { "x-kintsugi-meta-m": "v" });
      const info = (await (await get("info/a?info")).json()) as Record<string, unknown>;
      expect(info).toMatchObject({
        bucket: "default",
        key: `${PREFIX}/info/a`,
        sizeBytes: 5,
        userMetadata: { m: "v" },
      });
      expect(info["placement"]).toBeDefined();
      expect(await (await get("info/a/info")).json()).toEqual(info);
      await put("info/a/info", "an object");
      expect(await (await get("info/a/info")).text()).toBe("an object");
      expect((await get("info/b/info")).status).toBe(404);
    });
  });

  describe("GET /objects", () => {
    test("lists by prefix in byte order, groups, and pages", async () => {
      for (const key of ["list/b", "list/a/1", "list/a/2", "list/%C3%A9", "list/Z"]) await put(key, key);
      type Page = { objects: { key: string }[]; commonPrefixes: string[]; next: string | null };
      const list = async (query: string) =>
        (await (await call("GET", `/objects?prefix=${PREFIX}/list/${query}`)).json()) as Page;
      const names = (page: Page) => page.objects.map((object) => object.key.slice(PREFIX.length + 6));
      expect(names(await list(""))).toEqual(["Z", "a/1", "a/2", "b", "é"]);
      const grouped = await list("&delimiter=/");
      expect([names(grouped), grouped.commonPrefixes]).toEqual([["Z", "b", "é"], [`${PREFIX}/list/a/`]]);
      const seen: string[] = [];
      for (let after = ""; ;) {
        const page = await list(`&limit=2&after=${encodeURIComponent(after)}`);
        expect(page.objects.length).toBeLessThanOrEqual(2);
        seen.push(...names(page));
        if (page.next === null) break;
        after = page.next;
      }
      expect(seen).toEqual(["Z", "a/1", "a/2", "b", "é"]);
      for (const query of ["limit=0", "limit=1001", "limit=x", "sort=up", "prefix=%zz"]) {
        expect((await call("GET", `/objects?${query}`)).status, query).toBe(400);
      }
    });
  });

  describe("every route", () => {
    test("names the methods it knows", async () => {
      for (const [method, path, allow] of [
        ["POST", "/health", "GET, HEAD"],
        ["PUT", "/objects", "GET, HEAD"],
        ["PUT", "/read/a", "GET, HEAD"],
        ["GET", "/write", "POST"],
        ["OPTIONS", `/objects/${PREFIX}`, "GET, PUT, POST, PATCH, DELETE, HEAD"],
      ] as const) {
        const refused = await call(method, path);
        expect([refused.status, refused.headers.get("allow")], path).toEqual([405, allow]);
        expect((await problemOf(refused)).code).toBe("method_not_allowed");
      }
      expect((await problemOf(await call("GET", "/nowhere"))).code).toBe("object_not_found");
      expect((await problemOf(await call("PUT", "/objects/", { body: "a" }))).code).toBe("key_invalid");
    });

    test("echoes a sane request id and makes one otherwise", async () => {
      const given = await call("GET", "/health", { headers: { "x-request-id": "trace-1.2:3" } });
      expect(given.headers.get("x-request-id")).toBe("trace-1.2:3");
      const replaced = await call("GET", "/health", { headers: { "x-request-id": "<script>" } });
      expect(replaced.headers.get("x-request-id")).toMatch(/^[0-9a-f]{12}-[0-9a-z]+$/);
    });

    test("answers HEAD like GET without a body", async () => {
      for (const path of ["/", "/health", "/objects", "/cluster/health", "/cluster/stats", "/metrics/summary"]) {
        const [got, head] = [await call("GET", path), await call("HEAD", path)];
        expect(head.status, path).toBe(got.status);
        expect(head.headers.get("content-type"), path).toBe(got.headers.get("content-type"));
        expect(await head.text(), path).toBe("");
        await got.arrayBuffer();
      }
    });
  });

  describe("pages for operators", () => {
    test("tell health, stats and figures", async () => {
      expect(await (await call("GET", "/health")).json()).toEqual({ status: "ok" });
      expect(await (await call("GET", "/cluster/health")).json()).toMatchObject({ status: "ok" });
      const stats = (await (await call("GET", "/cluster/stats")).json()) as Record<string, unknown>;
      for (const name of [
        "version",
        "runtime",
        "uptimeSeconds",
        "nodes",
        "buckets",
        "totals",
        "inFlightBytes",
        "openIntents",
      ]) {
        expect(stats, name).toHaveProperty(name);
      }
      const metrics = await (await call("GET", "/metrics")).text();
      expect(metrics).toMatch(
        /http_request_duration_seconds_count\{method="PUT",route="\/objects\/:key",status="2xx"\} \d+/,
      );
      expect(metrics).toContain("kintsugi_node_live_bytes{");
      expect(metrics).toContain("nodejs_eventloop_lag_seconds");
      const summary = (await (await call("GET", "/metrics/summary")).json()) as { requests: { success: number } };
      expect(summary.requests.success).toBeGreaterThan(0);
      const csv = await call("GET", "/metrics/summary", { headers: { accept: "text/csv" } });
      expect(csv.headers.get("content-type")).toMatch(/^text\/csv/);
      expect(await csv.text()).toMatch(/^metric,value\r\n/);
      expect((await call("GET", "/metrics/summary?format=xml")).status).toBe(400);
      const page = await call("GET", "/");
      expect(page.headers.get("content-type")).toBe("text/html; charset=utf-8");
      expect(await page.text()).toContain(`curl ${target.url}/objects/`);
    });
  });
}
