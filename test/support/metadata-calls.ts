/** Calls of a metadata store as the contract suite makes them: without a deadline that matters. */
import type { Revision } from "../../src/domain/ids.ts";
import type { ObjectRecord } from "../../src/domain/record.ts";
import { systemClock } from "../../src/lib/clock.ts";
import type { Deadline } from "../../src/lib/deadline.ts";
import { deadlineIn } from "../../src/lib/deadline.ts";
import type { CommitResult, ListOptions, ListPage, MetadataStore } from "../../src/metadata/metadata-store.ts";
import { BUCKET } from "./sample-records.ts";

export function soon(): Deadline {
  return deadlineIn(systemClock, 30_000);
}

export function commit(store: MetadataStore, record: ObjectRecord, ifRevision: Revision): Promise<CommitResult> {
  return store.commit({ record, ifRevision }, soon());
}

export async function commitOk(store: MetadataStore, record: ObjectRecord, ifRevision: Revision): Promise<Revision> {
  const result = await commit(store, record, ifRevision);
  if (!result.ok) throw new Error(`Conflict on ${record.key}: at ${result.current?.revision}, wanted ${ifRevision}`);
  return result.revision;
}

export function list(store: MetadataStore, options: Partial<ListOptions>, bucket = BUCKET): Promise<ListPage> {
  return store.list(bucket, { prefix: "", delimiter: "", after: "", limit: 1_000, ...options }, soon());
}

export function keysOf(page: ListPage): string[] {
  return page.entries.map(({ record }) => record.key);
}
