/**
 * What the gateway measures of its own requests, of the process and of the threads. Nothing here costs a request more
 * than a few additions. The gauges over nodes and buckets are in `cluster-metrics.ts`.
 */
import { collectDefaultMetrics, Counter, Gauge, Histogram, type Registry } from "prom-client";
import type { Coder } from "../coding/coder.ts";
import type { Clock } from "../lib/clock.ts";
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
