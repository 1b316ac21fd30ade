import type { Clock } from "./clock.ts";
import { restAfter } from "./rest.ts";

/**
 * Group commit. Items that arrive while a batch is being worked on wait and form the next one; a lone item is worked
 * on at once and never waits for company. At most one batch is under way.
 */
export class Batcher<Item, Result> {
  readonly #work: (items: Item[]) => Promise<Result[]>;
  readonly #itemsMax: number;
  readonly #restClock: Clock | null;
  #waiting: { item: Item; resolve: (result: Result) => void; reject: (cause: unknown) => void }[] = [];
  #running = false;

  /**
   * `work` answers one result per item, in order; when it rejects, every item of the batch rejects alike. With a
   * `restClock`, batches are kept apart as `restAfter` says.
   */
  constructor(work: (items: Item[]) => Promise<Result[]>, itemsMax: number, restClock: Clock | null = null) {
    this.#work = work;
    this.#itemsMax = itemsMax;
    this.#restClock = restClock;
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
      const startedAtMs = this.#restClock?.monotonicMs() ?? 0;
      try {
        const results = await this.#work(batch.map((entry) => entry.item));
        batch.forEach((entry, index) => entry.resolve(results[index] as Result));
      } catch (cause) {
        for (const entry of batch) entry.reject(cause);
      }
      if (this.#restClock === null) continue;
      const tookMs = this.#restClock.monotonicMs() - startedAtMs;
      const restMs = restAfter({ memberCount: batch.length, tookMs });
      if (restMs > 0) await this.#restClock.sleep(restMs);
    }
    this.#running = false;
  }
}
