/**
 * Cuts off clients that send or take a body too slowly, however long an honest transfer lasts. Only time spent waiting
 * for the client counts: when the store is the slow side, no client is blamed.
 *
 * One timer looks after all transfers, so that a transfer costs a set entry and not a timer.
 */
import type { Clock, Timer } from "../lib/clock.ts";

export type ProgressLimits = {
  /** Over each window of waiting a client has to move at least this; 0 waits for ever. */
  readonly bytesPerSecondMin: number;
  /** How much waiting is measured at once, which is also the grace at the start. */
  readonly windowMs: number;
  /** How long one write of a response may go without being taken. */
  readonly stallMs: number;
};

const SWEEP_MS = 1_000;

export class ProgressWatch {
  readonly #clock: Clock;
  readonly #limits: ProgressLimits;
  readonly #transfers = new Set<Transfer>();
  #timer: Timer | null = null;

  constructor(clock: Clock, limits: ProgressLimits) {
    this.#clock = clock;
    this.#limits = limits;
  }

  /** Transfers under way. */
  get size(): number {
    return this.#transfers.size;
  }

  /** Watches bytes that a client sends: `onSlow` is called once when their rate stays below the minimum. */
  watchUpload(onSlow: () => void): Transfer {
    return this.#watch(onSlow, (transfer, now) => transfer.isBelow(now, this.#limits));
  }

  /** Watches bytes that a client takes: `onSlow` is called once when one write waits longer than the stall limit. */
  watchDownload(onSlow: () => void): Transfer {
    return this.#watch(onSlow, (transfer, now) => transfer.stalledMs(now) >= this.#limits.stallMs);
  }

  close(): void {
    this.#timer?.cancel();
    this.#timer = null;
    this.#transfers.clear();
  }

  #watch(onSlow: () => void, isSlow: (transfer: Transfer, now: number) => boolean): Transfer {
    const transfer: Transfer = new Transfer(this.#clock, onSlow, isSlow, () => this.#transfers.delete(transfer));
    if (this.#limits.bytesPerSecondMin === 0) return transfer;
    this.#transfers.add(transfer);
    this.#timer ??= this.#clock.startTimer(SWEEP_MS, this.#sweep);
    return transfer;
  }

  readonly #sweep = (): void => {
    this.#timer = null;
    const now = this.#clock.monotonicMs();
    for (const transfer of this.#transfers) transfer.check(now);
    if (this.#transfers.size > 0) this.#timer = this.#clock.startTimer(SWEEP_MS, this.#sweep);
  };
}

/** One body under way. */
export class Transfer {
  readonly #clock: Clock;
  readonly #onSlow: () => void;
  readonly #isSlow: (transfer: Transfer, now: number) => boolean;
  readonly #onEnd: () => void;
  #waitingFromMs = -1;
  #waitedMs = 0;
  #bytes = 0;

  constructor(
    clock: Clock,
    onSlow: () => void,
    isSlow: (transfer: Transfer, now: number) => boolean,
    onEnd: () => void,
  ) {
    this.#clock = clock;
    this.#onSlow = onSlow;
    this.#isSlow = isSlow;
    this.#onEnd = onEnd;
  }

  /** From now on it is the client's turn. */
  beginWait(): void {
    if (this.#waitingFromMs === -1) this.#waitingFromMs = this.#clock.monotonicMs();
  }

  /** The client moved `bytes`; whose turn it is from here, `beginWait` says. */
  moved(bytes: number): void {
    this.#bytes += bytes;
    if (this.#waitingFromMs === -1) return;
    this.#waitedMs += this.#clock.monotonicMs() - this.#waitingFromMs;
    this.#waitingFromMs = -1;
  }

  /** Ends the watch. Idempotent. */
  end(): void {
    this.#onEnd();
  }

  check(now: number): void {
    if (!this.#isSlow(this, now)) return;
    this.end();
    this.#onSlow();
  }

  stalledMs(now: number): number {
    return this.#waitingFromMs === -1 ? 0 : now - this.#waitingFromMs;
  }

  isBelow(now: number, limits: ProgressLimits): boolean {
    const waitedMs = this.#waitedMs + this.stalledMs(now);
    if (waitedMs < limits.windowMs) return false;
    if (this.#bytes * 1_000 < limits.bytesPerSecondMin * waitedMs) return true;
    this.#bytes = 0;
    this.#waitedMs = 0;
    if (this.#waitingFromMs !== -1) this.#waitingFromMs = now;
    return false;
  }
}
