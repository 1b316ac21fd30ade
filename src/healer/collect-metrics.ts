import type { Registry } from "prom-client";
import { Counter } from "prom-client";

/** What collecting counts. Registered once per process. */
export type CollectMetrics = ReturnType<typeof createCollectMetrics>;

export function createCollectMetrics(registry: Registry) {
  const registers = [registry];
  return {
    blobs: new Counter({
      name: "kintsugi_collect_blobs_total",
      help: "Blobs that were deleted because nothing refers to them",
      registers,
    }),
    bytes: new Counter({
      name: "kintsugi_collect_bytes_total",
      help: "Payload bytes of blobs that were deleted because nothing refers to them",
      registers,
    }),
    unclaimed: new Counter({
      name: "kintsugi_collect_unclaimed_total",
      help: "Times that a blob was left alone because its key has no record and its set can be read",
      registers,
    }),
    buried: new Counter({
      name: "kintsugi_collect_buried_total",
      help: "Deleted objects whose content was given up when the time to bring them back was over",
      registers,
    }),
  };
}
