import type { Registry } from "prom-client";
import { Histogram } from "prom-client";
import type { Incident } from "../domain/healing.ts";

const BOUNDS_S = [1, 5, 15, 60, 300, 900, 3_600, 4 * 3_600, 24 * 3_600];

/** What a leader tells of incidents. Registered once per process. */
export function createIncidentMetrics(registry: Registry) {
  const repairs = new Histogram({
    name: "kintsugi_incident_repair_seconds",
    help: "From when a loss of redundancy was noticed to when nothing was missing any more",
    labelNames: ["kind"] as const,
    buckets: BOUNDS_S,
    registers: [registry],
  });
  return {
    ended({ kind, repairMs }: Incident): void {
      repairs.observe({ kind }, (repairMs ?? 0) / 1_000);
    },
  };
}
