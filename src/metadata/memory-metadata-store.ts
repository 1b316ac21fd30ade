import type { BucketName, ObjectKey, Revision } from "../domain/ids.ts";
import { REVISION_NONE } from "../domain/ids.ts";
import { StoreError } from "../domain/errors.ts";
import type { StoredRecord } from "../domain/record.ts";
import { CommitWatch } from "./commit-watch.ts";
import { ListPageBuilder, successorOf } from "./list-page.ts";
import type { BucketSummary, Change, CommitResult, ListOptions, ListPage, MetadataStore } from "./metadata-store.ts";
import { planCommits } from "./plan-commits.ts";
import type { StoredValue } from "./stored-value.ts";
import { decodeStoredValue, encodeStoredValue, isReadable } from "./stored-value.ts";

/** What a memory store holds; survives the store, as a disk would. */
export class MemoryRecords {
  /** Sorted. A slot is bucket, NUL and the bytes of the key, one character each, so that text order is byte order. */
  readonly slots: string[] = [];
  readonly values = new Map<string, StoredValue>();
  readonly summaries = new Map<BucketName, BucketSummary>();
  revisionLast: Revision = REVISION_NONE;
}

/** Records in memory, nothing durable: for tests and trials. Holds encoded values, so nothing is shared with callers. */
export function createMemoryMetadataStore(records: MemoryRecords = new MemoryRecords()): MetadataStore {
  return new MemoryMetadataStore(records);
}

class MemoryMetadataStore implements MetadataStore {
  readonly #records: MemoryRecords;
  readonly #watch = new CommitWatch();
  #closed = false;

  constructor(records: MemoryRecords) {
    this.#records = records;
  }

  async get(bucket: BucketName, key: ObjectKey): Promise<StoredRecord | null> {
    this.#refuseWhenClosed();
    const value = this.#records.values.get(slotOf(bucket, Buffer.from(key)));
    return value === undefined ? null : decodeCopy(value);
  }

  async commit({ record, ifRevision }: Change): Promise<CommitResult> {
    this.#refuseWhenClosed();
    const records = this.#records;
    const slot = slotOf(record.bucket, Buffer.from(record.key));
    const change = { bucket: record.bucket, slot, value: encodeStoredValue(record), ifRevision };
    const plan = planCommits(
      {
        revisionLast: records.revisionLast,
        readValue: () => records.values.get(slot) ?? null,
        readSummary: (bucket) => records.summaries.get(bucket) ?? null,
      },
      [change],
    );
    const outcome = plan.outcomes[0];
    if (outcome?.ok !== true) {
      return { ok: false, current: outcome?.current == null ? null : decodeCopy(outcome.current) };
    }
    if (!records.values.has(slot)) records.slots.splice(firstFrom(records.slots, slot), 0, slot);
    records.values.set(slot, change.value);
    records.revisionLast = plan.revisionLast;
    for (const [bucket, summary] of plan.summaries) records.summaries.set(bucket, summary);
    this.#watch.tell([change.value]);
    return outcome;
  }

  async peek(bucket: BucketName, key: ObjectKey): Promise<StoredRecord | null> {
    return await this.get(bucket, key);
  }

  async list(bucket: BucketName, options: ListOptions): Promise<ListPage> {
    this.#refuseWhenClosed();
    const { slots } = this.#records;
    const page = new ListPageBuilder(options);
    const base = slotOf(bucket, Buffer.alloc(0));
    const end = page.end === null ? successorOf(Buffer.from(base)).toString("latin1") : slotOf(bucket, page.end);
    let at = firstFrom(slots, slotOf(bucket, page.from));
    for (let slot = slots[at]; slot !== undefined && slot < end; slot = slots[at]) {
      const value = this.#valueOf(slot);
      const key = Buffer.from(slot.slice(base.length), "latin1").toString();
      const step = page.offer(key, isReadable(value), () => decodeCopy(value));
      if (step === "full") break;
      at = step === "seek" ? firstFrom(slots, slotOf(bucket, page.from)) : at + 1;
    }
    return page.finish();
  }

  async scan(after: { bucket: BucketName; key: ObjectKey } | null, limit: number): Promise<StoredRecord[]> {
    this.#refuseWhenClosed();
    const { slots } = this.#records;
    const start = after === null ? 0 : firstFrom(slots, `${slotOf(after.bucket, Buffer.from(after.key))}\u0000`);
    return slots.slice(start, start + limit).map((slot) => decodeCopy(this.#valueOf(slot)));
  }

  async summarize(): Promise<BucketSummary[]> {
    this.#refuseWhenClosed();
    const filled = [...this.#records.summaries.values()].filter((summary) => summary.objectCount > 0);
    return filled.sort((a, b) => (a.bucket < b.bucket ? -1 : 1));
  }

  watch(listener: (stored: StoredRecord) => void): () => void {
    return this.#watch.add(listener);
  }

  async close(): Promise<void> {
    this.#closed = true;
  }

  #valueOf(slot: string): StoredValue {
    return this.#records.values.get(slot) as StoredValue;
  }

  #refuseWhenClosed(): void {
    if (this.#closed) throw new StoreError("metadata_unavailable", "The metadata store is closed", { retriable: true });
  }
}

/** A decoded record may point into the value's memory, and it is the receiver's. */
function decodeCopy(value: StoredValue): StoredRecord {
  return decodeStoredValue(Buffer.from(value));
}

function slotOf(bucket: BucketName, keyBytes: Buffer): string {
  return `${bucket}\u0000${keyBytes.toString("latin1")}`;
}

/** Index of the first slot that is not before `slot`. */
function firstFrom(slots: readonly string[], slot: string): number {
  let low = 0;
  let high = slots.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((slots[middle] as string) < slot) low = middle + 1;
    else high = middle;
  }
  return low;
}
