/** What an operator looks at: health, stats and metrics. */
import type { Registry } from "prom-client";
import type { HealingDesk } from "../../desk/healing-desk.ts";
import { StoreError } from "../../domain/errors.ts";
import type { Clock } from "../../lib/clock.ts";
import type { HttpExchange } from "../../runtime/http-exchange.ts";
import { clusterHealth, clusterTotals, type ClusterView } from "../cluster-view.ts";
import type { HttpMetrics } from "../metrics.ts";
import { summarizeMetrics, summaryToCsv } from "../metrics-summary.ts";
import { refuseBody, sendJson } from "./answer.ts";
import type { RestHandler } from "./serve-route.ts";
import { parseQuery } from "./target.ts";

export type ClusterRouteDeps = {
  readonly clock: Clock;
  readonly cluster: ClusterView;
  readonly desk: Pick<HealingDesk, "status">;
  readonly metrics: HttpMetrics;
  readonly registry: Registry;
  readonly about: { readonly version: string; readonly runtime: string };
  readonly startedAtMs: number;
};

export type ClusterRoutes = Record<"health" | "clusterHealth" | "stats" | "metrics" | "summary", RestHandler>;

const HEALTHY = Buffer.from('{"status":"ok"}');

export function createClusterRoutes(deps: ClusterRouteDeps): ClusterRoutes {
  const { cluster } = deps;
  return {
    /** Says that this process answers, nothing more: for load balancers, many times a second. */
    async health({ exchange, requestId, query }) {
      refuseBody(exchange);
      parseQuery(query, []);
      await sendBytes(exchange, requestId, "application/json", HEALTHY);
    },
    async clusterHealth({ exchange, requestId, query }) {
      refuseBody(exchange);
      parseQuery(query, []);
      const [nodes, processes, coordination] = [cluster.nodes(), cluster.processes(), await cluster.coordination()];
      const { writeNodesMin } = cluster;
      const health = clusterHealth({ nodes, writeNodesMin, processes, coordination, healing: cluster.healing() });
      const status = health.status === "unavailable" ? 503 : 200;
      const inCluster = coordination === null ? {} : { coordination, processes };
      await sendJson(exchange, status, operatorHeaders(requestId), {
        ...health,
        nodes,
        healing: cluster.healing(),
        ...inCluster,
      });
    },
    async stats({ exchange, requestId, query }) {
      refuseBody(exchange);
      parseQuery(query, []);
      const snapshot = await cluster.snapshot();
      const { processes, coordination, streams, healing } = snapshot;
      const { writeNodesMin } = cluster;
      const inCluster = coordination === null ? {} : { coordination, processes, streams };
      await sendJson(exchange, 200, operatorHeaders(requestId), {
        ...deps.about,
        uptimeSeconds: Math.floor(uptimeMs(deps) / 1_000),
        health: clusterHealth({ nodes: cluster.nodes(), writeNodesMin, processes, coordination, healing }),
        totals: clusterTotals(snapshot),
        nodes: snapshot.nodes.map(({ info, usage }) => ({ ...info, usage })),
        buckets: snapshot.buckets,
        inFlightBytes: snapshot.inFlightBytes,
        inFlightBytesMax: snapshot.inFlightBytesMax,
        cache: cluster.cache(),
        requestsInFlight: deps.metrics.inFlight(),
        openIntents: snapshot.openIntents,
        healing,
        ...inCluster,
      });
    },
    async metrics({ exchange, requestId, query }) {
      refuseBody(exchange);
      parseQuery(query, []);
      const text = Buffer.from(await deps.registry.metrics());
      await sendBytes(exchange, requestId, deps.registry.contentType, text);
    },
    async summary({ exchange, requestId, query }) {
      refuseBody(exchange);
      const asCsv = wantsCsv(parseQuery(query, ["format"]).format, exchange.incoming.headers.accept);
      const [snapshot, healing] = await Promise.all([
        cluster.snapshot().catch(() => null),
        deps.desk.status().catch(() => null),
      ]);
      const { metrics } = deps;
      const cache = cluster.cache();
      const summary = summarizeMetrics({ uptimeMs: uptimeMs(deps), metrics, healing, cache, cluster: snapshot });
      if (!asCsv) return await sendJson(exchange, 200, operatorHeaders(requestId), summary);
      await sendBytes(exchange, requestId, "text/csv; charset=utf-8", Buffer.from(summaryToCsv(summary)));
    },
  };
}

function uptimeMs({ clock, startedAtMs }: ClusterRouteDeps): number {
  return clock.monotonicMs() - startedAtMs;
}

/** @throws {StoreError} `parameter_invalid` */
function wantsCsv(format: string | undefined, accept: string | undefined): boolean {
  if (format === undefined) return /\btext\/csv\b/.test(accept ?? "");
  if (format === "csv" || format === "json") return format === "csv";
  throw new StoreError("parameter_invalid", "The parameter format is json or csv");
}

function operatorHeaders(requestId: string): string[] {
  return ["X-Request-Id", requestId, "Cache-Control", "no-store"];
}

async function sendBytes(
  exchange: HttpExchange,
  requestId: string,
  contentType: string,
  bytes: Uint8Array,
): Promise<void> {
  const headers = operatorHeaders(requestId);
  headers.push("Content-Type", contentType, "Content-Length", String(bytes.length));
  await exchange.send(200, headers, exchange.method === "HEAD" ? null : bytes);
}
