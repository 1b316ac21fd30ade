import { Counter, Histogram, type Registry } from "prom-client";
import type { NodeName } from "../domain/ids.ts";

/** ok, error: the node answered. failed: it did not. aborted: nobody wanted the answer any more. */
export type CallOutcome = "ok" | "error" | "failed" | "aborted";

/** What a client of nodes counts. One set per registry serves the clients of all nodes. */
export type NodeClientMetrics = {
  observe(node: NodeName, operation: string, outcome: CallOutcome, elapsedMs: number): void;
  observeBatch(node: NodeName, items: number): void;
};

const made = new WeakMap<Registry, NodeClientMetrics>();

export function nodeClientMetrics(registry: Registry): NodeClientMetrics {
  let metrics = made.get(registry);
  if (metrics === undefined) made.set(registry, (metrics = createMetrics(registry)));
  return metrics;
}

function createMetrics(registry: Registry): NodeClientMetrics {
  const registers = [registry];
  const seconds = new Histogram({
    name: "kintsugi_node_request_seconds",
    help: "Time from sending a request to a node to the end of its answer",
    labelNames: ["node", "operation"] as const,
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10],
    registers,
  });
  const requests = new Counter({
    name: "kintsugi_node_requests_total",
    help: "Requests to nodes by outcome: ok and error were answered, failed and aborted were not",
    labelNames: ["node", "operation", "outcome"] as const,
    registers,
  });
  const batchItems = new Histogram({
    name: "kintsugi_node_batch_items",
    help: "Operations that went to a node in one request",
    labelNames: ["node"] as const,
    buckets: [1, 2, 4, 8, 16, 32, 64, 128, 256],
    registers,
  });
  return {
    observe(node, target, outcome, elapsedMs) {
      const operation = target.replace("/v1/", "");
      requests.inc({ node, operation, outcome });
      if (outcome === "ok" || outcome === "error") seconds.observe({ node, operation }, elapsedMs / 1_000);
    },
    observeBatch: (node, items) => batchItems.observe({ node }, items),
  };
}
