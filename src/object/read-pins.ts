import type { BlobId } from "../domain/ids.ts";
import type { BlobSet } from "../domain/manifest.ts";
import type { Clock } from "../lib/clock.ts";

/** What readers elsewhere hold on to. Known late, as they tell only of what they have held for a while. */
export type RemotePins = {
  /** Whether some other process streams from the named set (`<txid>.<part>`). */
  isPinned(name: string): boolean;
};

/** Counts the readers of each blob set, so that nothing is freed under a download that still streams from it. */
export class ReadPins {
  readonly #clock: Clock;
  readonly #held = new Map<string, { count: number; readonly sinceMs: number }>();
  readonly #waiting = new Map<string, (() => void)[]>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Pins the sets until the function given back is called. */
  pin(sets: readonly BlobSet[]): () => void {
    const names = sets.map(blobSetNameOf);
    for (const name of names) this.#pin(name);
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      for (const name of names) this.#unpin(name);
    };
  }

  isPinned(name: string): boolean {
    return this.#held.has(name);
  }

  /** The names of sets that have been read without a pause for longer than `ms`. */
  *heldLongerThan(ms: number): Generator<string, void, void> {
    const nowMs = this.#clock.monotonicMs();
    for (const [name, { sinceMs }] of this.#held) if (nowMs - sinceMs > ms) yield name;
  }

  /** Resolves when nobody reads the blobs of the named set (`<txid>.<part>`). */
  async whenFree(name: string): Promise<void> {
    if (!this.#held.has(name)) return;
    await new Promise<void>((resolve) => {
      this.#waiting.set(name, [...(this.#waiting.get(name) ?? []), resolve]);
    });
  }

  #pin(name: string): void {
    const held = this.#held.get(name);
    if (held === undefined) this.#held.set(name, { count: 1, sinceMs: this.#clock.monotonicMs() });
    else held.count += 1;
  }

  #unpin(name: string): void {
    const held = this.#held.get(name);
    if (held !== undefined && held.count > 1) {
      held.count -= 1;
      return;
    }
    this.#held.delete(name);
    for (const wake of this.#waiting.get(name) ?? []) wake();
    this.#waiting.delete(name);
  }
}

/** The name of the set that a blob belongs to: its id without the index. */
export function blobSetName(id: BlobId): string {
  return id.slice(0, id.lastIndexOf("."));
}

export function blobSetNameOf(set: BlobSet): string {
  return `${set.txid}.${set.part}`;
}
