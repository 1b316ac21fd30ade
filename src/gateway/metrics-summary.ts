/** The figures that people ask for, worked out from what the gateway counts anyway; as JSON or as CSV. */
import type { HealingStatus, Incident } from "../domain/healing.ts";
import { meanRepairMs } from "../healer/incidents.ts";
import type { CacheFigures } from "../object/content-cache.ts";
import { clusterTotals, type ClusterSnapshot } from "./cluster-view.ts";
import { DURATION_BOUNDS_S, type DurationSeries } from "./duration-histogram.ts";
import type { HttpMetrics } from "./metrics.ts";

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
  readonly cache: CacheFigures;
  readonly storage: ReturnType<typeof clusterTotals> | null;
  /** Null when nobody who leads healing could be asked. */
  readonly repair: RepairSummary | null;
  readonly routes: readonly ({ readonly method: string; readonly route: string } & Counts & Latency)[];
};

/** Of the latest incidents, the oldest first. */
type RepairSummary = {
  readonly replicationLag: number | null;
  readonly workWaiting: number;
  readonly jobsOpen: number;
  readonly incidentsOpen: number;
  readonly meanTimeToRepairMs: number | null;
  readonly incidents: readonly Incident[];
};

export type SummarySources = {
  readonly uptimeMs: number;
  readonly metrics: HttpMetrics;
  readonly cache: CacheFigures;
  /** Null when nobody could be asked. */
  readonly healing: HealingStatus | null;
  /** Null when the cluster could not be asked. */
  readonly cluster: ClusterSnapshot | null;
};

export function summarizeMetrics({ uptimeMs, metrics, healing, cache, cluster }: SummarySources): MetricsSummary {
  const groups = groupDurations(metrics.duration.series);
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
    cache: { ...cache, hitRate: cache.hitRate === null ? null : rounded(cache.hitRate) },
    storage: cluster === null ? null : clusterTotals(cluster),
    repair: healing === null ? null : summarizeRepair(healing),
    routes: [...groups.values()].map((group) => ({
      method: group.method,
      route: group.route,
      ...countsOf(group),
      ...latencyOf(group),
    })),
  };
}

function summarizeRepair({ replicationLag, waiting, jobs, incidents }: HealingStatus): RepairSummary {
  return {
    replicationLag,
    workWaiting: waiting.reduce((sum, count) => sum + count, 0),
    jobsOpen: jobs.filter(({ state }) => state === "waiting" || state === "running").length,
    incidentsOpen: incidents.filter(({ repairMs }) => repairMs === null).length,
    meanTimeToRepairMs: meanRepairMs(incidents),
    incidents,
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
  const { routes, repair, ...rest } = summary;
  const { incidents, ...repairs } = repair ?? { incidents: [] };
  add("", { ...rest, repair: repairs });
  for (const { id, ...figures } of incidents) add(`repair.incidents.${id}`, figures);
  for (const { method, route, ...figures } of routes) add(`routes.${method} ${route}`, figures);
  return ["metric,value", ...rows.map((row) => row.map(csvField).join(","))].join("\r\n") + "\r\n";
}

function csvField(text: string): string {
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

type Group = {
  readonly method: string;
  readonly route: string;
  /** Requests by status class. */
  readonly classes: Map<string, number>;
  /** As in the series. */
  readonly counts: Float64Array;
};

function groupDurations(series: readonly DurationSeries[]): Map<string, Group> {
  const groups = new Map<string, Group>();
  for (const { labels, counts, count } of series) {
    const { method = "", route = "", status = "" } = labels;
    const name = `${method} ${route}`;
    const group = groups.get(name) ?? { method, route, classes: new Map(), counts: emptyCounts() };
    groups.set(name, group);
    addTo(group, new Map([[status, count]]), counts);
  }
  return groups;
}

function mergeGroups(groups: readonly Group[]): Group {
  const merged: Group = { method: "", route: "", classes: new Map(), counts: emptyCounts() };
  for (const group of groups) addTo(merged, group.classes, group.counts);
  return merged;
}

function addTo(group: Group, classes: ReadonlyMap<string, number>, counts: Float64Array): void {
  for (const [status, count] of classes) group.classes.set(status, (group.classes.get(status) ?? 0) + count);
  counts.forEach((count, index) => {
    group.counts[index] = (group.counts[index] as number) + count;
  });
}

function emptyCounts(): Float64Array {
  return new Float64Array(DURATION_BOUNDS_S.length + 1);
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
    const seconds = quantileOf(DURATION_BOUNDS_S, group.counts, quantile);
    return seconds === null ? null : rounded(seconds * 1_000);
  };
  return { p50Ms: ms(0.5), p95Ms: ms(0.95), p99Ms: ms(0.99) };
}

/**
 * Reads a quantile off counts by bucket, straight between two bounds. `counts` has one more entry than `bounds`, for
 * what lies above the last; such a quantile is the last bound. Null without observations.
 */
export function quantileOf(bounds: readonly number[], counts: ArrayLike<number>, quantile: number): number | null {
  const total = Array.from(counts).reduce((sum, count) => sum + count, 0);
  if (total === 0) return null;
  const rank = quantile * total;
  let before = 0;
  for (let index = 0; index < bounds.length; index += 1) {
    const within = counts[index] ?? 0;
    const lower = bounds[index - 1] ?? 0;
    const upper = bounds[index] as number;
    if (within > 0 && before + within >= rank) return lower + ((upper - lower) * (rank - before)) / within;
    before += within;
  }
  return bounds.at(-1) ?? null;
}

function rounded(value: number): number {
  return Math.round(value * 1_000) / 1_000;
}
