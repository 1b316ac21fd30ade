/**
 * Group commit. Items that arrive while a batch is being worked on wait and form the next one; a lone item is worked
 * on at once and never waits for company. At most one batch is under way.
 */
export class Batcher<Item, Result> {
  readonly #work: (items: Item[]) => Promise<Result[]>;
  readonly #itemsMax: number;
  #waiting: { item: Item; resolve: (result: Result) => void; reject: (cause: unknown) => void }[] = [];
  #running = false;

  /** `work` answers one result per item, in order; when it rejects, every item of the batch rejects alike. */
  constructor(work: (items: Item[]) => Promise<Result[]>, itemsMax: number) {
    this.#work = work;
    this.#itemsMax = itemsMax;
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
      try {
        const results = await this.#work(batch.map((entry) => entry.item));
        batch.forEach((entry, index) => entry.resolve(results[index] as Result));
      } catch (cause) {
        for (const entry of batch) entry.reject(cause);
      }
    }
    this.#running = false;
  }
}
