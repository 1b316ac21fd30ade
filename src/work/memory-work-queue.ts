/** Work of a store in one process. It need not survive: what was not done is found again by the next audit. */
import { StoreError } from "../domain/errors.ts";
import type { Urgency, Work } from "../domain/work.ts";
import { URGENCIES, workName } from "../domain/work.ts";
import type { Clock } from "../lib/clock.ts";
import type { Delivery, WorkDepth, WorkQueue } from "./work-queue.ts";
import { LEASE_MS, WORK_WAITING_MAX } from "./work-queue.ts";

export type MemoryWorkQueueOptions = { readonly clock: Clock; readonly waitingMax?: number; readonly leaseMs?: number };

export function createMemoryWorkQueue(options: MemoryWorkQueueOptions): WorkQueue {
  return new MemoryWorkQueue(options);
}

type Piece = {
  readonly name: string;
  readonly work: Work;
  attempt: number;
  /** When it may be given out; moves on while somebody has it. */
  dueMs: number;
};

class MemoryWorkQueue implements WorkQueue {
  readonly #clock: Clock;
  readonly #waitingMax: number;
  readonly #leaseMs: number;
  /** By urgency, in the order of their coming. */
  readonly #pieces: readonly Map<string, Piece>[] = URGENCIES.map(() => new Map());
  #isClosed = false;
  #onChange = new AbortController();

  constructor({ clock, waitingMax = WORK_WAITING_MAX, leaseMs = LEASE_MS }: MemoryWorkQueueOptions) {
    this.#clock = clock;
    this.#waitingMax = waitingMax;
    this.#leaseMs = leaseMs;
  }

  async add(work: Work): Promise<void> {
    this.#refuseWhenClosed();
    const name = workName(work);
    const pieces = this.#of(work.urgency);
    if (!pieces.has(name) && pieces.size >= this.#waitingMax) {
      throw new StoreError("overloaded", `Cannot queue more work: ${pieces.size} pieces of its urgency wait`, {
        retriable: true,
      });
    }
    // Behind the others, and a piece of its own: who has the earlier one settles just that.
    pieces.delete(name);
    pieces.set(name, { name, work, attempt: 0, dueMs: this.#clock.monotonicMs() });
    this.#changed();
  }

  async take(waitMs: number, signal: AbortSignal): Promise<Delivery | null> {
    const untilMs = this.#clock.monotonicMs() + waitMs;
    for (;;) {
      this.#refuseWhenClosed();
      if (signal.aborted) return null;
      const nowMs = this.#clock.monotonicMs();
      const piece = this.#next(nowMs);
      if (piece !== null) return this.#give(piece, nowMs);
      if (nowMs >= untilMs) return null;
      const restMs = Math.max(1, Math.min(untilMs, this.#earliestMs()) - nowMs);
      await this.#clock.sleep(restMs, AbortSignal.any([signal, this.#onChange.signal]));
    }
  }

  async depth(): Promise<WorkDepth> {
    this.#refuseWhenClosed();
    return { byUrgency: this.#pieces.map(({ size }) => size) };
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#changed();
  }

  #of(urgency: Urgency): Map<string, Piece> {
    return this.#pieces[urgency] as Map<string, Piece>;
  }

  #next(nowMs: number): Piece | null {
    for (const pieces of this.#pieces) {
      for (const piece of pieces.values()) if (piece.dueMs <= nowMs) return piece;
    }
    return null;
  }

  #earliestMs(): number {
    let earliestMs = Number.POSITIVE_INFINITY;
    for (const pieces of this.#pieces) {
      for (const { dueMs } of pieces.values()) earliestMs = Math.min(earliestMs, dueMs);
    }
    return earliestMs;
  }

  #give(piece: Piece, nowMs: number): Delivery {
    piece.attempt += 1;
    piece.dueMs = nowMs + this.#leaseMs;
    const { attempt, work } = piece;
    const pieces = this.#of(work.urgency);
    const isOurs = () => pieces.get(piece.name) === piece && piece.attempt === attempt;
    const wait = (delayMs: number) => {
      if (!isOurs()) return;
      piece.dueMs = this.#clock.monotonicMs() + delayMs;
      this.#changed();
    };
    return {
      work,
      attempt,
      extend: () => wait(this.#leaseMs),
      done: async () => {
        if (isOurs()) pieces.delete(piece.name);
      },
      later: async (delayMs) => wait(delayMs),
    };
  }

  #changed(): void {
    this.#onChange.abort();
    this.#onChange = new AbortController();
  }

  #refuseWhenClosed(): void {
    if (this.#isClosed) throw new StoreError("work_unavailable", "The work queue is closed", { retriable: true });
  }
}
