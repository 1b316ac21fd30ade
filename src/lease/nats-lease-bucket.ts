/** The KV bucket of leases: one entry per name, changed by compare-and-set alone. */
import { JetStreamApiCodes, JetStreamApiError, StorageType, jetstream } from "@nats-io/jetstream";
import type { KV } from "@nats-io/kv";
import { Kvm } from "@nats-io/kv";
import { StoreError } from "../domain/errors.ts";
import { untilServersAgree } from "../nats/nats-ensure-stream.ts";
import type { NatsLink } from "../nats/nats-link.ts";
import type { LeaseEntry } from "./lease-entry.ts";
import { decodeLeaseEntry, encodeLeaseEntry } from "./lease-entry.ts";

export type StoredEntry = LeaseEntry & { readonly revision: number };

export class LeaseBucket {
  readonly #bucket: KV;

  constructor(bucket: KV) {
    this.#bucket = bucket;
  }

  /** As the stream's leader tells it, or null when there never was one. @throws {StoreError} `nats_unavailable` (retriable), `format_unknown` */
  async read(name: string): Promise<StoredEntry | null> {
    const stored = await this.#bucket.get(name).catch((cause: unknown) => {
      throw unavailable(`Cannot read the lease ${name}`, cause);
    });
    if (stored === null) return null;
    const { revision, operation, value } = stored;
    // Somebody has deleted it by hand: that ends the lease.
    if (operation !== "PUT") return { instance: "", ttlMs: 0, holder: "", revision };
    return { ...decodeLeaseEntry(value), revision };
  }

  /**
   * Stores an entry if the present one is that of `ifRevision`, 0 for none. Answers its revision, or null when it is not.
   * @throws {StoreError} `nats_unavailable` (retriable) the outcome is unknown
   */
  async compareAndSet(name: string, entry: LeaseEntry, ifRevision: number): Promise<number | null> {
    try {
      return await this.#bucket.put(name, encodeLeaseEntry(entry), { previousSeq: ifRevision });
    } catch (cause) {
      if (cause instanceof JetStreamApiError && WRONG_REVISION.has(cause.code)) return null;
      throw unavailable(`Cannot write the lease ${name}`, cause);
    }
  }
}

/** The other code is for a conflict with a message that is itself not stored yet. */
const WRONG_REVISION = new Set<number>([
  JetStreamApiCodes.StreamWrongLastSequence,
  JetStreamApiCodes.StreamWrongLastSequenceUnknown,
]);

/**
 * Creates the bucket unless it exists; each request to it takes at most `requestMs`. Entries have no age limit: a server
 * measures it by its own wall clock, and one that is an hour ahead would end every lease at once.
 * @throws {StoreError} `nats_unavailable` (retriable)
 */
export async function openLeaseBucket(link: NatsLink, requestMs: number): Promise<LeaseBucket> {
  const name = link.names.leaseBucket;
  const client = jetstream(link.connection, { timeout: requestMs });
  const bucket = await untilServersAgree(link, name, () =>
    new Kvm(client).create(name, {
      history: 1,
      storage: StorageType.File,
      replicas: link.streamReplicas,
      // Whoever answers such a read may lag behind, which would make each look take several tries.
      allow_direct: false,
    }),
  );
  return new LeaseBucket(bucket);
}

function unavailable(what: string, cause: unknown): StoreError {
  return new StoreError("nats_unavailable", `${what}: ${cause instanceof Error ? cause.message : String(cause)}`, {
    retriable: true,
    cause,
  });
}
