import type { Clock } from "../lib/clock.ts";
import type { Logger } from "../lib/logger.ts";
import type { Lease, LeaseGrant } from "../lease/lease.ts";
import type { HealerMetrics } from "./metrics.ts";

export type LeadershipOptions = {
  /** What is led; every process that competes for it uses the same name. */
  readonly name: string;
  /** This process, unique in the cluster. */
  readonly holder: string;
  readonly clock: Clock;
  readonly logger: Logger;
  /** How long to wait between two attempts to take a lease that another holds. */
  readonly retryMs: number;
  readonly metrics?: HealerMetrics;
};

/** Begins the work of a leader, which ends when what it answers is disposed. Each effect checks `grant.isHeld()` first. */
export type Duty = (grant: LeaseGrant) => AsyncDisposable | Promise<AsyncDisposable>;

/** A process's part in the competition. Disposing ends its duties, waits for them, and lets the lease go. */
export type Leadership = AsyncDisposable & {
  isLeading(): boolean;
  /** Wall time of this process's own term, or null. */
  sinceMs(): number | null;
  /** Who leads, as far as this process knows. */
  holder(): string | null;
};

type Term = { readonly grant: LeaseGrant; readonly sinceMs: number };

/**
 * Competes for the lease until disposed. Whoever holds it runs `duty`; when it is lost the duty is disposed, and only
 * when that is done does this process compete again, so that it never runs two at once. The lease stays the caller's.
 */
export function leadWhileHeld(lease: Lease, options: LeadershipOptions, duty: Duty): Leadership {
  const stop = new AbortController();
  let term: Term | null = null;
  let holder: string | null = null;
  let reachable = true;
  const logger = options.logger.child({ lease: options.name });

  const competing = (async () => {
    while (!stop.signal.aborted) {
      const grant = await acquire();
      if (grant !== null) await serve(grant);
      await options.clock.sleep(options.retryMs, stop.signal);
    }
  })();

  async function acquire(): Promise<LeaseGrant | null> {
    try {
      const grant = await lease.tryAcquire(options.name, options.holder);
      holder = grant === null ? await lease.holderOf(options.name) : options.holder;
      if (!reachable) logger.info({}, "the lease can be reached again");
      reachable = true;
      return grant;
    } catch (cause) {
      // Told once, not at every attempt of an outage.
      if (reachable) logger.warn({ cause: String(cause) }, "the lease cannot be reached");
      reachable = false;
      holder = null;
      return null;
    }
  }

  /** One term, to its end. */
  async function serve(grant: LeaseGrant): Promise<void> {
    const over = AbortSignal.any([grant.signal, stop.signal]);
    term = { grant, sinceMs: options.clock.wallMs() };
    options.metrics?.beganTerm();
    logger.info({ leaseToken: grant.token }, "this process leads");
    try {
      const work = await duty(grant);
      await whenAborted(over);
      await work[Symbol.asyncDispose]();
    } catch (cause) {
      logger.error({ leaseToken: grant.token, cause: String(cause) }, "the work of the leader failed");
    }
    const lost = !grant.isHeld();
    term = null;
    options.metrics?.endedTerm();
    logger.info({ leaseToken: grant.token, lost }, "this process leads no more");
    // A lease that cannot be given back runs out by itself.
    await grant.release().catch((cause: unknown) => logger.warn({ cause: String(cause) }, "a lease was not released"));
  }

  return {
    isLeading: () => term?.grant.isHeld() === true,
    sinceMs: () => (term?.grant.isHeld() === true ? term.sinceMs : null),
    holder: () => holder,
    async [Symbol.asyncDispose]() {
      stop.abort();
      await competing;
    },
  };
}

function whenAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
