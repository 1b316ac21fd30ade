import { describe, expect, test } from "vitest";
import type { RecordedOperation } from "../../faults/history/recorder.ts";
import { FAILOVER_MS_MAX, findLongRefusals, peacefulSpans } from "../../faults/invariants/liveness.ts";
import type { FaultKind } from "../../faults/schedule/plan-faults.ts";

const END = { fromMs: 0, toMs: 100_000 };

function span(kind: FaultKind, target: string, startMs: number, endMs: number) {
  return { fault: { kind, target, atMs: startMs, lastsMs: endMs - startMs }, startMs, endMs };
}

function refusal(startMs: number, status = 503, note = ""): RecordedOperation {
  const who = { id: 1, client: "c0", gateway: "gateway-1", request: "PUT /objects/k", isWrite: true };
  return { ...who, startMs, endMs: startMs + 10, outcome: "unknown", status, meanings: [], note };
}

describe("peacefulSpans()", () => {
  test("takes a single node that is lost for peace, and nothing else", () => {
    expect(peacefulSpans([span("kill", "node-1", 20_000, 50_000)], END)).toEqual([
      { fromMs: 0, toMs: 20_000 },
      { fromMs: 20_000, toMs: 50_000 },
      { fromMs: 50_000, toMs: 100_000 },
    ]);
    const both = [span("kill", "node-1", 20_000, 80_000), span("pause", "node-2", 30_000, 60_000)];
    expect(peacefulSpans(both, END)).toEqual([
      { fromMs: 0, toMs: 20_000 },
      { fromMs: 60_000, toMs: 80_000 },
      { fromMs: 80_000, toMs: 100_000 },
    ]);
    expect(peacefulSpans([span("kill", "gateway-1", 5_000, 95_000)], END)).toEqual([]);
  });
});

describe("findLongRefusals()", () => {
  test("forgives what is refused within the failover time, and being too busy", () => {
    const spans = [span("kill", "nats-1", 10_000, 30_000)];
    const early = [refusal(20_000), refusal(30_000 + FAILOVER_MS_MAX - 1)];
    const busy = refusal(90_000, 503, '{"code":"overloaded"}');
    expect(findLongRefusals([...early, busy], spans, END)).toEqual([]);
    expect(findLongRefusals([refusal(30_000 + FAILOVER_MS_MAX)], spans, END)).toHaveLength(1);
    expect(findLongRefusals([refusal(60_000, 0)], spans, END)[0]).toContain("30.0 s into peace");
  });
});
