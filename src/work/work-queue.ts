import type { Deadline } from "../lib/deadline.ts";
import type { Work } from "../domain/work.ts";

/** A piece of work taken from the queue. Unless it is settled in time, it is given to somebody again. */
export type Delivery = {
  readonly work: Work;
  /** How often it was given out, from 1. */
  readonly attempt: number;
  /** Still at it: the time to settle it begins anew. To be called about every `LEASE_MS / 3`; never throws. */
  extend(): void;
  /** It is done with, for good. May be lost in a crash or an outage: then it is given out again. */
  done(): Promise<void>;
  /** Nothing could be done now: to be given out again after `delayMs` at the earliest. */
  later(delayMs: number): Promise<void>;
};

export type WorkDepth = {
  /** Pieces that wait or are under way, one count per urgency. */
  readonly byUrgency: readonly number[];
};

/**
 * Work for all healers together, durable where the store is. The most urgent is given out first, within an urgency the
 * oldest; each piece to one taker at a time, as long as that shows itself. Work is a hint (`domain/work.ts`), so a piece
 * that is given out twice does no harm.
 */
export type WorkQueue = {
  /**
   * Adds work; resolves when it would survive a crash. A piece of the same name (`workName`) that waits is replaced; for a
   * moment it may still be given out, and this one after it.
   * @throws {StoreError} `overloaded` (retriable) the queue is full for this urgency, `work_unavailable` (retriable) it
   * cannot be reached: the outcome is unknown
   */
  add(work: Work, deadline: Deadline): Promise<void>;
  /** The next piece; waits up to `waitMs` for one, then answers null. Null at once when `signal` aborts. @throws as `add` */
  take(waitMs: number, signal: AbortSignal): Promise<Delivery | null>;
  /**
   * As it was a moment ago: what was just added or settled may not show yet.
   * @throws {StoreError} `work_unavailable` (retriable)
   */
  depth(deadline: Deadline): Promise<WorkDepth>;
  close(): Promise<void>;
};

/** A piece that was not settled or extended for so long is given out again. */
export const LEASE_MS = 30_000;
/** Pieces of one urgency that may wait. What does not fit is found again by the next audit. */
export const WORK_WAITING_MAX = 100_000;
