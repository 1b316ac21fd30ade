import { assert } from "../lib/assert.ts";

/** Runs calls one after the other in the order they were made, whether earlier ones succeeded or not. */
export class CallOrder {
  #last: Promise<unknown> = Promise.resolve();
  #closed = false;

  async run<T>(work: () => T | Promise<T>): Promise<T> {
    assert(!this.#closed, "a closed upload is not used");
    const result = this.#last.then(work);
    this.#last = result.catch(() => {});
    return await result;
  }

  /** Takes no further calls; resolves when those made have ended. Idempotent. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#last;
  }
}
