import type { Registry } from "prom-client";
import { Counter } from "prom-client";

/** What mending counts. Registered once per process. */
export type MendMetrics = ReturnType<typeof createMendMetrics>;

export function createMendMetrics(registry: Registry) {
  const registers = [registry];
  return {
    blobs: new Counter({
      name: "kintsugi_repair_blobs_total",
      help: "Blobs that were mended: adopt (found on another node), mend_cells (in place), rebuild (made from the others)",
      labelNames: ["action"] as const,
      registers,
    }),
    unreadable: new Counter({
      name: "kintsugi_repair_unreadable_total",
      help: "Times that an object could not be mended because fewer blobs are left than it takes to read it",
      registers,
    }),
  };
}
