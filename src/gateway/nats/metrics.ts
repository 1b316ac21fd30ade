import { Counter, Gauge, type Registry } from "prom-client";
import type { Operation } from "../../nats/object-protocol.ts";
import { DurationHistogram, observeDuration, type DurationSeries } from "../duration-histogram.ts";

export type DoorOutcome = {
  readonly operation: Operation;
  /** The error's code, or `ok`. */
  readonly code: string;
  readonly elapsedMs: number;
  readonly bytesIn: number;
  readonly bytesOut: number;
};

export type DoorMetrics = {
  inFlight(): number;
  begin(): void;
  end(outcome: DoorOutcome): void;
};

/** What the NATS door measures of its own requests. */
export function createDoorMetrics(registry: Registry, transfers: () => number): DoorMetrics {
  const registers = [registry];
  let inFlight = 0;
  const bytes = { in: 0, out: 0 };
  const duration = new DurationHistogram(
    "nats_request_duration_seconds",
    "Time from a request over NATS to the end of its answer, transfers included, by operation and error code",
    registry,
  );
  const inFlightGauge: Gauge = new Gauge({
    name: "nats_requests_in_flight",
    help: "Requests over NATS being answered, transfers included",
    registers,
    collect: () => inFlightGauge.set(inFlight),
  });
  const transfersGauge: Gauge = new Gauge({
    name: "nats_transfers_open",
    help: "Bodies on their way in chunks over NATS",
    registers,
    collect: () => transfersGauge.set(transfers()),
  });
  const bytesCounter = new Counter({
    name: "nats_body_bytes_total",
    help: "Body bytes of requests (in) and answers (out) over NATS",
    labelNames: ["direction"] as const,
    registers,
    collect() {
      bytesCounter.reset();
      bytesCounter.inc({ direction: "in" }, bytes.in);
      bytesCounter.inc({ direction: "out" }, bytes.out);
    },
  });
  const series = new Map<string, DurationSeries>();
  return {
    inFlight: () => inFlight,
    begin() {
      inFlight += 1;
    },
    end({ operation, code, elapsedMs, bytesIn, bytesOut }) {
      inFlight -= 1;
      bytes.in += bytesIn;
      bytes.out += bytesOut;
      const name = `${operation} ${code}`;
      let observed = series.get(name);
      if (observed === undefined) series.set(name, (observed = duration.open({ operation, code })));
      observeDuration(observed, elapsedMs / 1_000);
    },
  };
}
