import type { Clock } from "./clock.ts";

export type Permit = { release(): void };

/** Counted permits, first come first served. Used for bytes in flight, so a permit may be worth many units. */
export class Semaphore {
  readonly #limit: number;
  readonly #clock: Clock;
  #used = 0;
  readonly #waiting: { units: number; grant: (permit: Permit | null) => void }[] = [];

  constructor(limit: number, clock: Clock) {
    this.#limit = limit;
    this.#clock = clock;
  }

  get used(): number {
    return this.#used;
  }

  get limit(): number {
    return this.#limit;
  }

  /** Takes `units` at once, or answers null. Never overtakes who already waits. */
  tryAcquire(units: number): Permit | null {
    if (this.#waiting.length > 0 || this.#used + units > this.#limit) return null;
    return this.#grant(units);
  }

  /** Takes `units`, waiting up to `waitMs`; null when they did not come free in that time. */
  async acquire(units: number, waitMs: number): Promise<Permit | null> {
    const permit = this.tryAcquire(units);
    if (permit !== null || units > this.#limit) return permit;
    return await new Promise((resolve) => {
      const timer = this.#clock.startTimer(waitMs, () => {
        this.#waiting.splice(this.#waiting.indexOf(entry), 1);
        resolve(null);
        this.#wakeWaiting();
      });
      const entry = {
        units,
        grant: (granted: Permit | null) => {
          timer.cancel();
          resolve(granted);
        },
      };
      this.#waiting.push(entry);
    });
  }

  #grant(units: number): Permit {
    this.#used += units;
    let held = true;
    return {
      release: () => {
        if (!held) return;
        held = false;
        this.#used -= units;
        this.#wakeWaiting();
      },
    };
  }

  #wakeWaiting(): void {
    for (let first = this.#waiting[0]; first !== undefined; first = this.#waiting[0]) {
      if (this.#used + first.units > this.#limit) return;
      this.#waiting.shift();
      first.grant(this.#grant(first.units));
    }
  }
}
