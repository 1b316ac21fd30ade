/** The KV bucket of leases: one entry per name, changed by compare-and-set alone. */
import { JetStreamApiCodes, JetStreamApiError, StorageType, jetstream } from "@nats-io/jetstream";
import type { KV } from "@nats-io/kv";
import { Kvm } from "@nats-io/kv";
import { errors } from "@nats-io/transport-node";
import { StoreError } from "../domain/errors.ts";
import type { Clock } from "../lib/clock.ts";
import { deadlineIn, remainingMs } from "../lib/deadline.ts";
import { untilServersAgree } from "../nats/nats-ensure-stream.ts";
import type { NatsLink } from "../nats/nats-link.ts";
import type { LeaseEntry } from "./lease-entry.ts";
import { decodeLeaseEntry, encodeLeaseEntry } from "./lease-entry.ts";

export type StoredEntry = LeaseEntry & { readonly revision: number };

export class LeaseBucket {
  readonly #bucket: KV;
  readonly #clock: Clock;
  readonly #requestMs: number;

  constructor(bucket: KV, clock: Clock, requestMs: number) {
    this.#bucket = bucket;
    this.#clock = clock;
    this.#requestMs = requestMs;
  }

  /** As the stream's leader tells it, or null when there never was one. @throws {StoreError} `nats_unavailable` (retriable), `format_unknown` */
  async read(name: string): Promise<StoredEntry | null> {
    const stored = await this.#ask(() => this.#bucket.get(name)).catch((cause: unknown) => {
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
      return await this.#ask((timeout) =>
        this.#bucket.put(name, encodeLeaseEntry(entry), { previousSeq: ifRevision, timeout }),
      );
    } catch (cause) {
      if (cause instanceof JetStreamApiError && WRONG_REVISION.has(cause.code)) return null;
      throw unavailable(`Cannot write the lease ${name}`, cause);
    }
  }

  /** Repeats what no server has taken, for as long as a request may last. */
  async #ask<T>(send: (timeoutMs: number) => Promise<T>): Promise<T> {
    const deadline = deadlineIn(this.#clock, this.#requestMs);
    for (;;) {
      try {
        return await send(Math.max(1, remainingMs(this.#clock, deadline)));
      } catch (cause) {
        if (!wasTakenByNobody(cause) || remainingMs(this.#clock, deadline) <= RETRY_MS) throw cause;
      }
      await this.#clock.sleep(RETRY_MS);
    }
  }
}

const RETRY_MS = 50;
const STREAM_NOT_FOUND: number = JetStreamApiCodes.StreamNotFound;

/** The servers learn of a new bucket one after the other, and a bucket may have no leader: nothing came of the request. */
function wasTakenByNobody(cause: unknown): boolean {
  if (cause instanceof JetStreamApiError) return cause.code === STREAM_NOT_FOUND;
  const request = cause instanceof Error ? cause.cause : null;
  return request instanceof errors.RequestError && request.isNoResponders();
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
  return new LeaseBucket(bucket, link.clock, requestMs);
}

function unavailable(what: string, cause: unknown): StoreError {
  return new StoreError("nats_unavailable", `${what}: ${cause instanceof Error ? cause.message : String(cause)}`, {
    retriable: true,
    cause,
  });
}
