import type { BlobId } from "../domain/ids.ts";
import type { BlobSet } from "../domain/manifest.ts";

/** Counts the readers of each blob set, so that nothing is freed under a download that still streams from it. */
export class ReadPins {
  readonly #counts = new Map<string, number>();
  readonly #waiting = new Map<string, (() => void)[]>();

  /** Pins the sets until the function given back is called. */
  pin(sets: readonly BlobSet[]): () => void {
    const names = sets.map(nameOf);
    for (const name of names) this.#counts.set(name, (this.#counts.get(name) ?? 0) + 1);
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      for (const name of names) this.#unpin(name);
    };
  }

  isPinned(name: string): boolean {
    return this.#counts.has(name);
  }

  /** Resolves when nobody reads the blobs of the named set (`<txid>.<part>`). */
  async whenFree(name: string): Promise<void> {
    if (!this.#counts.has(name)) return;
    await new Promise<void>((resolve) => {
      this.#waiting.set(name, [...(this.#waiting.get(name) ?? []), resolve]);
    });
  }

  #unpin(name: string): void {
    const count = (this.#counts.get(name) ?? 0) - 1;
    if (count > 0) {
      this.#counts.set(name, count);
      return;
    }
    this.#counts.delete(name);
    for (const wake of this.#waiting.get(name) ?? []) wake();
    this.#waiting.delete(name);
  }
}

/** The set that a blob belongs to: its id without the index. */
export function blobSetName(id: BlobId): string {
  return id.slice(0, id.lastIndexOf("."));
}

function nameOf(set: BlobSet): string {
  return `${set.txid}.${set.part}`;
}
