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

/** As the last step ended: one that waits for work is not busy before it has found some. */
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
/** An idle work looks again at least so often: timers cannot wait for weeks, and a look at nothing costs nothing. */
const PAUSE_MS_MAX = 3_600_000;

export function runInBackground(work: BackgroundWork, options: RunOptions): RunningWork {
  return new Runner(work, options);
}

class Runner implements RunningWork {
  readonly #work: BackgroundWork;
  readonly #options: RunOptions;
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;
  /** Somebody wants the next step at once. */
  #isWoken = false;
  #endRest = () => {};
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
    this.#isWoken = true;
    this.#endRest();
  }

  pause(paused: boolean): void {
    if (paused === this.#isPaused) return;
    this.#isPaused = paused;
    this.wake();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    this.#endRest();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    // Not in the turn of whoever starts it.
    await Promise.resolve();
    while (!signal.aborted) {
      this.#isWoken = false;
      await this.#rest(this.#isPaused ? null : await this.#step());
    }
  }

  /** Takes one step; answers for how long to rest. */
  async #step(): Promise<number> {
    const { clock, onStep } = this.#options;
    const beganMs = clock.monotonicMs();
    let outcome: StepResult["state"] | "failed";
    let pauseMs = 0;
    try {
      const result = await this.#work.step(this.#stop.signal);
      this.#state = result.state;
      this.#failure = null;
      this.#failuresInARow = 0;
      outcome = result.state;
      if (result.state !== "busy") pauseMs = result.againInMs;
    } catch (cause) {
      if (this.#stop.signal.aborted) return 0;
      pauseMs = this.#fail(cause);
      outcome = "failed";
    }
    this.#stepCount += 1;
    this.#lastStepAtMs = clock.monotonicMs();
    onStep?.(this.#work.name, outcome, this.#lastStepAtMs - beganMs);
    return pauseMs;
  }

  #fail(cause: unknown): number {
    this.#state = "failing";
    this.#failure = cause instanceof Error ? cause.message : String(cause);
    this.#failureCount += 1;
    const pauseMs = Math.min(FAILURE_PAUSE_MS_MAX, FAILURE_PAUSE_MS_MIN * 2 ** this.#failuresInARow);
    this.#failuresInARow += 1;
    this.#options.logger.warn({ work: this.#work.name, cause: this.#failure }, "a step of background work failed");
    return pauseMs;
  }

  /** Null: until woken. Between two busy steps too everybody else gets a turn. */
  async #rest(pauseMs: number | null): Promise<void> {
    if (this.#isWoken || this.#stop.signal.aborted) return;
    await new Promise<void>((resolve) => {
      const timer =
        pauseMs === null ? null : this.#options.clock.startTimer(Math.min(pauseMs, PAUSE_MS_MAX), () => resolve());
      this.#endRest = () => {
        timer?.cancel();
        resolve();
      };
    });
    this.#endRest = () => {};
  }
}
