import { Batcher } from "./batcher.ts";

/** One `Batcher` per key, for as long as it has work: what waits for the same key is worked on together. */
export class KeyedBatcher<Item, Result> {
  readonly #work: (items: Item[]) => Promise<Result[]>;
  readonly #itemsMax: number;
  readonly #batchers = new Map<string, Batcher<Item, Result>>();

  constructor(work: (items: Item[]) => Promise<Result[]>, itemsMax: number) {
    this.#work = work;
    this.#itemsMax = itemsMax;
  }

  async add(key: string, item: Item): Promise<Result> {
    let batcher = this.#batchers.get(key);
    if (batcher === undefined) {
      batcher = new Batcher(this.#work, this.#itemsMax);
      this.#batchers.set(key, batcher);
    }
    try {
      return await batcher.add(item);
    } finally {
      if (batcher.idle && this.#batchers.get(key) === batcher) this.#batchers.delete(key);
    }
  }
}
