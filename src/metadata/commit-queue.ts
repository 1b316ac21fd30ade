import type { Revision } from "../domain/ids.ts";
import type { RoundCommit } from "./nats-round.ts";
import { batchBytesOf } from "./nats-round.ts";

export type QueuedCommit = RoundCommit & {
  /** Rises from call to call. */
  readonly order: number;
  /** True when nobody waits for it any more. */
  readonly isOver: () => boolean;
};

/**
 * Commits that wait for a round. Commits of different keys may overtake each other; those of one key never do, and never
 * share a round: a key is held from when a commit of it is taken until `release`.
 */
export class CommitQueue<Commit extends QueuedCommit> {
  #waiting: Commit[] = [];
  readonly #held = new Set<string>();

  add(commit: Commit): void {
    const last = this.#waiting.at(-1);
    this.#waiting.push(commit);
    // One that comes back from a round goes to where it was called.
    if (last !== undefined && last.order > commit.order) this.#waiting.sort((a, b) => a.order - b.order);
  }

  /** Takes what may be sent now, up to these limits but at least one; and what needs not be sent, being outdated. */
  take(
    limits: { readonly countMax: number; readonly bytesMax: number },
    revisionOf: (slot: string) => Revision,
  ): { readonly ready: Commit[]; readonly outdated: Commit[] } {
    const [ready, outdated, left]: [Commit[], Commit[], Commit[]] = [[], [], []];
    let bytes = 0;
    let isFull = false;
    for (const commit of this.#waiting) {
      if (commit.isOver()) continue;
      if (isFull || this.#held.has(commit.slot)) left.push(commit);
      else if (revisionOf(commit.slot) > commit.ifRevision) outdated.push(commit);
      else {
        bytes += batchBytesOf(commit);
        isFull = ready.length > 0 && (bytes > limits.bytesMax || ready.length === limits.countMax);
        if (isFull) {
          left.push(commit);
          continue;
        }
        ready.push(commit);
        this.#held.add(commit.slot);
      }
    }
    this.#waiting = left;
    return { ready, outdated };
  }

  /** Other commits of the key may be taken again. */
  release(slot: string): void {
    this.#held.delete(slot);
  }
}
