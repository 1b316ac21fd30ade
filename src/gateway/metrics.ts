/**
 * What the gateway measures of its own requests, of the process and of the threads. Nothing here costs a request more
 * than a few additions. The gauges over nodes and buckets are in `cluster-metrics.ts`.
 */
import { collectDefaultMetrics, Counter, Gauge, type Registry } from "prom-client";
import type { Coder } from "../coding/coder.ts";
import type { Clock } from "../lib/clock.ts";
import { DurationHistogram, observeDuration, type DurationSeries } from "./duration-histogram.ts";
import { RateWindow } from "./rate-window.ts";

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
  readonly duration: DurationHistogram;
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
  const duration = new DurationHistogram(
    "http_request_duration_seconds",
    "Time from a request's head to the end of its answer, by method, route and status class",
    registry,
  );
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
  const seriesByRoute = new Map<string, DurationSeries[]>();
  return {
    duration,
    recent,
    bytesIn: () => bytesIn,
    bytesOut: () => bytesOut,
    inFlight: () => inFlight,
    begin() {
      inFlight += 1;
    },
    end(outcome) {
      inFlight -= 1;
      bytesIn += outcome.bytesIn;
      bytesOut += outcome.bytesOut;
      observeDuration(seriesOf(outcome), outcome.elapsedMs / 1_000);
      recent.add(outcome.bytesIn, outcome.bytesOut);
    },
  };

  function seriesOf({ method, route, status }: RequestOutcome): DurationSeries {
    const name = method + route;
    let ofRoute = seriesByRoute.get(name);
    if (ofRoute === undefined) seriesByRoute.set(name, (ofRoute = []));
    const statusClass = Math.floor(status / 100);
    return (ofRoute[statusClass] ??= duration.open({ method, route, status: `${statusClass}xx` }));
  }
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
