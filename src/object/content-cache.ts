import { LRUCache } from "lru-cache";
import type { BlobSet } from "../domain/manifest.ts";
import { assert } from "../lib/assert.ts";
import type { Clock } from "../lib/clock.ts";
import { blobSetNameOf } from "./read-pins.ts";

export type ContentCacheSettings = {
  /** Of all that is kept; 0 keeps nothing. */
  readonly bytesMax: number;
  /** Content larger than this is not kept. */
  readonly entryBytesMax: number;
  readonly ttlMs: number;
};

/** Counts since the process began, and what is kept now. */
export type CacheFigures = {
  /** Parts of objects that were read without asking a node. */
  readonly hits: number;
  /** Those for which nodes were asked although they could have been kept. */
  readonly misses: number;
  /** Hits among both; null before the first. */
  readonly hitRate: number | null;
  /** What gave way to something else before its time was over. */
  readonly evictions: number;
  readonly entries: number;
  readonly bytes: number;
  readonly bytesMax: number;
};

/** What an entry costs beside its bytes, so that many tiny ones are bounded too. */
const ENTRY_OVERHEAD_BYTES = 512;
/** Content on its way into the cache may have so much of its size in memory of its own. */
const FILLING_SHARE_MAX = 0.25;

/**
 * Content that is in memory for the next reader. It is kept under the name of its blob set, whose bytes never change, and
 * never under a key: who reads has looked up the record before, and finds here what that record names. So nothing in
 * it can be stale, and nothing has to be taken out of it when an object is overwritten, moved or deleted.
 *
 * Only bytes that were verified come in: read with matching checksums, or digested by the write that brought them.
 * Nothing is written to them any more. Readers hold on to no blob.
 */
export class ContentCache {
  readonly #settings: ContentCacheSettings;
  readonly #kept: LRUCache<string, Uint8Array> | null;
  readonly #flights = new Map<string, Promise<Uint8Array>>();
  #fillingBytes = 0;
  #hits = 0;
  #misses = 0;
  #evictions = 0;

  constructor(clock: Clock, settings: ContentCacheSettings) {
    this.#settings = settings;
    this.#kept =
      settings.bytesMax === 0
        ? null
        : new LRUCache({
            maxSize: settings.bytesMax,
            sizeCalculation: (bytes) => bytes.length + ENTRY_OVERHEAD_BYTES,
            ttl: settings.ttlMs,
            // It would remember the time between two looks with a timer of its own.
            ttlResolution: 0,
            perf: { now: () => clock.monotonicMs() },
            dispose: (_bytes, _name, reason) => {
              if (reason === "evict") this.#evictions += 1;
            },
          });
  }

  /** Whether content of this size is kept at all. */
  admits({ sizeBytes }: BlobSet): boolean {
    const { bytesMax, entryBytesMax } = this.#settings;
    return sizeBytes > 0 && sizeBytes <= entryBytesMax && sizeBytes + ENTRY_OVERHEAD_BYTES <= bytesMax;
  }

  /** The whole content of a set that `admits` admits, if it is here. Not to be written to. */
  find(set: BlobSet): Uint8Array | null {
    const bytes = this.#look(set);
    if (bytes === null) this.#misses += 1;
    return bytes;
  }

  /**
   * The whole content of a set that `admits` admits, if need be by `read`, which answers verified bytes in memory of
   * their own. Of those who want the same content at the same time one reads for all. Null: read it without the cache,
   * because too much is on its way into it already, or because the one that read for all has failed.
   */
  async readThrough(set: BlobSet, read: () => Promise<Uint8Array>): Promise<Uint8Array | null> {
    const found = this.#look(set);
    if (found !== null) return found;
    const flight = this.#flights.get(blobSetNameOf(set));
    const shared = flight === undefined ? null : await flight.catch(() => null);
    if (shared !== null) {
      this.#hits += 1;
      return shared;
    }
    this.#misses += 1;
    return flight === undefined ? await this.#fill(set, read) : null;
  }

  /** Takes over `bytes`, the whole content of a set that `admits` admits: they are verified, and nobody writes to them any more. */
  keep(set: BlobSet, bytes: Uint8Array): void {
    assert(bytes.length === set.sizeBytes, "only whole content is kept");
    this.#kept?.set(blobSetNameOf(set), bytes);
  }

  figures(): CacheFigures {
    const asked = this.#hits + this.#misses;
    return {
      hits: this.#hits,
      misses: this.#misses,
      hitRate: asked === 0 ? null : this.#hits / asked,
      evictions: this.#evictions,
      entries: this.#kept?.size ?? 0,
      bytes: this.#kept?.calculatedSize ?? 0,
      bytesMax: this.#settings.bytesMax,
    };
  }

  #look(set: BlobSet): Uint8Array | null {
    const bytes = this.#kept?.get(blobSetNameOf(set)) ?? null;
    if (bytes === null) return null;
    assert(bytes.length === set.sizeBytes, "a set has one content");
    this.#hits += 1;
    return bytes;
  }

  async #fill(set: BlobSet, read: () => Promise<Uint8Array>): Promise<Uint8Array | null> {
    const { sizeBytes } = set;
    if (this.#fillingBytes + sizeBytes > Math.max(sizeBytes, this.#settings.bytesMax * FILLING_SHARE_MAX)) return null;
    const name = blobSetNameOf(set);
    this.#fillingBytes += sizeBytes;
    const flight = read();
    this.#flights.set(name, flight);
    try {
      const bytes = await flight;
      this.keep(set, bytes);
      return bytes;
    } finally {
      this.#flights.delete(name);
      this.#fillingBytes -= sizeBytes;
    }
  }
}
