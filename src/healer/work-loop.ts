/** Takes work from the queue that all healers share and does it, piece by piece. */
import { isStoreError } from "../domain/errors.ts";
import type { Work, WorkKind } from "../domain/work.ts";
import type { BackgroundWork, StepResult, WorkProgress } from "../lib/background-work.ts";
import type { Clock, Timer } from "../lib/clock.ts";
import type { Logger } from "../lib/logger.ts";
import type { Delivery, WorkQueue } from "../work/work-queue.ts";
import { LEASE_MS } from "../work/work-queue.ts";
import type { WorkLoopMetrics } from "./work-metrics.ts";
import type { Executor, Executors, WorkOutcome } from "./work-executor.ts";

export type WorkLoopDeps = {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly queue: WorkQueue;
  readonly executors: Executors;
  readonly metrics: WorkLoopMetrics;
};

export type WorkLoop = {
  /** As many as may work side by side. */
  readonly works: readonly BackgroundWork[];
  /** Pieces done and bytes written so far, by kind: `mendDone`, `mendBytes`, `laterCount`, … */
  figures(): Readonly<Record<string, number>>;
  /** Pieces of mending that are done with. */
  mendedCount(): number;
};

/** How long one step waits for work. */
const TAKE_MS = 5_000;
/** A queue that cannot be reached is asked again after this. */
const FAILED_MS_MIN = 1_000;
/** What fails again and again is tried less and less often. */
const LATER_MS_MAX = 10 * 60_000;
/** Below this the delay that an executor asks for is kept, however often it asks. */
const PATIENT_ATTEMPTS = 8;

export function createWorkLoop(deps: WorkLoopDeps, parallel: number): WorkLoop {
  const done = new Map<WorkKind, { count: number; bytes: number }>();
  let laterCount = 0;
  let failedCount = 0;
  const note = (kind: WorkKind, outcome: WorkOutcome | "failed") => {
    if (outcome === "failed") failedCount += 1;
    else if (outcome.outcome === "later") laterCount += 1;
    else {
      const sum = done.get(kind) ?? { count: 0, bytes: 0 };
      done.set(kind, { count: sum.count + 1, bytes: sum.bytes + outcome.bytes });
    }
  };
  return {
    works: Array.from({ length: parallel }, (_, number) => new Worker(deps, `worker-${number + 1}`, note)),
    figures: () => ({
      ...Object.fromEntries(
        [...done].flatMap(([kind, { count, bytes }]) => [
          [`${kind}Done`, count],
          [`${kind}Bytes`, bytes],
        ]),
      ),
      laterCount,
      failedCount,
    }),
    mendedCount: () => done.get("mend")?.count ?? 0,
  };
}

class Worker implements BackgroundWork {
  readonly name: string;
  readonly #deps: WorkLoopDeps;
  readonly #note: (kind: WorkKind, outcome: WorkOutcome | "failed") => void;
  #count = 0;

  constructor(deps: WorkLoopDeps, name: string, note: (kind: WorkKind, outcome: WorkOutcome | "failed") => void) {
    this.#deps = deps;
    this.name = name;
    this.#note = note;
  }

  progress(): WorkProgress | null {
    return this.#count === 0 ? null : { done: this.#count, total: null, unit: "pieces" };
  }

  async step(signal: AbortSignal): Promise<StepResult> {
    const delivery = await this.#deps.queue.take(TAKE_MS, signal);
    if (delivery === null) return { state: "idle", againInMs: 0 };
    await this.#work(delivery, signal);
    this.#count += 1;
    return { state: "busy" };
  }

  async #work(delivery: Delivery, signal: AbortSignal): Promise<void> {
    const { clock, logger, metrics } = this.#deps;
    const { work, attempt } = delivery;
    const beganMs = clock.monotonicMs();
    const lease = keepLease(clock, delivery);
    let outcome: WorkOutcome | "failed";
    try {
      outcome = await execute(this.#deps.executors, work, AbortSignal.any([signal, lease.lost]));
    } catch (cause) {
      // Whatever is wrong with one piece must not keep the others waiting; a bug is told as loudly as it may be.
      const level = isStoreError(cause) ? "warn" : "error";
      const code = isStoreError(cause) ? cause.code : "internal";
      logger[level]({ kind: work.kind, attempt, code, cause: String(cause) }, "a piece of work failed");
      outcome = "failed";
    } finally {
      lease.end();
    }
    metrics.observe(work.kind, outcome === "failed" ? "failed" : outcome.outcome, clock.monotonicMs() - beganMs);
    if (outcome !== "failed" && outcome.outcome === "done") metrics.bytes.inc({ kind: work.kind }, outcome.bytes);
    this.#note(work.kind, outcome);
    // What was cut short by the end of this process is somebody else's at once.
    const isCut = signal.aborted;
    if (outcome === "failed") return await delivery.later(isCut ? 0 : laterMs(FAILED_MS_MIN, attempt, 1));
    if (outcome.outcome === "done") return await delivery.done();
    logger.debug({ kind: work.kind, attempt, reason: outcome.reason }, "a piece of work has to wait");
    await delivery.later(isCut ? 0 : laterMs(outcome.inMs, attempt, PATIENT_ATTEMPTS));
  }
}

/** The delay asked for, doubled with each attempt beyond the first `patient` ones. */
export function laterMs(inMs: number, attempt: number, patient: number): number {
  return Math.min(LATER_MS_MAX, inMs * 2 ** Math.min(20, Math.max(0, attempt - patient)));
}

/** Keeps the piece this worker's. `lost` aborts when that may not have worked: then somebody else may be at it. */
function keepLease(clock: Clock, delivery: Delivery): { readonly lost: AbortSignal; end(): void } {
  const controller = new AbortController();
  let extendedMs = clock.monotonicMs();
  let timer: Timer;
  const extend = () => {
    const nowMs = clock.monotonicMs();
    // A process that was stopped for long wakes up to a lease that ended meanwhile.
    if (nowMs - extendedMs >= LEASE_MS) controller.abort();
    extendedMs = nowMs;
    delivery.extend();
    timer = clock.startTimer(LEASE_MS / 3, extend);
  };
  timer = clock.startTimer(LEASE_MS / 3, extend);
  return { lost: controller.signal, end: () => timer.cancel() };
}

function execute(executors: Executors, work: Work, signal: AbortSignal): Promise<WorkOutcome> {
  // The kind picks the executor that takes just that kind.
  const executor = executors[work.kind] as Executor<WorkKind>;
  return executor(work, { signal });
}
