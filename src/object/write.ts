import { encodeDescriptor } from "../domain/blob.ts";
import type { ChangeOp } from "../domain/change-event.ts";
import { StoreError, isStoreError } from "../domain/errors.ts";
import type { Revision, Txid, VersionId } from "../domain/ids.ts";
import { REVISION_NONE } from "../domain/ids.ts";
import type { BlobSet, Manifest, PlacedBlob } from "../domain/manifest.ts";
import { blobSetsOf, blobsNeeded, blobsPlanned, contentSetsOf } from "../domain/manifest.ts";
import type { Receipt } from "../domain/receipt.ts";
import type { ObjectRecord, StoredRecord, UserAttributes } from "../domain/record.ts";
import { fencesOf, isDirty, nodesOf } from "../domain/record.ts";
import type { BlobSetWriter } from "./blob-set-writer.ts";
import { commitRecord, isCommitted, metadataDeadline } from "./commit-record.ts";
import { readable, requireConditions } from "./conditions.ts";
import type { ObjectDeps } from "./deps.ts";
import { judgeConflict } from "./fence-write.ts";
import { blobSetNameOf } from "./read-pins.ts";
import type { ObjectAddress, Preconditions } from "./requests.ts";
import type { Trail } from "./roll-back.ts";
import { replacedBlobs, rollBack } from "./roll-back.ts";

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
  const trail: Trail = { intent: null, isSealing: false, isCommitted: false, shown: null };
  let refused: WriteOutcome & { ok: false };
  try {
    const outcome = await storeContent(deps, write, seen, content, trail);
    if (outcome.ok) return outcome;
    refused = outcome;
  } catch (cause) {
    throw await endFailed(deps, write, content, trail, cause);
  }
  await rollBack(deps, write, content, trail);
  return refused;
}

async function storeContent(
  deps: ObjectDeps,
  write: Write,
  seen: StoredRecord | null,
  content: Content,
  trail: Trail,
): Promise<WriteOutcome> {
  const draft = recordOf(write, seen, content, content.manifestOf());
  await appendIntent(deps, write, seen, draft.manifest, content.writers.length > 0, trail);
  const descriptor = encodeDescriptor({ record: draft, revisionSeen: seen?.revision ?? REVISION_NONE });
  trail.isSealing = content.writers.length > 0;
  await Promise.all(content.writers.map(({ writer }) => writer.seal(descriptor)));
  deps.faults.reach("put.quorum-durable");
  const durable = new Map(content.writers.map(({ writer, sizeBytes }) => [writer, writer.blobSet(sizeBytes)]));
  const manifest = content.manifestOf(durable);
  const outcome = await commitContent(deps, write, seen, trail, (current) =>
    recordOf(write, current, content, manifest),
  );
  if (!outcome.ok) return outcome;
  trail.isCommitted = true;
  for (const { writer } of content.writers) writer.keep();
  deps.faults.reach("put.committed");
  keepContent(deps, durable);
  void endCommitted(deps, write, content, durable, outcome);
  return { ...outcome, receipt: receiptOf(outcome.record, outcome.before, content.writers) };
}

/** What was written will be read: what of it is in memory anyway stays there for its first reader. */
function keepContent({ cache }: ObjectDeps, durable: ReadonlyMap<BlobSetWriter, BlobSet>): void {
  for (const [writer, set] of durable) {
    const bytes = cache.admits(set) ? writer.packedContent(set.sizeBytes) : null;
    if (bytes !== null) cache.keep(set, bytes);
  }
}

/** Cleans up behind a write that failed. Answers with what its client is to be told: no more than is known. */
async function endFailed(
  deps: ObjectDeps,
  write: Write,
  content: Content,
  trail: Trail,
  cause: unknown,
): Promise<unknown> {
  if (trail.isCommitted) return cause;
  if (trail.shown === null && isOutcomeUnknown(cause)) {
    for (const { writer } of content.writers) writer.keep();
    deps.active.end(write.txid);
    return cause;
  }
  const { kind } = await rollBack(deps, write, content, trail);
  if (trail.shown !== null || kind === "never_current" || !isStoreError(cause)) return cause;
  return unknownOutcome("it was held up, and recovery has taken it over", cause);
}

/** An unavailable metadata store may have taken the commit: then the blobs stay until recovery can tell. */
function isOutcomeUnknown(cause: unknown): boolean {
  return isStoreError(cause, "metadata_unavailable") || isStoreError(cause, "deadline_exceeded");
}

function unknownOutcome(reason: string, cause?: unknown): StoreError {
  return new StoreError("metadata_unavailable", `Cannot tell whether the write was stored: ${reason}`, {
    retriable: true,
    cause,
  });
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
    ...fencesOf(current?.record ?? null),
  };
}

/** Makes the intent durable where there is anything to look after. */
async function appendIntent(
  deps: ObjectDeps,
  write: Write,
  seen: StoredRecord | null,
  manifest: Manifest,
  bringsBlobs: boolean,
  trail: Trail,
): Promise<void> {
  const replaces = replacedBlobs(seen, manifest);
  if (!bringsBlobs && replaces.length === 0) return;
  const { txid, bucket, key, startedAtMs } = write;
  const planned = blobSetsOf(manifest).filter((set) => set.txid === txid);
  const revisionSeen = seen?.revision ?? REVISION_NONE;
  const intent = { txid, bucket, key, startedAtMs, writer: deps.processName, revisionSeen, planned, replaces };
  trail.intent = { seen };
  trail.shown = null;
  await deps.wal.append(intent, metadataDeadline(deps));
  deps.faults.reach("put.intent-durable");
}

type Committed = {
  readonly ok: true;
  readonly record: ObjectRecord;
  readonly revision: Revision;
  readonly before: StoredRecord | null;
  readonly replaced: readonly PlacedBlob[];
  /** Whether an intent is open. */
  readonly logged: boolean;
  /** What the current record names of this write, where that was not this commit's doing; else null. */
  readonly named: Manifest | null;
};

async function commitContent(
  deps: ObjectDeps,
  write: Write,
  seen: StoredRecord | null,
  trail: Trail,
  makeRecord: (current: StoredRecord | null) => ObjectRecord,
): Promise<Committed | { ok: false; current: StoredRecord | null }> {
  let current = seen;
  for (let attempt = 0; attempt < COMMIT_ATTEMPTS_MAX; attempt += 1) {
    const record = makeRecord(current);
    const before = readable(current);
    const result = await commitRecord(deps, record, current, write.op);
    if (result.ok) {
      const replaced = replacedBlobs(current, record.manifest);
      return {
        ok: true,
        record,
        revision: result.revision,
        before,
        replaced,
        named: null,
        logged: trail.intent !== null,
      };
    }
    const replaced = replacedBlobs(current, record.manifest);
    const metLast = current;
    current = result.current;
    if (current !== null && isCommitted(current.record, write.txid)) {
      const found = foundCommitted(current, write.txid, record);
      return { ok: true, ...found, before, replaced, logged: trail.intent !== null };
    }
    requireUnfenced(write, trail, metLast, current);
    if (write.onConflict === "exact") return { ok: false, current };
    requireConditions(write.preconditions, current);
    if (attempt + 1 === COMMIT_ATTEMPTS_MAX) break;
    // The blobs to free are now those of the version that was faster: a crash after the commit must find them.
    await appendAgain(deps, write, current, record.manifest, trail);
  }
  throw new StoreError("write_conflict", "Cannot commit: other writers of this key were faster every time", {
    retriable: true,
  });
}

/** @throws {StoreError} `metadata_unavailable` the log may have it, and then the write may be completed by it */
async function appendAgain(
  deps: ObjectDeps,
  write: Write,
  seen: StoredRecord | null,
  manifest: Manifest,
  trail: Trail,
): Promise<void> {
  try {
    await appendIntent(deps, write, seen, manifest, trail.intent !== null, trail);
  } catch (cause) {
    throw trail.isSealing && isStoreError(cause, "wal_unavailable")
      ? unknownOutcome("the log did not answer in time", cause)
      : cause;
  }
}

/**
 * Asked after every conflict: whoever recovery has fenced, or may have, commits no more.
 * @throws {StoreError} `write_conflict` the write is not stored, `metadata_unavailable` nobody can tell
 */
function requireUnfenced(write: Write, trail: Trail, metLast: StoredRecord | null, current: StoredRecord | null): void {
  // Recovery cannot know of it.
  if (trail.intent === null) return;
  if (current === null) throw unknownOutcome("its record was lost meanwhile");
  const verdict = judgeConflict(metLast, current.record, write.txid);
  if (verdict === "overtaken" && trail.isSealing) {
    trail.shown = { kind: "overtaken", by: current.record };
    throw unknownOutcome("it was held up, and overtaken");
  }
  trail.shown = { kind: "never_current" };
  if (verdict === "free") return;
  throw new StoreError("write_conflict", "Cannot commit: recovery has given this write up, send it again", {
    retriable: true,
  });
}

/** The version of this write as it is found to stand: recovery names the blobs that it has seen, not those we know of. */
function foundCommitted(found: StoredRecord, txid: Txid, ours: ObjectRecord) {
  const version: string = found.record.version;
  const record = version === txid ? found.record : ours;
  return { record, revision: found.revision, named: found.record.manifest };
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
  if (isDirty(committed.record)) deps.hints.noteDirty(committed.record);
  const { replaced } = committed;
  const named = committed.named === null ? null : blobSetsOf(committed.named);
  const unnamed: PlacedBlob[] = [];
  const removed = await Promise.all(
    [...durable].map(async ([writer, set]) => {
      const committedSet = named === null ? set : named.find((other) => blobSetNameOf(other) === blobSetNameOf(set));
      if (committedSet !== undefined) return await writer.removeLate(committedSet);
      // The version was patched in the meantime: readers of the one before may still stream what it named.
      unnamed.push(...(await writer.findAll()));
      return true;
    }),
  );
  // A late blob that could not be removed keeps the intent open: recovery removes it.
  if (committed.logged && removed.every(Boolean)) deps.releaser.schedule(write.txid, [...replaced, ...unnamed]);
  else deps.active.end(write.txid);
  deps.faults.reach("put.settled");
}

/** What the write achieved, read off the record that was committed. */
export function receiptOf(record: ObjectRecord, before: StoredRecord | null, writers: Content["writers"]): Receipt {
  const sets = contentSetsOf(record.manifest);
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
