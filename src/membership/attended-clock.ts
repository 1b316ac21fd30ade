import type { Clock } from "../lib/clock.ts";

/**
 * Time during which this process would have heard another one. It stands still while nothing arrives, not even what
 * this process sends itself: whoever is cut off, stopped or stalled learns nothing of the silence of others.
 */
export class AttendedClock {
  readonly #clock: Clock;
  readonly #deafMs: number;
  #attendedMs = 0;
  #arrivedAtMs: number;

  /** `deafMs`: how long after an arrival it goes on; something must arrive more often than that. */
  constructor(clock: Clock, deafMs: number) {
    this.#clock = clock;
    this.#deafMs = deafMs;
    this.#arrivedAtMs = clock.monotonicMs();
  }

  /** Something came in: the connection works. */
  arrive(): void {
    this.#attendedMs = this.nowMs();
    this.#arrivedAtMs = this.#clock.monotonicMs();
  }

  /** Milliseconds attended since it was made. */
  nowMs(): number {
    return this.#attendedMs + Math.min(this.#deafMs, this.#clock.monotonicMs() - this.#arrivedAtMs);
  }

  isDeaf(): boolean {
    return this.#clock.monotonicMs() - this.#arrivedAtMs > this.#deafMs;
  }
}
