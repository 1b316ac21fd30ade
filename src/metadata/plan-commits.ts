import type { BucketName, Revision } from "../domain/ids.ts";
import type { BucketSummary } from "./metadata-store.ts";
import type { StoredValue } from "./stored-value.ts";
import { revisionOf, withRevision } from "./stored-value.ts";
import { summarizeChange } from "./summarize-change.ts";

/**
 * Decides a batch of compare-and-sets without touching any store: each change sees the store and the changes before it.
 *
 * | the key's revision      | outcome                                                   |
 * |-------------------------|-----------------------------------------------------------|
 * | is `ifRevision`         | the next revision; later changes of the batch see it       |
 * | is another              | conflict, with the value met; the others are not concerned |
 */
export type PendingChange = {
  readonly bucket: BucketName;
  /** Identifies bucket and key together. */
  readonly slot: string;
  /** Receives its revision when it is accepted. */
  readonly value: StoredValue;
  readonly ifRevision: Revision;
};

export type CommitOutcome =
  | { readonly ok: true; readonly revision: Revision }
  | { readonly ok: false; readonly current: StoredValue | null };

export type CommitPlan = {
  /** One per change, in order. */
  readonly outcomes: readonly CommitOutcome[];
  /** What to write, by slot: the last accepted value of each key and what it replaces in the store. */
  readonly writes: ReadonlyMap<string, { readonly value: StoredValue; readonly previous: StoredValue | null }>;
  readonly revisionLast: Revision;
  /** New totals of the buckets that changed. */
  readonly summaries: ReadonlyMap<BucketName, BucketSummary>;
};

export type CommitState = {
  readonly revisionLast: Revision;
  readonly readValue: (slot: string) => StoredValue | null;
  readonly readSummary: (bucket: BucketName) => BucketSummary | null;
};

export function planCommits(state: CommitState, changes: readonly PendingChange[]): CommitPlan {
  const writes = new Map<string, { value: StoredValue; previous: StoredValue | null }>();
  const summaries = new Map<BucketName, BucketSummary>();
  let revisionLast = state.revisionLast;

  const outcomes = changes.map((change): CommitOutcome => {
    const earlier = writes.get(change.slot);
    const current = earlier === undefined ? state.readValue(change.slot) : earlier.value;
    if (revisionOf(current) !== change.ifRevision) return { ok: false, current };

    revisionLast = (revisionLast + 1) as Revision;
    const value = withRevision(change.value, revisionLast);
    writes.set(change.slot, { value, previous: earlier === undefined ? current : earlier.previous });
    const before = summaries.get(change.bucket) ?? state.readSummary(change.bucket);
    const after = summarizeChange(change.bucket, before, current, value);
    if (after !== before) summaries.set(change.bucket, after);
    return { ok: true, revision: revisionLast };
  });
  return { outcomes, writes, revisionLast, summaries };
}
