import type { Clock } from "./clock.ts";

/** A second's worth may be used at once. */
const BURST_MS = 1_000;
/** Timers cannot wait for weeks. */
const WAIT_MS_MAX = 3_600_000;

/**
 * Bounds how many units, mostly bytes, are used per second. The rate may be changed at any time, also under those who
 * wait. More than a second's worth may be taken in one go: whoever comes next waits until it is made up for.
 */
export class Throttle {
  readonly #clock: Clock;
  #perSecond: number | null;
  /** Units to spare; below 0 while something is made up for. */
  #spare = 0;
  #atMs: number;
  #tail: Promise<void> = Promise.resolve();
  #onRate = new AbortController();

  /** `perSecond` null: no bound. 0: nothing goes on until the rate is raised. */
  constructor(clock: Clock, perSecond: number | null) {
    this.#clock = clock;
    this.#perSecond = perSecond;
    this.#atMs = clock.monotonicMs();
  }

  get perSecond(): number | null {
    return this.#perSecond;
  }

  setRate(perSecond: number | null): void {
    if (perSecond === this.#perSecond) return;
    this.#refill();
    this.#perSecond = perSecond;
    this.#onRate.abort();
    this.#onRate = new AbortController();
  }

  /** Resolves when `units` may be used, in the order of the calls, or when `signal` aborts. */
  take(units: number, signal?: AbortSignal): Promise<void> {
    if (this.#perSecond === null) return Promise.resolve();
    const turn = this.#tail.then(() => this.#wait(units, signal));
    this.#tail = turn;
    return turn;
  }

  async #wait(units: number, signal: AbortSignal | undefined): Promise<void> {
    while (signal?.aborted !== true) {
      this.#refill();
      const rate = this.#perSecond;
      if (rate === null) return;
      if (this.#spare > 0) {
        this.#spare -= units;
        return;
      }
      const waitMs = rate === 0 ? WAIT_MS_MAX : Math.ceil(((1 - this.#spare) * 1_000) / rate);
      const changed = this.#onRate.signal;
      await this.#clock.sleep(
        Math.min(WAIT_MS_MAX, Math.max(1, waitMs)),
        signal === undefined ? changed : AbortSignal.any([signal, changed]),
      );
    }
  }

  #refill(): void {
    const nowMs = this.#clock.monotonicMs();
    const rate = this.#perSecond ?? 0;
    this.#spare = Math.min((rate * BURST_MS) / 1_000, this.#spare + ((nowMs - this.#atMs) * rate) / 1_000);
    this.#atMs = nowMs;
  }
}
