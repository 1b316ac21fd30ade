import { Registry } from "prom-client";
import { describe, expect, test } from "vitest";
import { registerClusterMetrics } from "../../../src/gateway/cluster-metrics.ts";
import { clusterHealth, clusterTotals } from "../../../src/gateway/cluster-view.ts";
import { createHttpMetrics, registerCodingMetrics, registerProcessMetrics } from "../../../src/gateway/metrics.ts";
import { quantileOf, summarizeMetrics, summaryToCsv } from "../../../src/gateway/metrics-summary.ts";
import { RateWindow } from "../../../src/gateway/rate-window.ts";
import { ManualClock } from "../../support/manual-clock.ts";
import { createTestDesk } from "../../support/test-desk.ts";
import { createTestCluster } from "../../support/rest-server.ts";

const outcome = { method: "GET", route: "/objects/:key", status: 200, elapsedMs: 4, bytesIn: 10, bytesOut: 1_000 };

describe("createHttpMetrics()", () => {
  test("shows durations by method, route and status class, bytes and requests in flight", async () => {
    const registry = new Registry();
    const metrics = createHttpMetrics(new ManualClock(), registry);
    for (const status of [200, 206, 404, 500]) {
      metrics.begin();
      metrics.end({ ...outcome, status });
    }
    metrics.begin();
    const text = await registry.metrics();
    expect(text).toContain('http_request_duration_seconds_count{method="GET",route="/objects/:key",status="2xx"} 2');
    expect(text).toContain(
      'http_request_duration_seconds_bucket{le="0.003",method="GET",route="/objects/:key",status="4xx"} 0',
    );
    expect(text).toContain(
      'http_request_duration_seconds_bucket{le="0.005",method="GET",route="/objects/:key",status="4xx"} 1',
    );
    expect(text).toContain(
      'http_request_duration_seconds_bucket{le="+Inf",method="GET",route="/objects/:key",status="5xx"} 1',
    );
    expect(text).toContain("# TYPE http_request_duration_seconds histogram");
    expect(text).toContain('http_body_bytes_total{direction="in"} 40');
    expect(text).toContain('http_body_bytes_total{direction="out"} 4000');
    expect(text).toContain("http_requests_in_flight 1");
    expect(await registry.metrics()).toBe(text);
  });
});

describe("registerClusterMetrics()", () => {
  test("asks the cluster once for a scrape and leaves out what did not answer", async () => {
    const registry = new Registry();
    const cluster = createTestCluster(["live", "down"]);
    let asked = 0;
    registerClusterMetrics(registry, { ...cluster, snapshot: () => ((asked += 1), cluster.snapshot()) });
    const text = await registry.metrics();
    expect(asked).toBe(1);
    expect(text).toContain('kintsugi_node_state{node="n2",state="down"} 1');
    expect(text).toContain('kintsugi_node_state{node="n2",state="live"} 0');
    expect(text).toContain('kintsugi_node_live_bytes{node="n1"} 300');
    expect(text).not.toContain('kintsugi_node_live_bytes{node="n2"}');
    expect(text).toContain('kintsugi_bucket_bytes{bucket="default"} 600');
    expect(text).toContain("kintsugi_intents_open 1");
  });

  test("shows no stale figures when the cluster cannot be asked", async () => {
    const registry = new Registry();
    let reachable = true;
    const cluster = createTestCluster();
    const snapshot = () => (reachable ? cluster.snapshot() : Promise.reject(new Error("away")));
    registerClusterMetrics(registry, { ...cluster, snapshot });
    expect(await registry.metrics()).toContain('kintsugi_node_blobs{node="n1"} 2');
    reachable = false;
    expect(await registry.metrics()).not.toContain('kintsugi_node_blobs{node="n1"}');
  });
});

test("registerProcessMetrics() and registerCodingMetrics() tell of process, event loop and threads", async () => {
  const registry = new Registry();
  registerProcessMetrics(registry);
  registerCodingMetrics(registry, { spent: () => ({ hashMs: 1_500, encodeMs: 250, decodeMs: 0 }) });
  const text = await registry.metrics();
  for (const name of ["process_resident_memory_bytes", "process_cpu_seconds_total", "nodejs_eventloop_lag_seconds"]) {
    expect(text).toContain(name);
  }
  expect(text).toContain('kintsugi_coding_seconds_total{work="hash"} 1.5');
});

describe("summarizeMetrics()", () => {
  test("counts successes and failures, latencies, throughput and storage", async () => {
    const clock = new ManualClock();
    const metrics = createHttpMetrics(clock, new Registry());
    for (let index = 0; index < 98; index += 1) {
      metrics.begin();
      metrics.end(outcome);
    }
    for (const status of [404, 503]) {
      metrics.begin();
      metrics.end({ ...outcome, status, elapsedMs: 900 });
    }
    clock.advance(9_000);
    const cluster = createTestCluster();
    const [cache, snapshot] = [cluster.cache(), await cluster.snapshot()];
    const healing = await createTestDesk().status();
    const summary = summarizeMetrics({ uptimeMs: 9_000, metrics, healing, cache, cluster: snapshot });
    expect(summary.requests).toEqual({ total: 100, success: 98, clientErrors: 1, serverErrors: 1, inFlight: 0 });
    expect(summary.latency.p50Ms).toBeGreaterThan(3);
    expect(summary.latency.p50Ms).toBeLessThanOrEqual(5);
    expect(summary.latency.p99Ms).toBeGreaterThan(500);
    expect(summary.throughput).toEqual({ requestsPerSecond: 10, bytesInPerSecond: 100, bytesOutPerSecond: 10_000 });
    expect(summary.cache).toMatchObject({ hits: 30, misses: 10, hitRate: 0.75, bytes: 3_000 });
    expect(summary.storage).toMatchObject({ objectCount: 3, liveBytes: 900, overhead: 1.5 });
    expect(summary.routes).toHaveLength(1);

    const rows = summaryToCsv(summary).trimEnd().split("\r\n");
    expect(rows[0]).toBe("metric,value");
    expect(rows).toContain("requests.total,100");
    expect(rows).toContain("cache.hitRate,0.75");
    expect(rows).toContain("storage.overhead,1.5");
    expect(rows).toContain("repair.meanTimeToRepairMs,3000");
    expect(rows).toContain("repair.replicationLag,4");
    expect(rows).toContain("repair.incidentsOpen,1");
    expect(rows).toContain("repair.incidents.i2.repairMs,4000");
    expect(rows).toContain("repair.incidents.i3.repairMs,");
    expect(rows).toContain("routes.GET /objects/:key.serverErrors,1");
  });
});

describe("quantileOf()", () => {
  test("reads straight between two bounds and stops at the last", () => {
    expect(quantileOf([1, 2, 4], [0, 10, 0, 0], 0.5)).toBe(1.5);
    expect(quantileOf([1, 2, 4], [5, 0, 5, 0], 0.5)).toBe(1);
    expect(quantileOf([1, 2, 4], [5, 0, 5, 0], 0.75)).toBe(3);
    expect(quantileOf([1, 2, 4], [0, 0, 0, 3], 0.5)).toBe(4);
    expect(quantileOf([1, 2, 4], [0, 0, 0, 0], 0.5)).toBeNull();
  });
});

describe("RateWindow", () => {
  test("forgets what is older than a minute", () => {
    const clock = new ManualClock();
    const window = new RateWindow(clock);
    window.add(60, 0);
    clock.advance(59_999);
    expect(window.perSecond()).toEqual({ requests: 1 / 60, bytesIn: 1, bytesOut: 0 });
    clock.advance(1);
    expect(window.perSecond().requests).toBe(0);
    window.add(0, 120);
    expect(window.perSecond().bytesOut).toBe(2);
  });
});

describe("clusterHealth() and clusterTotals()", () => {
  test.each([
    [["live", "live", "live"], "ok"],
    [["live", "live", "full"], "degraded"],
    [["live", "fenced", "down"], "unavailable"],
  ] as const)("call %j %s", (states, status) => {
    const cluster = createTestCluster(states);
    expect(clusterHealth({ nodes: cluster.nodes(), writeNodesMin: cluster.writeNodesMin }).status).toBe(status);
  });

  test("say that something is being mended while blobs are missing", () => {
    const nodes = createTestCluster().nodes();
    const health = (replicationLag: number | null) =>
      clusterHealth({ nodes, writeNodesMin: 2, healing: { replicationLag } });
    expect(health(2).problems).toEqual(["2 blobs are missing or not to be reached: being mended"]);
    expect([health(2).status, health(0).status, health(null).status]).toEqual(["degraded", "ok", "ok"]);
  });

  test("name what is wrong with a cluster, and call one without NATS unavailable", () => {
    const nodes = createTestCluster(["live", "live", "down"]).nodes();
    const seen = {
      state: "live",
      instance: "1",
      address: null,
      region: "r",
      zone: "z",
      version: "1",
      silentMs: 0,
      uptimeMs: 1,
    } as const;
    const processes = [
      { ...seen, role: "gateway", name: "gateway-1", load: {} },
      { ...seen, role: "healer", name: "healer-1", state: "suspect", load: {} },
    ] as const;
    const coordination = {
      ...{ reachable: true, leader: null, leaderKnown: true, server: "n", indexLag: 0 },
      ...{ serversAway: ["nats-2"], streamsWaiting: ["META_0"] },
    };
    expect(clusterHealth({ nodes, writeNodesMin: 2, processes, coordination })).toEqual({
      status: "degraded",
      nodesLive: 2,
      nodesTotal: 3,
      problems: [
        "n3 is down: not reachable, its blobs are read from others",
        "healer-1 is suspect: not heard of, others do its work",
        "NATS server nats-2 is down; the others do its work while most of them run",
        "stream META_0 has no leader: what needs it waits for an election, some seconds",
        "no healer leads",
      ],
    });
    const unsure = { ...coordination, leaderKnown: false };
    expect(clusterHealth({ nodes, writeNodesMin: 2, processes, coordination: unsure }).problems).toContain(
      "NATS cannot tell yet which healer leads",
    );
    const alone = { ...coordination, reachable: false };
    expect(clusterHealth({ nodes, writeNodesMin: 2, processes, coordination: alone })).toMatchObject({
      status: "unavailable",
      problems: [
        expect.stringMatching(/^n3 is down/),
        expect.stringMatching(/^healer-1 is suspect/),
        "NATS does not answer: no writes, and no reads that have to be current, until it does",
      ],
    });
  });

  test("have no overhead to tell while nothing is stored", async () => {
    const snapshot = await createTestCluster().snapshot();
    expect(clusterTotals({ ...snapshot, buckets: [] }).overhead).toBeNull();
  });
});
