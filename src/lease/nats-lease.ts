/**
 * Leases in a NATS KV bucket. Time is measured by the monotonic clock of whoever measures, never compared between
 * machines and never left to a server:
 *
 * - A holder renews its entry every third of the time to live, and counts itself out when two thirds have passed since
 *   it *sent* the last renewal that was acknowledged.
 * - A challenger takes over by compare-and-set when the entry's revision has not changed for a whole time to live since
 *   the challenger first saw it. That is never earlier than the renewal was sent, so a third lies between the two.
 *
 * The token is the revision of the grant: every grant changes the entry, so it rises across renewals, expiry and release.
 * A challenger knows how long an entry has been unchanged only if it looks: whoever wants the lease should ask for it
 * about every second. Clocks that stand still while a machine sleeps are what the token is for.
 */
import { assert } from "../lib/assert.ts";
import type { NatsLink } from "../nats/nats-link.ts";
import type { Lease, LeaseGrant } from "./lease.ts";
import type { NatsGrant } from "./nats-lease-grant.ts";
import { holdGrant } from "./nats-lease-grant.ts";
import type { LeaseBucket, StoredEntry } from "./nats-lease-bucket.ts";
import { openLeaseBucket } from "./nats-lease-bucket.ts";

export type NatsLeaseOptions = {
  /** How long after its last renewal a lease can be taken over from a holder that has died. Default 6 s. */
  readonly ttlMs?: number;
};

const TTL_MS = 6_000;

/**
 * Opens the leases of the cluster. `tryAcquire` and `holderOf` reject with `nats_unavailable` (retriable) when the servers
 * do not answer; closing releases what is held.
 * @throws {StoreError} `nats_unavailable` (retriable)
 */
export async function openNatsLease(link: NatsLink, options: NatsLeaseOptions = {}): Promise<Lease> {
  const ttlMs = options.ttlMs ?? TTL_MS;
  return new NatsLease(link, await openLeaseBucket(link, ttlMs / 3), ttlMs);
}

class NatsLease implements Lease {
  readonly #link: NatsLink;
  readonly #bucket: LeaseBucket;
  readonly #ttlMs: number;
  /** Tells this process's entries from those of others, also when they go by the same name of a holder. */
  readonly #instance: string;
  readonly #grants = new Map<string, NatsGrant>();
  readonly #acquiring = new Set<string>();
  /** Since when the entries of others are known to be as they are. */
  readonly #seen = new Map<string, { readonly revision: number; readonly sinceMs: number }>();
  #closed = false;

  constructor(link: NatsLink, bucket: LeaseBucket, ttlMs: number) {
    this.#link = link;
    this.#bucket = bucket;
    this.#ttlMs = ttlMs;
    this.#instance = Buffer.from(link.random.bytes(8)).toString("hex");
  }

  async tryAcquire(name: string, holder: string): Promise<LeaseGrant | null> {
    assert(holder !== "", "the holder of a lease has a name");
    if (this.#closed || this.#acquiring.has(name) || this.#grants.get(name)?.isHeld()) return null;
    this.#acquiring.add(name);
    try {
      return await this.#acquire(name, holder);
    } finally {
      this.#acquiring.delete(name);
    }
  }

  async holderOf(name: string): Promise<string | null> {
    const entry = await this.#bucket.read(name);
    return entry === null || this.#isFree(name, entry) ? null : entry.holder;
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await Promise.all([...this.#grants.values()].map((grant) => grant.release()));
  }

  async #acquire(name: string, holder: string): Promise<LeaseGrant | null> {
    // The grant before this one may still be giving its entry back.
    await this.#grants.get(name)?.ended;
    const entry = await this.#bucket.read(name);
    if (entry !== null && !this.#isFree(name, entry)) return null;
    const sentAtMs = this.#link.clock.monotonicMs();
    const own = { instance: this.#instance, ttlMs: this.#ttlMs, holder };
    const token = await this.#bucket.compareAndSet(name, own, entry?.revision ?? 0);
    if (token === null) return null;
    const { clock, logger } = this.#link;
    const grant = holdGrant({ clock, logger, bucket: this.#bucket }, { name, entry: own, token, sentAtMs });
    this.#grants.set(name, grant);
    if (this.#closed) await grant.release();
    return grant;
  }

  /** Whether nobody can hold it any more; remembers what it has seen of it. */
  #isFree(name: string, { revision, instance, ttlMs, holder }: StoredEntry): boolean {
    if (holder === "") return true;
    // An entry of this process outlives its grant when an answer or a release was lost: nobody acts upon it.
    if (instance === this.#instance) return this.#grants.get(name)?.isHeld() !== true;
    const nowMs = this.#link.clock.monotonicMs();
    const seen = this.#seen.get(name);
    if (seen?.revision === revision) return nowMs - seen.sinceMs >= ttlMs;
    this.#seen.set(name, { revision, sinceMs: nowMs });
    return false;
  }
}
