import type { BlobId } from "../domain/ids.ts";
import type { Clock } from "../lib/clock.ts";

/** A sender's system gives up a connection that nobody answers after a quarter of an hour. */
const BARRED_MS = 20 * 60_000;
const BARRED_MAX = 100_000;

/**
 * Blobs that were deleted before they came. Whoever deletes a blob of which it does not know whether it arrived wants it
 * gone for good, and what was sent earlier may well come later: over another connection, out of a network that was cut
 * or a process that was paused. Sealed then, nobody would ever look for it.
 *
 * Nothing of this need survive the process: what was under way to it ends with its connections.
 */
export class BarredBlobs {
  readonly #clock: Clock;
  /** When each was deleted, the oldest first. */
  readonly #barred = new Map<BlobId, number>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  add(id: BlobId): void {
    const nowMs = this.#clock.monotonicMs();
    this.#barred.delete(id);
    this.#barred.set(id, nowMs);
    for (const [oldest, atMs] of this.#barred) {
      if (nowMs - atMs < BARRED_MS && this.#barred.size <= BARRED_MAX) break;
      this.#barred.delete(oldest);
    }
  }

  has(id: BlobId): boolean {
    return this.#barred.has(id);
  }
}
