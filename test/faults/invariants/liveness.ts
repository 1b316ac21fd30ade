/**
 * I8: while at most one node is lost, and everything else is there, nothing is refused for longer than the failover
 * time. Judged from the history: in every span of such peace, from the failover time on.
 */
import type { RecordedOperation } from "../history/recorder.ts";
import type { FaultSpan } from "../schedule/run-faults.ts";

/** Leases pass on in less than ten seconds and streams get a leader in eight; the rest is for a machine that is short of cores. */
export const FAILOVER_MS_MAX = 15_000;
const SHOWN_MAX = 5;

type Span = { readonly fromMs: number; readonly toMs: number };

export function findLongRefusals(
  operations: readonly RecordedOperation[],
  spans: readonly FaultSpan[],
  end: Span,
): string[] {
  const problems: string[] = [];
  for (const { fromMs, toMs } of peacefulSpans(spans, end)) {
    const refused = operations.filter(
      (operation) => operation.startMs >= fromMs + FAILOVER_MS_MAX && operation.endMs <= toMs && isRefusal(operation),
    );
    problems.push(
      ...refused.slice(0, SHOWN_MAX).map(({ startMs, client, gateway, request, status, note }) => {
        const at = `${((startMs - fromMs) / 1_000).toFixed(1)} s into peace, ${(startMs / 1_000).toFixed(1)} s`;
        return `I8: ${at}: ${client} ${gateway}: ${request} → ${status} ${note ?? ""}`;
      }),
    );
    if (refused.length > SHOWN_MAX) problems.push(`I8: … and ${refused.length - SHOWN_MAX} more`);
  }
  return problems;
}

/** Spans in which nothing is wrong but one node that is down or stands still. */
export function peacefulSpans(spans: readonly FaultSpan[], end: Span): Span[] {
  const times = new Set([end.fromMs, end.toMs]);
  for (const { startMs, endMs } of spans) times.add(startMs).add(Math.min(endMs, end.toMs));
  const sorted = [...times].filter((time) => time >= end.fromMs && time <= end.toMs).sort((a, b) => a - b);
  return sorted.slice(1).flatMap((toMs, index) => {
    const fromMs = sorted[index] as number;
    const during = spans.filter((span) => span.startMs < toMs && span.endMs > fromMs);
    const isPeace = during.length === 0 || (during.length === 1 && isOneNode(during[0] as FaultSpan));
    return isPeace && toMs - fromMs > FAILOVER_MS_MAX ? [{ fromMs, toMs }] : [];
  });
}

function isOneNode({ fault: { kind, target } }: FaultSpan): boolean {
  return (kind === "kill" || kind === "pause") && target.startsWith("node-");
}

/** Being too busy is no failure, and who wants every blob stored needs every node. */
function isRefusal({ outcome, status, request, note = "" }: RecordedOperation): boolean {
  if (outcome === "ok" || note.includes('"overloaded"') || request.includes("consistency=all")) return false;
  return status >= 500 || status === 0;
}
