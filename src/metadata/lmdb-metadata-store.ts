/**
 * Object records in an LMDB environment that the write-ahead log shares. One process owns it.
 *
 * Commits are group commits: whatever waits is decided together (`plan-commits.ts`) and written as one transaction; one
 * batch is under way at a time, so what a batch decides by is on disk.
 *
 * Reads are served from flushed state only, whatever LMDB shows: after a failed flush a value may be visible and yet be
 * lost, and who had seen it would have acted on a version that never was. So while a batch is under way its keys are
 * answered with the values they had before. No read transaction outlives a turn of the event loop.
 */
import { LIMITS } from "../limits.ts";
import { StoreError } from "../domain/errors.ts";
import type { BucketName, ObjectKey, Revision } from "../domain/ids.ts";
import type { StoredRecord } from "../domain/record.ts";
import { Batcher } from "../lib/batcher.ts";
import type { Clock } from "../lib/clock.ts";
import type { Deadline } from "../lib/deadline.ts";
import { remainingMs, withDeadline } from "../lib/deadline.ts";
import type { LmdbDatabase, LmdbEnvironment } from "../lib/lmdb-environment.ts";
import { LmdbFailure } from "../lib/lmdb-environment.ts";
import { CommitWatch } from "./commit-watch.ts";
import { putRevision, putSummary, readRevision, readSummaries, slotOf } from "./lmdb-metadata-layout.ts";
import type { RecordSource } from "./lmdb-record-scan.ts";
import { listRecords, readValue, scanRecords } from "./lmdb-record-scan.ts";
import type { BucketSummary, Change, CommitResult, ListOptions, ListPage, MetadataStore } from "./metadata-store.ts";
import type { CommitOutcome, CommitPlan, PendingChange } from "./plan-commits.ts";
import { planCommits } from "./plan-commits.ts";
import type { StoredValue } from "./stored-value.ts";
import { decodeStoredValue, encodeStoredValue } from "./stored-value.ts";

export type LmdbMetadataStoreOptions = {
  /** Stays the caller's, who closes it after the store. */
  readonly environment: LmdbEnvironment;
  readonly clock: Clock;
};

/** Opens the records in `environment`. @throws {StoreError} `metadata_unavailable`, `format_unknown` */
export function openLmdbMetadataStore(options: LmdbMetadataStoreOptions): MetadataStore {
  return new LmdbMetadataStore(options);
}

type Item = { readonly change: PendingChange; readonly deadline: Deadline } | "barrier";

class LmdbMetadataStore implements MetadataStore {
  readonly #environment: LmdbEnvironment;
  readonly #clock: Clock;
  readonly #batcher = new Batcher<Item, CommitOutcome | null>((items) => this.#work(items), LIMITS.commitBatchMax);
  readonly #watch = new CommitWatch();
  readonly #summaries: Map<BucketName, BucketSummary>;
  #revisionLast: Revision;
  /** What the batch under way writes, and what that replaces. */
  #unflushed: CommitPlan["writes"] | null = null;
  /** What batches decide by; `#offered` is the same for callers, who are refused after the end. */
  readonly #known: RecordSource;
  readonly #offered: RecordSource;
  #closed = false;

  constructor({ environment, clock }: LmdbMetadataStoreOptions) {
    this.#environment = environment;
    this.#clock = clock;
    const visible = (slot: string, value: StoredValue | null) => this.#flushedOf(slot, value);
    this.#known = { clock, visible, read: (query) => this.#read(query) };
    this.#offered = {
      ...this.#known,
      read: (query) => {
        this.#refuseWhenClosed();
        return this.#read(query);
      },
    };
    this.#revisionLast = this.#read(readRevision);
    this.#summaries = this.#read(readSummaries);
  }

  async get(bucket: BucketName, key: ObjectKey): Promise<StoredRecord | null> {
    const value = readValue(this.#offered, slotOf(bucket, key));
    return value === null ? null : decodeStoredValue(value);
  }

  async commit({ record, ifRevision }: Change, deadline: Deadline): Promise<CommitResult> {
    this.#refuseWhenClosed();
    const { bucket, key } = record;
    // Encoded now: after a passed deadline the caller reuses its memory while the change may still wait for a batch.
    const change = { bucket, slot: slotOf(bucket, key), value: encodeStoredValue(record), ifRevision };
    const outcome = await withDeadline(this.#clock, deadline, this.#batcher.add({ change, deadline }), expired);
    if (outcome === null) throw expired();
    if (outcome.ok) return outcome;
    return { ok: false, current: outcome.current === null ? null : decodeStoredValue(outcome.current) };
  }

  async list(bucket: BucketName, options: ListOptions, deadline: Deadline): Promise<ListPage> {
    return await listRecords(this.#offered, bucket, options, deadline);
  }

  async scan(
    after: { bucket: BucketName; key: ObjectKey } | null,
    limit: number,
    deadline: Deadline,
  ): Promise<StoredRecord[]> {
    return await scanRecords(this.#offered, after, limit, deadline);
  }

  async peek(bucket: BucketName, key: ObjectKey): Promise<StoredRecord | null> {
    // This process is the only writer, so what it knows is all there is.
    return await this.get(bucket, key);
  }

  async summarize(): Promise<BucketSummary[]> {
    this.#refuseWhenClosed();
    const filled = [...this.#summaries.values()].filter((summary) => summary.objectCount > 0);
    return filled.sort((a, b) => (a.bucket < b.bucket ? -1 : 1));
  }

  watch(listener: (stored: StoredRecord) => void): () => void {
    return this.#watch.add(listener);
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    // What was called before has its answer when the barrier has its own.
    await this.#batcher.add("barrier").catch(() => {});
  }

  /** One outcome per item; null for barriers and for changes that nobody waits for any more. */
  async #work(items: Item[]): Promise<(CommitOutcome | null)[]> {
    const due = items.map((item) => item !== "barrier" && remainingMs(this.#clock, item.deadline) > 0);
    const changes = items.flatMap((item, index) => (item !== "barrier" && due[index] ? [item.change] : []));
    const plan = planCommits(
      {
        revisionLast: this.#revisionLast,
        readValue: (slot) => readValue(this.#known, slot),
        readSummary: (bucket) => this.#summaries.get(bucket) ?? null,
      },
      changes,
    );
    if (plan.writes.size > 0) await this.#write(plan);
    this.#watch.tell(changes.flatMap((change, index) => (plan.outcomes[index]?.ok === true ? [change.value] : [])));

    const outcomes = plan.outcomes.values();
    return due.map((isDue) => (isDue ? (outcomes.next().value ?? null) : null));
  }

  async #write(plan: CommitPlan): Promise<void> {
    let valueBytes = 0;
    for (const { value } of plan.writes.values()) valueBytes += value.length;
    const size = { entryCount: plan.writes.size + plan.summaries.size + 1, valueBytes };
    this.#unflushed = plan.writes;
    try {
      await this.#environment.write(size, (db) => {
        for (const [slot, { value }] of plan.writes) void db.put(Buffer.from(slot), value);
        for (const summary of plan.summaries.values()) putSummary(db, summary);
        putRevision(db, plan.revisionLast);
      });
    } catch (cause) {
      throw unavailable(cause);
    } finally {
      // After a refusal nothing was written, and after a failure the environment answers no reads any more.
      this.#unflushed = null;
    }
    this.#revisionLast = plan.revisionLast;
    for (const [bucket, summary] of plan.summaries) this.#summaries.set(bucket, summary);
  }

  /** Of a value just read from LMDB: what of it is known to be on disk. */
  #flushedOf(slot: string, value: StoredValue | null): StoredValue | null {
    const unflushed = this.#unflushed?.get(slot);
    return unflushed === undefined ? value : unflushed.previous;
  }

  #read<T>(query: (db: LmdbDatabase) => T): T {
    try {
      return this.#environment.read(query);
    } catch (cause) {
      throw unavailable(cause);
    }
  }

  #refuseWhenClosed(): void {
    if (this.#closed) throw new StoreError("metadata_unavailable", "The metadata store is closed", { retriable: true });
  }
}

function unavailable(cause: unknown): unknown {
  if (!(cause instanceof LmdbFailure)) return cause;
  return new StoreError("metadata_unavailable", `The metadata store cannot answer. ${cause.message}`, {
    retriable: true,
    cause,
  });
}

function expired(): StoreError {
  return new StoreError("metadata_unavailable", "The metadata store did not answer in time: the outcome is unknown", {
    retriable: true,
  });
}
