import type { Clock } from "./clock.ts";
import type { Logger } from "./logger.ts";

/** How a step of background work ended, and so when the next one may begin. */
export type StepResult =
  /** There is more to do at once. */
  | { readonly state: "busy" }
  /** Nothing to do: look again then, or when woken. */
  | { readonly state: "idle"; readonly againInMs: number }
  /** There is more to do, and it has to wait: for a throttle, a full queue, somebody who does not answer. */
  | { readonly state: "throttled"; readonly againInMs: number };

/** How far a run has come. `total` null: nobody knows beforehand. */
export type WorkProgress = { readonly done: number; readonly total: number | null; readonly unit: string };

/**
 * One kind of work behind the scenes. Whoever runs it calls `step` again and again, never twice at a time. A step is
 * bounded: it does a piece of the work in a few seconds at most, leaves everything so that another step, or another
 * process after a crash, can go on, and ends early when `signal` aborts.
 */
export type BackgroundWork = {
  readonly name: string;
  /** Operating failures may be thrown: they are logged, and the work goes on after a pause that grows. */
  step(signal: AbortSignal): Promise<StepResult>;
  /** Of the run under way; null between runs. */
  progress(): WorkProgress | null;
};

export type WorkState = "busy" | "idle" | "throttled" | "paused" | "failing";

export type WorkStatus = {
  readonly name: string;
  readonly state: WorkState;
  readonly progress: WorkProgress | null;
  /** Of the last step that failed, until one succeeds. */
  readonly failure: string | null;
  readonly stepCount: number;
  readonly failureCount: number;
  /** Since the last step ended; null before the first. */
  readonly lastStepAgoMs: number | null;
};

/** Disposing ends the step under way and waits for it. */
export type RunningWork = AsyncDisposable & {
  status(): WorkStatus;
  /** Makes an idle work look again now. */
  wake(): void;
  /** A paused work takes no further step. */
  pause(paused: boolean): void;
};

export type RunOptions = {
  readonly clock: Clock;
  readonly logger: Logger;
  /** Told of every step, for metrics. */
  readonly onStep?: (name: string, outcome: StepResult["state"] | "failed", elapsedMs: number) => void;
};

const FAILURE_PAUSE_MS_MIN = 500;
const FAILURE_PAUSE_MS_MAX = 30_000;
/** Between two busy steps: everybody else gets a turn. */
const BUSY_PAUSE_MS = 0;

export function runInBackground(work: BackgroundWork, options: RunOptions): RunningWork {
  return new Runner(work, options);
}

class Runner implements RunningWork {
  readonly #work: BackgroundWork;
  readonly #options: RunOptions;
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;
  #wakeUp = new AbortController();
  #state: WorkState = "idle";
  #failure: string | null = null;
  #stepCount = 0;
  #failureCount = 0;
  #failuresInARow = 0;
  #lastStepAtMs: number | null = null;
  #isPaused = false;

  constructor(work: BackgroundWork, options: RunOptions) {
    this.#work = work;
    this.#options = options;
    this.#running = this.#run();
  }

  status(): WorkStatus {
    const { clock } = this.#options;
    return {
      name: this.#work.name,
      state: this.#isPaused ? "paused" : this.#state,
      progress: this.#work.progress(),
      failure: this.#failure,
      stepCount: this.#stepCount,
      failureCount: this.#failureCount,
      lastStepAgoMs: this.#lastStepAtMs === null ? null : Math.round(clock.monotonicMs() - this.#lastStepAtMs),
    };
  }

  wake(): void {
    this.#wakeUp.abort();
  }

  pause(paused: boolean): void {
    this.#isPaused = paused;
    this.wake();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    // Not in the turn of whoever starts it.
    await Promise.resolve();
    while (!signal.aborted) {
      this.#wakeUp = new AbortController();
      const pauseMs = this.#isPaused ? Number.POSITIVE_INFINITY : await this.#step();
      await this.#rest(pauseMs);
    }
  }

  /** Takes one step; answers for how long to rest. */
  async #step(): Promise<number> {
    const { clock, logger, onStep } = this.#options;
    const { name } = this.#work;
    const beganMs = clock.monotonicMs();
    let outcome: StepResult["state"] | "failed";
    let pauseMs: number;
    this.#state = "busy";
    try {
      const result = await this.#work.step(this.#stop.signal);
      this.#state = result.state;
      this.#failure = null;
      this.#failuresInARow = 0;
      outcome = result.state;
      pauseMs = result.state === "busy" ? BUSY_PAUSE_MS : result.againInMs;
    } catch (cause) {
      if (this.#stop.signal.aborted) return 0;
      this.#state = "failing";
      this.#failure = cause instanceof Error ? cause.message : String(cause);
      this.#failureCount += 1;
      pauseMs = Math.min(FAILURE_PAUSE_MS_MAX, FAILURE_PAUSE_MS_MIN * 2 ** this.#failuresInARow);
      this.#failuresInARow += 1;
      outcome = "failed";
      logger.warn({ work: name, cause: this.#failure }, "a step of background work failed");
    }
    this.#stepCount += 1;
    this.#lastStepAtMs = clock.monotonicMs();
    onStep?.(name, outcome, this.#lastStepAtMs - beganMs);
    return pauseMs;
  }

  async #rest(pauseMs: number): Promise<void> {
    const woken = AbortSignal.any([this.#stop.signal, this.#wakeUp.signal]);
    if (woken.aborted) return;
    if (Number.isFinite(pauseMs)) return await this.#options.clock.sleep(pauseMs, woken);
    await new Promise<void>((resolve) => woken.addEventListener("abort", () => resolve(), { once: true }));
  }
}
