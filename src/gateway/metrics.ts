/**
 * What the gateway measures: its own requests, the runtime's event loop and process, and gauges that are read from the
 * cluster view when somebody asks. Nothing here costs a request more than a few additions.
 */
import { collectDefaultMetrics, Counter, Gauge, Histogram, type Registry } from "prom-client";
import type { Coder } from "../coding/coder.ts";
import { NODE_STATES } from "../domain/node-info.ts";
import type { Clock } from "../lib/clock.ts";
import type { ClusterSnapshot, ClusterView } from "./cluster-view.ts";
import { RateWindow } from "./rate-window.ts";

/** Fine enough that a quantile read between two of them is off by little. */
export const DURATION_BUCKETS_S = [
  0.000_25, 0.000_5, 0.001, 0.002, 0.003, 0.005, 0.007_5, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30,
  60, 300,
];

export type RequestOutcome = {
  readonly method: string;
  /** The pattern, never the path: it is a label. */
  readonly route: string;
  readonly status: number;
  readonly elapsedMs: number;
  readonly bytesIn: number;
  readonly bytesOut: number;
};

export type HttpMetrics = {
  readonly duration: Histogram<"method" | "route" | "status">;
  /** The last minute. */
  readonly recent: RateWindow;
  bytesIn(): number;
  bytesOut(): number;
  inFlight(): number;
  begin(): void;
  end(outcome: RequestOutcome): void;
};

export function createHttpMetrics(clock: Clock, registry: Registry): HttpMetrics {
  const registers = [registry];
  let inFlight = 0;
  let bytesIn = 0;
  let bytesOut = 0;
  const recent = new RateWindow(clock);
  const duration = new Histogram({
    name: "http_request_duration_seconds",
    help: "Time from a request's head to the end of its answer, by method, route and status class",
    labelNames: ["method", "route", "status"] as const,
    buckets: DURATION_BUCKETS_S,
    registers,
  });
  const inFlightGauge: Gauge = new Gauge({
    name: "http_requests_in_flight",
    help: "Requests being answered",
    registers,
    collect: () => inFlightGauge.set(inFlight),
  });
  const bytesCounter = new Counter({
    name: "http_body_bytes_total",
    help: "Body bytes of requests (in) and answers (out)",
    labelNames: ["direction"] as const,
    registers,
    collect() {
      bytesCounter.reset();
      bytesCounter.inc({ direction: "in" }, bytesIn);
      bytesCounter.inc({ direction: "out" }, bytesOut);
    },
  });
  // Looking up a label set costs more than the observation; there are few of them.
  const children = new Map<string, { observe(value: number): void }>();
  return {
    duration,
    recent,
    bytesIn: () => bytesIn,
    bytesOut: () => bytesOut,
    inFlight: () => inFlight,
    begin() {
      inFlight += 1;
    },
    end({ method, route, status, elapsedMs, ...bytes }) {
      inFlight -= 1;
      bytesIn += bytes.bytesIn;
      bytesOut += bytes.bytesOut;
      const statusClass = `${Math.floor(status / 100)}xx`;
      const name = `${method} ${statusClass} ${route}`;
      let child = children.get(name);
      if (child === undefined) {
        child = duration.labels({ method, route, status: statusClass });
        children.set(name, child);
      }
      child.observe(elapsedMs / 1_000);
      recent.add(bytes.bytesIn, bytes.bytesOut);
    },
  };
}

/** CPU, memory, open files and event-loop lag, as far as the runtime tells. */
export function registerProcessMetrics(registry: Registry): void {
  collectDefaultMetrics({ register: registry });
}

/** Milliseconds that the threads spent hashing, encoding and decoding. */
export function registerCodingMetrics(registry: Registry, coder: Pick<Coder, "spent">): void {
  const counter = new Counter({
    name: "kintsugi_coding_seconds_total",
    help: "Time that threads spent, by work: hash, encode, decode",
    labelNames: ["work"] as const,
    registers: [registry],
    collect() {
      const spent = coder.spent();
      counter.reset();
      counter.inc({ work: "hash" }, spent.hashMs / 1_000);
      counter.inc({ work: "encode" }, spent.encodeMs / 1_000);
      counter.inc({ work: "decode" }, spent.decodeMs / 1_000);
    },
  });
}

/** Gauges over nodes and buckets. A scrape asks the cluster once; what cannot be asked is left out, never stale. */
export function registerClusterMetrics(registry: Registry, cluster: ClusterView): void {
  const registers = [registry];
  let pending: Promise<ClusterSnapshot | null> | null = null;
  const snapshot = () => {
    // All gauges are collected in the same turn and share one answer.
    pending ??= cluster
      .snapshot()
      .catch(() => null)
      .finally(() => {
        pending = null;
      });
    return pending;
  };
  const gauge = <Label extends string>(
    name: string,
    help: string,
    labelNames: readonly Label[],
    read: (snapshot: ClusterSnapshot) => readonly (readonly [Partial<Record<Label, string>>, number])[],
  ) => {
    const registered: Gauge<Label> = new Gauge({
      name,
      help,
      labelNames,
      registers,
      async collect() {
        const taken = await snapshot();
        registered.reset();
        if (taken !== null) for (const [labels, value] of read(taken)) registered.set(labels as never, value);
      },
    });
  };
  const ofNodes = (of: (usage: NonNullable<ClusterSnapshot["nodes"][number]["usage"]>) => number) => {
    return ({ nodes }: ClusterSnapshot) =>
      nodes.flatMap(({ info, usage }) => (usage === null ? [] : [[{ node: info.name }, of(usage)] as const]));
  };
  gauge("kintsugi_node_state", "1 for the state a node is in", ["node", "state"], ({ nodes }) =>
    nodes.flatMap(({ info }) =>
      NODE_STATES.map((state) => [{ node: info.name, state }, state === info.state ? 1 : 0] as const),
    ),
  );
  gauge(
    "kintsugi_node_blobs",
    "Sealed blobs on a node",
    ["node"],
    ofNodes((usage) => usage.blobCount),
  );
  gauge(
    "kintsugi_node_live_bytes",
    "Payload bytes of sealed blobs",
    ["node"],
    ofNodes((usage) => usage.liveBytes),
  );
  gauge(
    "kintsugi_node_file_bytes",
    "Bytes of a node's volumes on disk",
    ["node"],
    ofNodes((usage) => usage.fileBytes),
  );
  gauge(
    "kintsugi_node_volumes",
    "Volumes of a node",
    ["node"],
    ofNodes((usage) => usage.volumeCount),
  );
  gauge(
    "kintsugi_node_volumes_quarantined",
    "Unreadable volumes",
    ["node"],
    ofNodes((usage) => usage.quarantinedCount),
  );
  gauge(
    "kintsugi_node_disk_free_bytes",
    "Free bytes of a node's disk",
    ["node"],
    ofNodes((usage) => usage.diskFreeBytes),
  );
  gauge("kintsugi_bucket_objects", "Readable objects", ["bucket"], ({ buckets }) =>
    buckets.map((bucket) => [{ bucket: bucket.bucket }, bucket.objectCount] as const),
  );
  gauge("kintsugi_bucket_bytes", "Content bytes of readable objects", ["bucket"], ({ buckets }) =>
    buckets.map((bucket) => [{ bucket: bucket.bucket }, bucket.objectBytes] as const),
  );
  gauge("kintsugi_in_flight_bytes", "Bytes of requests in memory", [], ({ inFlightBytes }) => [[{}, inFlightBytes]]);
  gauge("kintsugi_intents_open", "Writes not yet settled in the log", [], ({ openIntents }) => [[{}, openIntents]]);
}
