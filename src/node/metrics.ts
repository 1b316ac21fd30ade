import { Counter, Gauge, Histogram, type Registry } from "prom-client";

/** Every name that may stand in a label: what clients send never makes one. */
export type NodeOperation =
  | "session"
  | "batch"
  | "write"
  | "read"
  | "list"
  | "verify"
  | "mend"
  | "stats"
  | "health"
  | "metrics"
  | "other";

export type NodeMetrics = {
  /** `outcome`: ok, an error's code, or `client_gone`. */
  request(operation: NodeOperation, outcome: string, bytes: { readonly in: number; readonly out: number }): void;
  batch(items: number): void;
  item(op: string, outcome: string): void;
  writerOpened(): void;
  writerClosed(): void;
};

export function createNodeMetrics(
  registry: Registry,
  counts: { sessions(): number; connections(): number },
): NodeMetrics {
  const registers = [registry];
  let writers = 0;
  const requests = new Counter({
    name: "kintsugi_data_requests_total",
    help: "Requests to this node's data plane",
    labelNames: ["operation", "outcome"] as const,
    registers,
  });
  const bytes = new Counter({
    name: "kintsugi_data_bytes_total",
    help: "Body bytes of requests to this node (in) and of its answers (out)",
    labelNames: ["operation", "direction"] as const,
    registers,
  });
  const batchItems = new Histogram({
    name: "kintsugi_data_batch_items",
    help: "Operations in one batch",
    buckets: [1, 2, 4, 8, 16, 32, 64, 128, 256],
    registers,
  });
  const items = new Counter({
    name: "kintsugi_data_batch_items_total",
    help: "Operations that came in batches",
    labelNames: ["op", "outcome"] as const,
    registers,
  });
  registerGauge(registry, "kintsugi_data_writers", "Blobs being received", () => writers);
  registerGauge(registry, "kintsugi_data_sessions", "Sessions of clients", counts.sessions);
  registerGauge(registry, "kintsugi_data_connections", "Open connections", counts.connections);
  return {
    request(operation, outcome, moved) {
      requests.inc({ operation, outcome });
      bytes.inc({ operation, direction: "in" }, moved.in);
      bytes.inc({ operation, direction: "out" }, moved.out);
    },
    batch: (count) => batchItems.observe(count),
    item: (op, outcome) => items.inc({ op, outcome }),
    writerOpened: () => (writers += 1),
    writerClosed: () => (writers -= 1),
  };
}

function registerGauge(registry: Registry, name: string, help: string, read: () => number): void {
  const gauge: Gauge = new Gauge({ name, help, registers: [registry], collect: () => gauge.set(read()) });
}
