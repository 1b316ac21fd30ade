/** Holds a whole history against what the store promises about single keys. */
import type { HistoryRecorder, RecordedOperation } from "../history/recorder.ts";
import type { KeySpace } from "../workload/keys.ts";
import type { Operation, Verdict } from "./register.ts";
import { searchOrder } from "./search-check.ts";
import { checkZones } from "./zone-check.ts";

export type Violation = { readonly key: string; readonly reason: string; readonly operations: readonly string[] };

export function checkHistory(recorder: HistoryRecorder, keys: KeySpace): Violation[] {
  const known = new Map(recorder.operations.map((operation) => [operation.id, operation]));
  const violations: Violation[] = [];
  for (const [key, operations] of recorder.byKey()) {
    const verdict = judge(keys.keys.get(key) === "register", operations);
    if (verdict.ok) continue;
    const shown = verdict.operations.map((operation) => describe(operation, known.get(operation.id)));
    violations.push({ key, reason: verdict.reason, operations: shown });
  }
  return violations;
}

function judge(isRegister: boolean, operations: readonly Operation[]): Verdict {
  try {
    return isRegister ? checkZones(operations) : searchOrder(operations);
  } catch (cause) {
    // What could not be decided was not passed.
    return { ok: false, reason: `cannot be judged: ${(cause as Error).message}`, operations: [] };
  }
}

function describe({ id, startMs, endMs }: Operation, recorded: RecordedOperation | undefined): string {
  if (recorded === undefined) return `#${id}`;
  const { client, gateway, request, status, version, meanings, note = "" } = recorded;
  const span = `${startMs.toFixed(1)} … ${Number.isFinite(endMs) ? endMs.toFixed(1) : "?"} ms`;
  const meant = meanings.length === 1 ? ` ${JSON.stringify(meanings[0]?.action)}` : "";
  return `#${id} ${span} ${client} ${gateway}: ${request} → ${status} ${version ?? ""}${meant} ${note}`.trimEnd();
}
