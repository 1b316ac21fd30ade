import type { Alarms } from "../lib/alarms.ts";
import type { Timer } from "../lib/clock.ts";

/**
 * Bounds the wait for the slow ones of a group: once enough of it have done their work, each of the others gets
 * `graceMs` more. Before that nobody is slow, as without enough of them nothing can go on anyway.
 */
export class Patience {
  readonly #alarms: Alarms;
  readonly #graceMs: number;
  readonly #waiting = new Set<() => void>();
  #lacking: number;
  #alarm: Timer | null = null;

  constructor(alarms: Alarms, options: { readonly enough: number; readonly graceMs: number }) {
    this.#alarms = alarms;
    this.#graceMs = options.graceMs;
    this.#lacking = options.enough;
  }

  /** What `work` resolves to, or null when its time is up: then it goes on, and is the caller's to look after. */
  within<T>(work: Promise<T>): Promise<{ readonly value: T } | null> {
    return new Promise((resolve, reject) => {
      const wait = this.#begin(() => resolve(null));
      work.then(
        (value) => {
          wait.cancel();
          this.#noteDone();
          resolve({ value });
        },
        (cause: unknown) => {
          wait.cancel();
          reject(cause);
        },
      );
    });
  }

  #begin(onOver: () => void): Timer {
    // Who begins when enough are done already is the second try for one that was slow: it has its own time.
    if (this.#lacking <= 0) return this.#alarms.set(this.#graceMs, onOver);
    this.#waiting.add(onOver);
    return {
      cancel: () => {
        this.#waiting.delete(onOver);
        if (this.#waiting.size === 0) this.#alarm?.cancel();
      },
    };
  }

  #noteDone(): void {
    this.#lacking -= 1;
    if (this.#lacking !== 0 || this.#waiting.size === 0) return;
    this.#alarm = this.#alarms.set(this.#graceMs, () => {
      for (const onOver of this.#waiting) onOver();
      this.#waiting.clear();
    });
  }
}
