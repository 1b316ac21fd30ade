import type { Clock } from "./clock.ts";
import { pauseAfter } from "./round-pause.ts";

/**
 * Group commit. Items that arrive while a batch is being worked on wait and form the next one; an item that
 * meets nothing under way is worked on at once. At most one batch is under way.
 */
export class Batcher<Item, Result> {
  readonly #work: (items: Item[]) => Promise<Result[]>;
  readonly #itemsMax: number;
  readonly #pauseClock: Clock | null;
  #waiting: { item: Item; resolve: (result: Result) => void; reject: (cause: unknown) => void }[] = [];
  #running = false;

  /**
   * `work` answers one result per item, in order; when it rejects, every item of the batch rejects alike. With a
   * `pauseClock`, batches are kept apart as `pauseAfter` says.
   */
  constructor(work: (items: Item[]) => Promise<Result[]>, itemsMax: number, pauseClock: Clock | null = null) {
    this.#work = work;
    this.#itemsMax = itemsMax;
    this.#pauseClock = pauseClock;
  }

  /** True when nothing waits and no batch is under way. */
  get idle(): boolean {
    return this.#waiting.length === 0 && !this.#running;
  }

  add(item: Item): Promise<Result> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ item, resolve, reject });
      if (!this.#running) void this.#run();
    });
  }

  async #run(): Promise<void> {
    this.#running = true;
    // One turn of the microtask queue lets everything that became ready together share the first batch.
    await Promise.resolve();
    while (this.#waiting.length > 0) {
      const batch = this.#waiting.splice(0, this.#itemsMax);
      const startedAtMs = this.#pauseClock?.monotonicMs() ?? 0;
      try {
        const results = await this.#work(batch.map((entry) => entry.item));
        batch.forEach((entry, index) => entry.resolve(results[index] as Result));
      } catch (cause) {
        for (const entry of batch) entry.reject(cause);
      }
      const clock = this.#pauseClock;
      if (clock !== null) await pauseAfter(clock, { startedAtMs, memberCount: batch.length });
    }
    this.#running = false;
  }
}
