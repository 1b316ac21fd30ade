import type { StoreError } from "../domain/errors.ts";
import type { BlobId } from "../domain/ids.ts";
import type { Clock, Timer } from "../lib/clock.ts";
import type { Deadline } from "../lib/deadline.ts";
import type { Slab } from "./slab-memory.ts";

type Waiter = { atMs: number; resolve: () => void; reject: (cause: unknown) => void; onExpiry: () => Error };

/**
 * What one event turn wrote to one volume: it becomes durable together, so many callers share one wait. Each caller
 * keeps a deadline of its own; one timer, set to the earliest, serves them all.
 */
export class CommitBatch {
  /** Bytes of values written, for the accounts of what is not yet on the disk. */
  valueBytes = 0;
  /** Packed blobs in this batch, which nobody can read yet. */
  readonly blobIds: BlobId[] = [];
  /** Memory that holds values of this batch until it is on the disk. */
  readonly slabs = new Set<Slab>();
  readonly #clock: Clock;
  readonly #stallAtMs: number;
  readonly #onStall: () => void;
  #waiters: Waiter[] = [];
  #timer: Timer | null = null;
  #timerAtMs = Infinity;
  #outcome: { failure: StoreError | null } | null = null;

  /** `onStall` runs when the disk has not answered for `stallMsMax`. */
  constructor(clock: Clock, stallMsMax: number, onStall: () => void) {
    this.#clock = clock;
    this.#stallAtMs = clock.monotonicMs() + stallMsMax;
    this.#onStall = onStall;
    this.#arm(this.#stallAtMs);
  }

  get isSettled(): boolean {
    return this.#outcome !== null;
  }

  /** Resolves when the batch is durable; rejects with its failure, or with `onExpiry()` when time is up before. */
  wait(deadline: Deadline, onExpiry: () => Error): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#outcome !== null) {
        if (this.#outcome.failure === null) resolve();
        else reject(this.#outcome.failure);
        return;
      }
      this.#waiters.push({ atMs: deadline.atMs, resolve, reject, onExpiry });
      if (deadline.atMs < this.#timerAtMs) this.#arm(deadline.atMs);
    });
  }

  settle(failure: StoreError | null): void {
    if (this.#outcome !== null) return;
    this.#outcome = { failure };
    this.#timer?.cancel();
    for (const waiter of this.#waiters) {
      if (failure === null) waiter.resolve();
      else waiter.reject(failure);
    }
    this.#waiters = [];
  }

  #arm(atMs: number): void {
    this.#timer?.cancel();
    this.#timerAtMs = atMs;
    this.#timer = this.#clock.startTimer(Math.max(0, atMs - this.#clock.monotonicMs()), () => this.#expire());
  }

  #expire(): void {
    // Timers may fire a fraction of a millisecond early; what was armed for counts as reached.
    const nowMs = Math.max(this.#clock.monotonicMs(), this.#timerAtMs);
    const late = this.#waiters.filter((waiter) => waiter.atMs <= nowMs);
    this.#waiters = this.#waiters.filter((waiter) => waiter.atMs > nowMs);
    for (const waiter of late) waiter.reject(waiter.onExpiry());
    if (nowMs >= this.#stallAtMs) {
      this.#onStall();
      return;
    }
    this.#arm(this.#waiters.reduce((earliest, waiter) => Math.min(earliest, waiter.atMs), this.#stallAtMs));
  }
}
