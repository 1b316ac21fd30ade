/** A lease that this process holds: renewed in the background until it is released or lost. */
import { StoreError, isStoreError } from "../domain/errors.ts";
import type { Clock, Timer } from "../lib/clock.ts";
import type { Logger } from "../lib/logger.ts";
import type { LeaseGrant } from "./lease.ts";
import type { LeaseEntry } from "./lease-entry.ts";
import type { LeaseBucket } from "./nats-lease-bucket.ts";

export type NatsGrant = LeaseGrant & {
  /** Resolves when the grant has ended and sends nothing any more. */
  readonly ended: Promise<void>;
};

export type GrantDeps = { readonly clock: Clock; readonly logger: Logger; readonly bucket: LeaseBucket };

export type Grant = {
  readonly name: string;
  readonly entry: LeaseEntry;
  /** Revision of the entry that granted it. */
  readonly token: number;
  /** When that was sent, on the monotonic clock. */
  readonly sentAtMs: number;
};

/** Begins to renew. */
export function holdGrant(deps: GrantDeps, grant: Grant): NatsGrant {
  return new RenewedGrant(deps, grant);
}

class RenewedGrant implements NatsGrant {
  readonly token: number;
  readonly ended: Promise<void>;
  readonly #deps: GrantDeps;
  readonly #grant: Grant;
  readonly #lost = new AbortController();
  #revision: number;
  #heldUntilMs: number;
  #timer: Timer;
  #givenBack: Promise<void> = Promise.resolve();

  constructor(deps: GrantDeps, grant: Grant) {
    this.#deps = deps;
    this.#grant = grant;
    this.token = grant.token;
    this.#revision = grant.token;
    this.#heldUntilMs = this.#expiryOf(grant.sentAtMs);
    this.#timer = this.#startTimer();
    this.ended = this.#renewUntilEnd();
  }

  get signal(): AbortSignal {
    return this.#lost.signal;
  }

  isHeld(): boolean {
    // A process that was stopped may ask before its timers have run.
    if (this.#isOverdue()) this.#end("it was not renewed in time");
    return !this.signal.aborted;
  }

  async release(): Promise<void> {
    // Of a grant that was lost the entry is another's, or this process may take it again.
    if (this.isHeld()) {
      this.#end("it was released");
      this.#givenBack = this.#giveBack();
    }
    await this.#givenBack;
  }

  async #giveBack(): Promise<void> {
    const { bucket, logger } = this.#deps;
    const { name, entry } = this.#grant;
    await this.ended;
    try {
      await bucket.compareAndSet(name, { ...entry, holder: "" }, this.#revision);
    } catch (cause) {
      logger.debug({ lease: name, cause: String(cause) }, "a lease could not be given back and has to expire");
    }
  }

  async #renewUntilEnd(): Promise<void> {
    const { clock, logger } = this.#deps;
    const { ttlMs } = this.#grant.entry;
    let waitMs = ttlMs / 3;
    for (;;) {
      await clock.sleep(waitMs, this.signal);
      if (!this.isHeld()) return;
      const sentAtMs = clock.monotonicMs();
      try {
        await this.#renew(sentAtMs);
        waitMs = Math.max(0, sentAtMs + ttlMs / 3 - clock.monotonicMs());
      } catch (cause) {
        if (!isStoreError(cause)) throw cause;
        logger.debug({ lease: this.#grant.name, cause: cause.message }, "a lease could not be renewed yet");
        waitMs = ttlMs / 24;
      }
    }
  }

  async #renew(sentAtMs: number): Promise<void> {
    const { bucket } = this.#deps;
    const { name, entry } = this.#grant;
    const revision = await bucket.compareAndSet(name, entry, this.#revision);
    if (revision !== null) return this.#renewed(revision, sentAtMs);
    const present = await bucket.read(name);
    if (present?.instance !== entry.instance) return this.#end("another has taken it");
    // An earlier renewal was stored though its answer was lost. Since when it stands is not known: the next one tells.
    const renewed = await bucket.compareAndSet(name, entry, present.revision);
    if (renewed !== null) return this.#renewed(renewed, sentAtMs);
    throw new StoreError("nats_unavailable", `The lease ${name} changed while it was renewed`, { retriable: true });
  }

  #renewed(revision: number, sentAtMs: number): void {
    this.#revision = revision;
    // What was lost stays lost, even when the answer arrives after all.
    if (!this.isHeld()) return;
    this.#heldUntilMs = this.#expiryOf(sentAtMs);
    this.#timer.cancel();
    this.#timer = this.#startTimer();
  }

  #startTimer(): Timer {
    const { clock } = this.#deps;
    return clock.startTimer(Math.max(0, this.#heldUntilMs - clock.monotonicMs()), () => {
      // Timers may be a little early.
      if (!this.#isOverdue() && !this.signal.aborted) this.#timer = this.#startTimer();
      else this.isHeld();
    });
  }

  #end(reason: string): void {
    if (this.signal.aborted) return;
    this.#timer.cancel();
    this.#lost.abort();
    this.#deps.logger.info({ lease: this.#grant.name, token: this.token, reason }, "a lease has ended");
  }

  #isOverdue(): boolean {
    return this.#deps.clock.monotonicMs() >= this.#heldUntilMs;
  }

  #expiryOf(sentAtMs: number): number {
    return sentAtMs + (this.#grant.entry.ttlMs * 2) / 3;
  }
}
