import type { Deadline } from "../lib/deadline.ts";
import type { BucketName, ObjectKey, Revision } from "../domain/ids.ts";
import type { ChangeOp } from "../domain/change-event.ts";
import type { ObjectRecord, StoredRecord } from "../domain/record.ts";

/** One compare-and-set. `ifRevision` is `REVISION_NONE` for "no record of any state exists". */
export type Change = {
  readonly record: ObjectRecord;
  readonly ifRevision: Revision;
  /** What subscribers of change events are told; absent for what changes nothing that a reader sees (a fence, a digest filled in). */
  readonly op?: ChangeOp;
};

export type CommitResult =
  | { readonly ok: true; readonly revision: Revision }
  | { readonly ok: false; readonly current: StoredRecord | null };

export type ListOptions = {
  /** Only keys that start with these characters; "" for all. */
  readonly prefix: string;
  /** Groups keys that share what follows the prefix up to and including this text; "" for no grouping. */
  readonly delimiter: string;
  /** Starts behind this key or common prefix in byte order; "" for the beginning. */
  readonly after: string;
  /** Entries and common prefixes together, 1…`LIMITS.listPageMax`. */
  readonly limit: number;
};

export type ListPage = {
  /** In byte order of their UTF-8 keys. Only readable versions: tombstones and fences are left out. */
  readonly entries: readonly StoredRecord[];
  readonly commonPrefixes: readonly string[];
  /** Where the next page starts (`after`), or null at the end. */
  readonly next: string | null;
};

export type BucketSummary = { readonly bucket: BucketName; readonly objectCount: number; readonly objectBytes: number };

/**
 * The single source of truth: one record per key, changed only by compare-and-set. A read that starts after a commit
 * was acknowledged sees it. Records given out are the receiver's; they are never mutated.
 */
export type MetadataStore = {
  /**
   * The current record in any state, or null.
   * @throws {StoreError} `metadata_unavailable` (retriable)
   */
  get(bucket: BucketName, key: ObjectKey, deadline: Deadline): Promise<StoredRecord | null>;
  /**
   * The record as this process knows it, which another process may have changed since: for writers, whose
   * compare-and-set finds that out. Never older than what this process itself has committed or was answered. Nothing
   * may be refused to a client on its evidence.
   * @throws {StoreError} `metadata_unavailable` (retriable)
   */
  peek(bucket: BucketName, key: ObjectKey, deadline: Deadline): Promise<StoredRecord | null>;
  /**
   * Commits one change, durable when resolved. Changes that wait are committed together; a conflicting one is answered
   * by itself and the others go through. Several changes of one key in a batch apply in the order of their calls.
   * @throws {StoreError} `metadata_unavailable` (retriable) the outcome is unknown: read before trying again
   */
  commit(change: Change, deadline: Deadline): Promise<CommitResult>;
  list(bucket: BucketName, options: ListOptions, deadline: Deadline): Promise<ListPage>;
  /** All records of all states in a stable order, for recovery and audits; pages by `after`, ends with an empty page. */
  scan(
    after: { bucket: BucketName; key: ObjectKey } | null,
    limit: number,
    deadline: Deadline,
  ): Promise<StoredRecord[]>;
  /** Buckets that hold readable objects. */
  summarize(deadline: Deadline): Promise<BucketSummary[]>;
  /** Calls `listener` after every commit, in order per key; the function given back ends that. */
  watch(listener: (stored: StoredRecord) => void): () => void;
  close(): Promise<void>;
};
