/** Carries out a schedule. What takes longer than planned moves what follows it: the rules of overlapping hold in fact. */
import { setTimeout as sleep } from "node:timers/promises";
import { inject, type Injection } from "./inject.ts";
import { describeDeed, mayOverlap, type Fault, type ScheduleOptions } from "./plan-faults.ts";

/** A fault as it came, by the clock of the history. */
export type FaultSpan = { readonly fault: Fault; readonly startMs: number; endMs: number };

export type FaultRun = {
  readonly injection: Injection;
  readonly options: ScheduleOptions;
  nowMs(): number;
  readonly spans: FaultSpan[];
};

/** Resolves when the last fault is over. @throws {Error} when one could not be taken back */
export async function runFaults(run: FaultRun, faults: readonly Fault[]): Promise<void> {
  const { injection, options, nowMs, spans } = run;
  const beganMs = nowMs();
  const active = new Map<Fault, Promise<void>>();
  let failure: { readonly cause: unknown } | null = null;
  for (const fault of faults) {
    await sleep(Math.max(0, fault.atMs - (nowMs() - beganMs)));
    while (!mayOverlap([...active.keys()], fault, options)) await Promise.race(active.values());
    if (failure !== null) break;
    const span: FaultSpan = { fault, startMs: nowMs(), endMs: Number.POSITIVE_INFINITY };
    spans.push(span);
    injection.say(describeDeed(fault));
    const over = inject(injection, fault)
      .catch((cause: unknown) => (failure ??= { cause }))
      .then(() => {
        span.endMs = nowMs();
        active.delete(fault);
      });
    active.set(fault, over);
  }
  await Promise.all(active.values());
  if (failure !== null) throw (failure as { readonly cause: unknown }).cause;
}
