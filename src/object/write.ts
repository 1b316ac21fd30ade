import { encodeDescriptor } from "../domain/blob.ts";
import type { ChangeOp } from "../domain/change-event.ts";
import { StoreError, isStoreError } from "../domain/errors.ts";
import type { Revision, Txid, VersionId } from "../domain/ids.ts";
import { REVISION_NONE } from "../domain/ids.ts";
import type { BlobSet, Manifest, PlacedBlob } from "../domain/manifest.ts";
import { blobSetsOf, blobsNeeded, blobsPlanned, placedBlobsOf } from "../domain/manifest.ts";
import type { Receipt } from "../domain/receipt.ts";
import type { ObjectRecord, StoredRecord, UserAttributes } from "../domain/record.ts";
import { isDirty, nodesOf } from "../domain/record.ts";
import type { Deadline } from "../lib/deadline.ts";
import { deadlineIn } from "../lib/deadline.ts";
import type { CommitResult } from "../metadata/metadata-store.ts";
import type { BlobSetWriter } from "./blob-set-writer.ts";
import { readable, requireConditions } from "./conditions.ts";
import type { ObjectDeps } from "./deps.ts";
import type { ObjectAddress, Preconditions } from "./requests.ts";

/** One write of one key under way. */
export type Write = ObjectAddress & {
  readonly txid: Txid;
  readonly startedAtMs: number;
  readonly attributes: UserAttributes;
  readonly preconditions: Preconditions;
  /**
   * What happens when another writer was faster: `replace` writes over it if the preconditions still hold, as the
   * later of two writers; `exact` gives up, because what is written was derived from the version seen.
   */
  readonly onConflict: "replace" | "exact";
  /** What subscribers are told of it. */
  readonly op: ChangeOp;
};

/** New content, as far as it is known before its blobs are durable. */
export type Content = {
  readonly sizeBytes: number;
  readonly etag: string;
  readonly sha256: string | null;
  /** The manifest, given which blobs of each new set are durable. `manifestOf()` names the planned nodes. */
  readonly manifestOf: (durable?: ReadonlyMap<BlobSetWriter, BlobSet>) => Manifest;
  /** Every new blob set with the writer that holds it. */
  readonly writers: readonly { readonly writer: BlobSetWriter; readonly sizeBytes: number }[];
};

export type WriteOutcome =
  | { readonly ok: true; readonly receipt: Receipt; readonly record: ObjectRecord; readonly revision: Revision }
  | { readonly ok: false; readonly current: StoredRecord | null };

const COMMIT_ATTEMPTS_MAX = 64;

export function metadataDeadline(deps: ObjectDeps): Deadline {
  return deadlineIn(deps.clock, deps.timeouts.metadataMs);
}

export function beginWrite(
  deps: ObjectDeps,
  request: ObjectAddress & { attributes: UserAttributes; preconditions: Preconditions },
  onConflict: Write["onConflict"],
  op: ChangeOp,
): Write {
  const { bucket, key, attributes, preconditions } = request;
  return {
    bucket,
    key,
    attributes,
    preconditions,
    onConflict,
    op,
    txid: deps.nextTxid(),
    startedAtMs: deps.clock.wallMs(),
  };
}

/**
 * The second half of every write that brings content: intent durable → blobs sealed on a quorum → record committed.
 * The order is the promise: a crash before the intent leaves only unsealed cells, which their node sweeps; between
 * intent and commit it leaves what recovery finds by the intent; after the commit the write stands.
 */
export async function finishWrite(
  deps: ObjectDeps,
  write: Write,
  seen: StoredRecord | null,
  content: Content,
): Promise<WriteOutcome> {
  deps.active.begin(write.txid);
  let fate: "failed" | "committed" | "unknown" = "failed";
  try {
    const draft = recordOf(write, seen, content, content.manifestOf());
    const logged = await appendIntent(deps, write, seen, draft.manifest, content.writers.length > 0);
    const descriptor = encodeDescriptor({ record: draft, revisionSeen: seen?.revision ?? REVISION_NONE });
    await Promise.all(content.writers.map(({ writer }) => writer.seal(descriptor)));
    deps.faults.reach("put.quorum-durable");
    const durable = new Map(content.writers.map(({ writer, sizeBytes }) => [writer, writer.blobSet(sizeBytes)]));
    const manifest = content.manifestOf(durable);
    const outcome = await commitContent(deps, write, seen, logged, (current) =>
      recordOf(write, current, content, manifest),
    );
    if (!outcome.ok) return outcome;
    fate = "committed";
    deps.faults.reach("put.committed");
    void endCommitted(deps, write, content, durable, outcome);
    return { ...outcome, receipt: receiptOf(outcome.record, outcome.before, content.writers) };
  } catch (cause) {
    // An unavailable metadata store may have taken the commit: the blobs stay until recovery can tell.
    if (isStoreError(cause, "metadata_unavailable") || isStoreError(cause, "deadline_exceeded")) fate = "unknown";
    throw cause;
  } finally {
    if (fate === "failed") await rollBack(deps, write, content);
    else for (const { writer } of content.writers) writer.keep();
    if (fate === "unknown") deps.active.end(write.txid);
  }
}

/** Commits a record whose write brought no blobs and replaced none, so that no intent is needed. */
export async function commitRecord(
  deps: ObjectDeps,
  record: ObjectRecord,
  seen: StoredRecord | null,
  op: ChangeOp | null,
): Promise<CommitResult> {
  const change = { record, ifRevision: seen?.revision ?? REVISION_NONE, ...(op === null ? {} : { op }) };
  return await deps.metadata.commit(change, metadataDeadline(deps));
}

function recordOf(write: Write, current: StoredRecord | null, content: Content, manifest: Manifest): ObjectRecord {
  return {
    ...write.attributes,
    state: "object",
    bucket: write.bucket,
    key: write.key,
    version: write.txid as string as VersionId,
    modifiedAtMs: write.startedAtMs,
    sizeBytes: content.sizeBytes,
    etag: content.etag,
    sha256: content.sha256,
    manifest,
    fencedTxids: current?.record.fencedTxids ?? [],
  };
}

/** The blobs of the version seen that the new manifest no longer refers to. */
export function replacedBlobs(seen: StoredRecord | null, manifest: Manifest): PlacedBlob[] {
  if (seen === null) return [];
  const kept = new Set(blobSetsOf(manifest).map((set) => `${set.txid}.${set.part}`));
  return blobSetsOf(seen.record.manifest)
    .filter((set) => !kept.has(`${set.txid}.${set.part}`))
    .flatMap(placedBlobsOf);
}

/** Makes the intent durable where there is anything to look after; answers whether there was. */
async function appendIntent(
  deps: ObjectDeps,
  write: Write,
  seen: StoredRecord | null,
  manifest: Manifest,
  bringsBlobs: boolean,
): Promise<boolean> {
  const replaces = replacedBlobs(seen, manifest);
  if (!bringsBlobs && replaces.length === 0) return false;
  const { txid, bucket, key, startedAtMs } = write;
  const planned = blobSetsOf(manifest).filter((set) => set.txid === txid);
  const revisionSeen = seen?.revision ?? REVISION_NONE;
  const intent = { txid, bucket, key, startedAtMs, writer: deps.processName, revisionSeen, planned, replaces };
  await deps.wal.append(intent, metadataDeadline(deps));
  deps.faults.reach("put.intent-durable");
  return true;
}

type Committed = {
  readonly ok: true;
  readonly record: ObjectRecord;
  readonly revision: Revision;
  readonly before: StoredRecord | null;
  readonly replaced: readonly PlacedBlob[];
  /** Whether an intent is open. */
  readonly logged: boolean;
};

async function commitContent(
  deps: ObjectDeps,
  write: Write,
  seen: StoredRecord | null,
  loggedBefore: boolean,
  makeRecord: (current: StoredRecord | null) => ObjectRecord,
): Promise<Committed | { ok: false; current: StoredRecord | null }> {
  let current = seen;
  let logged = loggedBefore;
  for (let attempt = 0; attempt < COMMIT_ATTEMPTS_MAX; attempt += 1) {
    const record = makeRecord(current);
    const result = await commitRecord(deps, record, current, write.op);
    if (result.ok) {
      const replaced = replacedBlobs(current, record.manifest);
      return { ok: true, record, revision: result.revision, before: readable(current), replaced, logged };
    }
    current = result.current;
    if (current?.record.fencedTxids.includes(write.txid) === true) {
      throw new StoreError("write_conflict", "Cannot commit: recovery has given this write up, send it again", {
        retriable: true,
      });
    }
    if (write.onConflict === "exact") return { ok: false, current };
    requireConditions(write.preconditions, current);
    // The blobs to free are now those of the version that was faster: a crash after the commit must find them.
    logged = (await appendIntent(deps, write, current, record.manifest, logged)) || logged;
  }
  throw new StoreError("write_conflict", "Cannot commit: other writers of this key were faster every time", {
    retriable: true,
  });
}

/** Frees what the write replaced, removes blobs that missed the commit, settles the intent: all behind the answer. */
async function endCommitted(
  deps: ObjectDeps,
  write: Write,
  content: Content,
  durable: ReadonlyMap<BlobSetWriter, BlobSet>,
  committed: Committed,
): Promise<void> {
  for (const { writer } of content.writers) deps.metrics.nodeBytesWritten.inc(writer.payloadBytes);
  const removed = await Promise.all([...durable].map(([writer, set]) => writer.removeLate(set)));
  // A late blob that could not be removed keeps the intent open: recovery removes it.
  if (committed.logged && removed.every(Boolean)) deps.releaser.schedule(write.txid, committed.replaced);
  else deps.active.end(write.txid);
  deps.faults.reach("put.settled");
}

async function rollBack(deps: ObjectDeps, write: Write, content: Content): Promise<void> {
  const removed = await Promise.all(content.writers.map(({ writer }) => writer.abort().catch(() => false)));
  if (removed.every(Boolean)) await deps.releaser.settle([write.txid]);
  deps.active.end(write.txid);
}

/** What the write achieved, read off the record that was committed. */
export function receiptOf(record: ObjectRecord, before: StoredRecord | null, writers: Content["writers"]): Receipt {
  const sets = blobSetsOf(record.manifest);
  const durableOf = (set: BlobSet) => set.nodes.filter((node) => node !== null).length;
  return {
    bucket: record.bucket,
    key: record.key,
    version: record.version,
    etag: record.etag,
    sha256: record.sha256,
    sizeBytes: record.sizeBytes,
    strategy: record.manifest.strategy,
    created: before === null,
    nodes: nodesOf(sets),
    blobsDurable: sets.reduce((sum, set) => sum + durableOf(set), 0),
    blobsPlanned: sets.reduce((sum, set) => sum + blobsPlanned(set.redundancy), 0),
    tolerance: sets.length === 0 ? 0 : Math.min(...sets.map((set) => durableOf(set) - blobsNeeded(set.redundancy))),
    dirty: isDirty(record),
    nodeBytesWritten: writers.reduce((sum, { writer }) => sum + writer.payloadBytes, 0),
  };
}
