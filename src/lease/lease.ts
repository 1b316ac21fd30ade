/** Leadership over a named task. At most one holder acts at a time if holders check `isHeld` before each effect. */
export type LeaseGrant = {
  /** Rises with every grant of the same name: an effect with a lower token than one already seen is stale. */
  readonly token: number;
  /** False once the lease expired or was released; never true again. Decided by monotonic time. */
  isHeld(): boolean;
  /** Aborts when the lease is lost. */
  readonly signal: AbortSignal;
  release(): Promise<void>;
};

export type Lease = {
  /**
   * Takes the lease of `name` for `holder`, or null when another holds it. One that its holder does not renew can be
   * taken some time after it was first asked for, so whoever waits for it asks again about every second.
   * @throws {StoreError} `nats_unavailable` (retriable) where leases are kept by servers that do not answer
   */
  tryAcquire(name: string, holder: string): Promise<LeaseGrant | null>;
  /** Who holds it, as far as known. @throws {StoreError} `nats_unavailable` (retriable) */
  holderOf(name: string): Promise<string | null>;
  close(): Promise<void>;
};
