import type { Clock, Timer } from "../../src/lib/clock.ts";

type Pending = { readonly atMs: number; readonly action: () => void };

/** A clock that stands still until the test moves it. Timers run in order of their time, each at its own moment. */
export class ManualClock implements Clock {
  readonly #timers = new Set<Pending>();
  #nowMs: number;
  /** What the wall clock is ahead of the monotonic one; a test may set it back. */
  wallOffsetMs: number;

  constructor(startMs = 1_000, wallOffsetMs = 1_750_000_000_000) {
    this.#nowMs = startMs;
    this.wallOffsetMs = wallOffsetMs;
  }

  /** Timers that have neither run nor been cancelled. */
  get pendingTimers(): number {
    return this.#timers.size;
  }

  wallMs(): number {
    return this.#nowMs + this.wallOffsetMs;
  }

  monotonicMs(): number {
    return this.#nowMs;
  }

  startTimer(delayMs: number, action: () => void): Timer {
    const pending = { atMs: this.#nowMs + delayMs, action };
    this.#timers.add(pending);
    return { cancel: () => void this.#timers.delete(pending) };
  }

  async sleep(delayMs: number, signal?: AbortSignal): Promise<void> {
    if (signal?.aborted) return;
    await new Promise<void>((resolve) => {
      const timer = this.startTimer(delayMs, resolve);
      signal?.addEventListener("abort", () => {
        timer.cancel();
        resolve();
      });
    });
  }

  /** Lets `ms` pass and runs what falls due, also what is started on the way. */
  advance(ms: number): void {
    const endMs = this.#nowMs + ms;
    for (;;) {
      const [next] = [...this.#timers].filter((timer) => timer.atMs <= endMs).sort((a, b) => a.atMs - b.atMs);
      if (next === undefined) break;
      this.#timers.delete(next);
      this.#nowMs = next.atMs;
      next.action();
    }
    this.#nowMs = endMs;
  }
}

/** Lets everything that is ready run: promises and the callbacks of finished work, but no timer of a `ManualClock`. */
export function settle(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}
