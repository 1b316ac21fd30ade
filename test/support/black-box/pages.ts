/** What operators look at, and how errors are told. */
import { describe, expect, test } from "vitest";
import { problemOf, receiptOf } from "./client.ts";
import { statsOf, type GetServed } from "./served.ts";

const METHODS_OF = {
  "/objects/pages/x": "GET, PUT, POST, PATCH, DELETE, HEAD",
  "/objects": "GET, HEAD",
  "/write": "POST",
  "/read/x": "GET, HEAD",
  "/delete/x": "DELETE",
  "/health": "GET, HEAD",
  "/cluster/health": "GET, HEAD",
  "/cluster/stats": "GET, HEAD",
  "/metrics": "GET, HEAD",
  "/metrics/summary": "GET, HEAD",
  "/": "GET, HEAD",
} as const;
const METHODS = ["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"] as const;

export function pageChecks(served: GetServed, runtime: string): void {
  describe("pages", () => {
    test("health and stats tell the state of the store", async () => {
      const { client } = served();
      receiptOf(await client.put("/objects/pages/counted?strategy=ec&consistency=all", Buffer.alloc(100_000, 3)));
      expect(JSON.parse((await client.get("/health")).body.toString())).toEqual({ status: "ok" });
      const health = JSON.parse((await client.get("/cluster/health")).body.toString()) as Record<string, unknown>;
      expect(health).toMatchObject({ status: "ok", nodesLive: 6, nodesTotal: 6 });
      expect(health["nodes"]).toHaveLength(6);
      const stats = await statsOf(client);
      expect(stats).toMatchObject({ health: { status: "ok", nodesLive: 6, nodesTotal: 6 }, requestsInFlight: 1 });
      expect(stats.runtime.toLowerCase()).toContain(runtime);
      expect(stats.version).toMatch(/^\d+\.\d+\.\d+/);
      expect(stats.totals.objectCount).toBeGreaterThan(0);
      expect(stats.totals.objectBytes).toBeGreaterThanOrEqual(100_000);
      expect(stats.totals.blobCount).toBeGreaterThanOrEqual(6);
      expect(stats.totals.overhead).toBeGreaterThan(1);
      expect(stats.nodes.map(({ name, state }) => [name, state])).toEqual(
        [1, 2, 3, 4, 5, 6].map((number) => [`node-${number}`, "live"]),
      );
    });

    test("/metrics is what Prometheus reads, with the figures that were promised", async () => {
      const { client } = served();
      receiptOf(await client.put("/objects/pages/measured?strategy=ec&consistency=all", Buffer.alloc(1_000_000, 3)));
      const answer = await client.get("/metrics");
      expect(answer.headers["content-type"]).toMatch(/^text\/plain/);
      const text = answer.body.toString();
      const lines = text.split("\n");
      expect(lines.filter((line) => !/^(|# (HELP|TYPE) .+|[a-z_][\w:]*(\{.*\})? [-+\w.]+)$/i.test(line))).toEqual([]);
      for (const line of [
        "# TYPE http_request_duration_seconds histogram",
        "# TYPE http_body_bytes_total counter",
        "# TYPE storage_errors counter",
        "http_requests_in_flight 1",
        'kintsugi_node_state{node="node-1",state="live"} 1',
      ]) {
        expect(lines, line).toContain(line);
      }
      for (const series of [
        'http_request_duration_seconds_count{method="PUT",route="/objects/:key",status="2xx"}',
        'http_body_bytes_total{direction="in"}',
        'kintsugi_object_writes_total{strategy="ec"}',
        "kintsugi_node_bytes_written_total",
        'kintsugi_node_live_bytes{node="node-6"}',
        'kintsugi_coding_seconds_total{work="hash"}',
        'kintsugi_coding_seconds_total{work="encode"}',
      ]) {
        const line = lines.find((candidate) => candidate.startsWith(`${series} `)) ?? "";
        expect(Number(line.split(" ").at(-1) || Number.NaN), series).toBeGreaterThan(0);
      }
      expect(text).toMatch(/^kintsugi_intents_open \d+$/m);
      expect(text).toMatch(/^kintsugi_in_flight_bytes \d+$/m);
      expect(text).toMatch(/^nodejs_eventloop_lag_\w*seconds \S+$/m);
      expect(text).not.toContain("pages/counted");
    });

    test("/metrics/summary is JSON or CSV", async () => {
      const { client } = served();
      const asJson = await client.get("/metrics/summary");
      expect(asJson.headers["content-type"]).toBe("application/json");
      expect(Object.keys(JSON.parse(asJson.body.toString()) as object).length).toBeGreaterThan(3);
      for (const answer of [
        await client.get("/metrics/summary?format=csv"),
        await client.get("/metrics/summary", { accept: "text/csv" }),
      ]) {
        expect(answer.headers["content-type"]).toBe("text/csv; charset=utf-8");
        const lines = answer.body.toString().trim().split(/\r?\n/);
        expect(lines.length).toBeGreaterThan(3);
        const columns = (lines[0] as string).split(",").length;
        expect(lines.every((line) => line.split(",").length === columns)).toBe(true);
      }
      expect(problemOf(await client.get("/metrics/summary?format=xml")).code).toBe("parameter_invalid");
    });

    test("what was written is read from memory, as /metrics, /metrics/summary and /cluster/stats tell", async () => {
      const { client } = served();
      type Figures = { cache: { hits: number; misses: number; hitRate: number; bytes: number; entries: number } };
      const figures = async (page: string) => JSON.parse((await client.get(page)).body.toString()) as Figures;
      const body = Buffer.alloc(70_000, "cached ");
      await client.put("/objects/pages/cached?strategy=replication", body);
      await client.put("/objects/pages/small?strategy=replication", body.subarray(0, 9_000));
      const before = await figures("/cluster/stats");
      for (let read = 0; read < 3; read += 1) {
        expect((await client.get("/objects/pages/cached")).body.equals(body)).toBe(true);
        expect((await client.get("/objects/pages/small")).body.length).toBe(9_000);
      }
      const { cache } = await figures("/metrics/summary");
      expect(cache.hits - before.cache.hits).toBeGreaterThanOrEqual(5);
      expect(cache.hitRate).toBeGreaterThan(0);
      expect(cache.entries).toBeGreaterThanOrEqual(2);
      const text = (await client.get("/metrics")).body.toString();
      expect(text).toMatch(/^kintsugi_cache_hits_total [1-9]\d*$/m);
      expect(text).toMatch(/^kintsugi_cache_bytes [1-9]\d*$/m);
      expect((await client.get("/metrics/summary?format=csv")).body.toString()).toMatch(/^cache\.hitRate,0\.\d+\r$/m);
    });

    test("the landing page shows what runs and lets nothing else in", async () => {
      const { client } = served();
      const answer = await client.get("/");
      expect(answer.status).toBe(200);
      expect(answer.headers["content-type"]).toBe("text/html; charset=utf-8");
      expect(answer.headers["content-security-policy"]).toContain("default-src 'none'");
      const page = answer.body.toString();
      expect(page).toContain("6 of 6 live");
      expect(page).toContain(`curl http://${client.url.host}/objects/hello/package.json`);
      const odd = await client.get("/", { host: 'x"><script>alert(1)</script>' });
      expect(odd.body.toString()).not.toContain("<script>");
    });

    test.each(Object.entries(METHODS_OF))("%s answers other methods 405 with Allow", async (target, allow) => {
      const { client } = served();
      for (const method of METHODS) {
        if (allow.split(", ").includes(method)) continue;
        const answer = await client.send(method, target);
        expect([answer.status, answer.headers.allow], method).toEqual([405, allow]);
        if (method !== "HEAD") expect(problemOf(answer).code, method).toBe("method_not_allowed");
      }
    });

    test("a problem tells code, request id and type, and the id that the client gave", async () => {
      const { client } = served();
      const cases = [
        await client.get("/objects/pages/absent", { "x-request-id": "my-id-1" }),
        await client.get("/nowhere", { "x-request-id": "my-id-1" }),
        await client.put("/objects/pages/x?strategy=raid", "x", { "x-request-id": "my-id-1" }),
        await client.put("/objects/pages/x?consistency=maybe", "x", { "x-request-id": "my-id-1" }),
        await client.put("/objects/pages/x?unknown=1", "x", { "x-request-id": "my-id-1" }),
        await client.put("/objects/pages/x", "x", { "x-request-id": "my-id-1", "content-encoding": "gzip" }),
        await client.put("/objects/pages/x", "x", { "x-request-id": "my-id-1", "content-range": "bytes 0-0/1" }),
        await client.send("GET", "/objects/pages/x", { body: "x", headers: { "x-request-id": "my-id-1" } }),
      ];
      const codes = cases.map((answer) => {
        const problem = problemOf(answer);
        expect(answer.headers).toMatchObject({
          "content-type": "application/problem+json",
          "x-request-id": "my-id-1",
          "cache-control": "no-store",
        });
        expect(problem).toMatchObject({
          type: `urn:kintsugi:problem:${problem.code}`,
          status: answer.status,
          requestId: "my-id-1",
        });
        expect(problem.title.length + problem.detail.length).toBeGreaterThan(20);
        return `${answer.status} ${problem.code}`;
      });
      expect(codes).toEqual([
        "404 object_not_found",
        "404 object_not_found",
        "400 strategy_unknown",
        "400 parameter_invalid",
        "400 parameter_invalid",
        "415 media_type_unsupported",
        "400 header_invalid",
        "400 request_malformed",
      ]);
      const own = await client.get("/objects/pages/absent");
      expect(own.headers["x-request-id"]).toBe(problemOf(own).requestId);
      expect(own.headers["x-request-id"]).not.toBe("my-id-1");
    });

    test("user metadata and content type have limits of their own", async () => {
      const { client } = served();
      const tooMuch = await client.put("/objects/pages/meta", "x", { "x-kintsugi-meta-a": "v".repeat(8_200) });
      expect([tooMuch.status, problemOf(tooMuch).code]).toEqual([400, "metadata_too_large"]);
      const long = await client.put("/objects/pages/meta", "x", { "content-type": `text/${"x".repeat(1_100)}` });
      expect([long.status, problemOf(long).code]).toEqual([400, "header_invalid"]);
      receiptOf(await client.put("/objects/pages/meta", "x", { "x-kintsugi-meta-a": "v".repeat(8_000) }));
      expect((await client.get("/objects/pages/meta")).headers["x-kintsugi-meta-a"]).toBe("v".repeat(8_000));
    });
  });
}
