import type { StoredRecord } from "../domain/record.ts";
import type { StoredValue } from "./stored-value.ts";
import { decodeStoredValue } from "./stored-value.ts";

/** Listeners that are told of commits, in the order of the commits. */
export class CommitWatch {
  readonly #listeners = new Set<(stored: StoredRecord) => void>();

  /** The function given back ends the watch. A listener added twice is told twice. */
  add(listener: (stored: StoredRecord) => void): () => void {
    const own = (stored: StoredRecord) => listener(stored);
    this.#listeners.add(own);
    return () => void this.#listeners.delete(own);
  }

  /** Tells of committed values. Records are decoded afresh: the memory of the given ones is their owner's. */
  tell(values: Iterable<StoredValue>): void {
    if (this.#listeners.size === 0) return;
    for (const value of values) {
      const stored = decodeStoredValue(Buffer.from(value));
      for (const listener of this.#listeners) callListener(listener, stored);
    }
  }
}

function callListener(listener: (stored: StoredRecord) => void, stored: StoredRecord): void {
  try {
    listener(stored);
  } catch (bug) {
    // The commit stands, so its caller must not see this error; the process must.
    queueMicrotask(() => {
      throw bug;
    });
  }
}
