/** The figures that people ask for, worked out from what the gateway counts anyway; as JSON or as CSV. */
import type { Histogram } from "prom-client";
import { clusterTotals, type ClusterSnapshot } from "./cluster-view.ts";
import { DURATION_BUCKETS_S, type HttpMetrics } from "./metrics.ts";
import type { RepairTimes } from "./repair-times.ts";

type Latency = { readonly p50Ms: number | null; readonly p95Ms: number | null; readonly p99Ms: number | null };
type Counts = {
  readonly total: number;
  readonly success: number;
  readonly clientErrors: number;
  readonly serverErrors: number;
};

export type MetricsSummary = {
  readonly uptimeSeconds: number;
  readonly requests: Counts & { readonly inFlight: number };
  readonly latency: Latency;
  /** Of the last minute. */
  readonly throughput: {
    readonly requestsPerSecond: number;
    readonly bytesInPerSecond: number;
    readonly bytesOutPerSecond: number;
  };
  readonly bytes: { readonly in: number; readonly out: number };
  readonly storage: ReturnType<typeof clusterTotals> | null;
  readonly repair: { readonly nodesReturned: number; readonly meanTimeToRepairMs: number | null };
  readonly routes: readonly ({ readonly method: string; readonly route: string } & Counts & Latency)[];
};

export type SummarySources = {
  readonly uptimeMs: number;
  readonly metrics: HttpMetrics;
  readonly repairs: RepairTimes;
  /** Null when the cluster could not be asked. */
  readonly cluster: ClusterSnapshot | null;
};

export async function summarizeMetrics({
  uptimeMs,
  metrics,
  repairs,
  cluster,
}: SummarySources): Promise<MetricsSummary> {
  const groups = await groupDurations(metrics.duration);
  const all = mergeGroups([...groups.values()]);
  const recent = metrics.recent.perSecond();
  return {
    uptimeSeconds: Math.floor(uptimeMs / 1_000),
    requests: { ...countsOf(all), inFlight: metrics.inFlight() },
    latency: latencyOf(all),
    throughput: {
      requestsPerSecond: rounded(recent.requests),
      bytesInPerSecond: rounded(recent.bytesIn),
      bytesOutPerSecond: rounded(recent.bytesOut),
    },
    bytes: { in: metrics.bytesIn(), out: metrics.bytesOut() },
    storage: cluster === null ? null : clusterTotals(cluster),
    repair: { nodesReturned: repairs.count(), meanTimeToRepairMs: repairs.meanMs() },
    routes: [...groups.values()].map((group) => ({
      method: group.method,
      route: group.route,
      ...countsOf(group),
      ...latencyOf(group),
    })),
  };
}

/** Two columns, `metric` and `value`; nested names are joined by dots. */
export function summaryToCsv(summary: MetricsSummary): string {
  const rows: [string, string][] = [];
  const add = (name: string, value: unknown) => {
    if (typeof value === "object" && value !== null && !Array.isArray(value)) {
      for (const [key, child] of Object.entries(value)) add(name === "" ? key : `${name}.${key}`, child);
    } else rows.push([name, value === null ? "" : String(value)]);
  };
  const { routes, ...rest } = summary;
  add("", rest);
  for (const { method, route, ...figures } of routes) add(`routes.${method} ${route}`, figures);
  return ["metric,value", ...rows.map((row) => row.map(csvField).join(","))].join("\r\n") + "\r\n";
}

function csvField(text: string): string {
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

type Group = {
  method: string;
  route: string;
  /** Requests by status class. */
  classes: Map<string, number>;
  /** How many took at most the bound of the same index; the last is all of them. */
  cumulative: number[];
};

async function groupDurations(histogram: Histogram<"method" | "route" | "status">): Promise<Map<string, Group>> {
  const groups = new Map<string, Group>();
  for (const { metricName, labels, value } of (await histogram.get()).values) {
    const { method = "", route = "", status = "" } = labels as Record<string, string>;
    const name = `${method} ${route}`;
    const group = groups.get(name) ?? { method, route, classes: new Map(), cumulative: emptyCumulative() };
    groups.set(name, group);
    if (metricName?.endsWith("_count")) group.classes.set(status, (group.classes.get(status) ?? 0) + value);
    if (!metricName?.endsWith("_bucket")) continue;
    const bound = (labels as Record<string, string | number>)["le"];
    const index = bound === "+Inf" ? DURATION_BUCKETS_S.length : DURATION_BUCKETS_S.indexOf(Number(bound));
    group.cumulative[index] = (group.cumulative[index] ?? 0) + value;
  }
  return groups;
}

function emptyCumulative(): number[] {
  return Array.from({ length: DURATION_BUCKETS_S.length + 1 }, () => 0);
}

function mergeGroups(groups: readonly Group[]): Group {
  const merged: Group = { method: "", route: "", classes: new Map(), cumulative: emptyCumulative() };
  for (const group of groups) {
    for (const [status, count] of group.classes) merged.classes.set(status, (merged.classes.get(status) ?? 0) + count);
    merged.cumulative = merged.cumulative.map((count, index) => count + (group.cumulative[index] ?? 0));
  }
  return merged;
}

function countsOf(group: Group): Counts {
  const of = (status: string) => group.classes.get(status) ?? 0;
  const total = [...group.classes.values()].reduce((sum, count) => sum + count, 0);
  const clientErrors = of("4xx");
  const serverErrors = of("5xx");
  return { total, success: total - clientErrors - serverErrors, clientErrors, serverErrors };
}

function latencyOf(group: Group): Latency {
  const ms = (quantile: number) => {
    const seconds = quantileOf(DURATION_BUCKETS_S, group.cumulative, quantile);
    return seconds === null ? null : rounded(seconds * 1_000);
  };
  return { p50Ms: ms(0.5), p95Ms: ms(0.95), p99Ms: ms(0.99) };
}

/**
 * Reads a quantile off cumulative counts, straight between two bounds. `cumulative` has one more entry than `bounds`,
 * for what lies above the last; such a quantile is the last bound. Null without observations.
 */
export function quantileOf(bounds: readonly number[], cumulative: readonly number[], quantile: number): number | null {
  const total = cumulative.at(-1) ?? 0;
  if (total === 0) return null;
  const rank = quantile * total;
  const index = cumulative.findIndex((count) => count >= rank);
  const upper = bounds[index];
  if (upper === undefined) return bounds.at(-1) ?? null;
  const lower = bounds[index - 1] ?? 0;
  const before = cumulative[index - 1] ?? 0;
  const within = (cumulative[index] ?? 0) - before;
  return within === 0 ? upper : lower + ((upper - lower) * (rank - before)) / within;
}

function rounded(value: number): number {
  return Math.round(value * 1_000) / 1_000;
}
