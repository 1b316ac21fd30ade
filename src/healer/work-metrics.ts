import type { Registry } from "prom-client";
import { Counter } from "prom-client";
import type { WorkKind } from "../domain/work.ts";

/** What a process counts of the work that it takes from the queue. Registered once per process. */
export type WorkLoopMetrics = ReturnType<typeof createWorkLoopMetrics>;

export function createWorkLoopMetrics(registry: Registry) {
  const registers = [registry];
  const pieces = new Counter({
    name: "kintsugi_repair_work_total",
    help: "Pieces of work by kind and outcome: done, later (it has to wait), failed",
    labelNames: ["kind", "outcome"] as const,
    registers,
  });
  const seconds = new Counter({
    name: "kintsugi_repair_work_seconds_total",
    help: "Time spent on pieces of work",
    labelNames: ["kind"] as const,
    registers,
  });
  return {
    bytes: new Counter({
      name: "kintsugi_repair_bytes_total",
      help: "Payload bytes that nodes were given to mend, move and copy",
      labelNames: ["kind"] as const,
      registers,
    }),
    observe(kind: WorkKind, outcome: "done" | "later" | "failed", elapsedMs: number): void {
      pieces.inc({ kind, outcome });
      seconds.inc({ kind }, elapsedMs / 1_000);
    },
  };
}
