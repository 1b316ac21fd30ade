/** Deletes blobs that are nobody's, each only after everything that might speak for it was looked at once more. */
import type { BlobStore } from "../blob/blob-store.ts";
import type { BlobInfo } from "../domain/blob.ts";
import { decodeDescriptor } from "../domain/blob.ts";
import { isStoreError } from "../domain/errors.ts";
import { blobIdOf, parseBlobId } from "../domain/ids.ts";
import type { Intent } from "../domain/intent.ts";
import { KEPT_COPIES, keptBlobId, needsKeeping } from "../domain/kept-record.ts";
import type { PlacedBlob } from "../domain/manifest.ts";
import { blobSetsOf, placeOf } from "../domain/manifest.ts";
import type { StoredRecord } from "../domain/record.ts";
import { deadlineIn } from "../lib/deadline.ts";
import type { ObjectDeps } from "../object/deps.ts";
import { metadataDeadline } from "../object/commit-record.ts";
import { blobSetName } from "../object/read-pins.ts";
import type { CollectVerdict } from "./collect-plan.ts";
import { judgeOrphan } from "./collect-plan.ts";
import type { CollectMetrics } from "./collect-metrics.ts";
import type { Executor, WorkContext } from "./work-executor.ts";

export type CollectDeps = Pick<
  ObjectDeps,
  "clock" | "logger" | "metadata" | "wal" | "nodes" | "pins" | "remotePins" | "timeouts"
> & { readonly collectMetrics: CollectMetrics };

const INTENTS_PER_PAGE = 1_000;
const LATER_MS = 30_000;
/**
 * How old what was found may be when it is acted upon, beyond the time that two nodes may take which do not answer. A process
 * that was stopped in between wakes up to another world.
 */
const FOUND_MS_MAX = 5_000;

export function createCollectExecutor(deps: CollectDeps): Executor<"collect"> {
  return async ({ node, blobs }, context) => {
    const store = deps.nodes.get(node);
    if (store === undefined) return { outcome: "done", bytes: 0 };
    // The order is what makes it safe: whoever seals a blob has an open intent until a record names it.
    const found = await describeAll(deps, store, blobs);
    const intents = await openIntentsOf(deps, found);
    let isLater = false;
    for (const orphan of found) {
      if (context.signal.aborted) return { outcome: "later", inMs: 0, reason: "stopped on the way" };
      const verdict = await examine(deps, store, { ...orphan, intents }, context);
      if (verdict.verdict === "later") isLater = true;
      if (verdict.verdict === "keep" && verdict.why === "unclaimed") noteUnclaimed(deps, orphan.blob);
    }
    return isLater
      ? { outcome: "later", inMs: LATER_MS, reason: "some of the blobs cannot be judged yet" }
      : { outcome: "done", bytes: 0 };
  };
}

type Orphan = {
  readonly blob: PlacedBlob;
  readonly described: { readonly info: BlobInfo; readonly descriptor: Uint8Array };
};

/** Those that are there, with what they were sealed with. */
async function describeAll(deps: CollectDeps, store: BlobStore, blobs: readonly PlacedBlob[]): Promise<Orphan[]> {
  const found = await Promise.all(
    blobs.map(async (blob) => ({ blob, described: await store.describe(blob.id, soon(deps)).catch(nullIfBroken) })),
  );
  return found.filter((one): one is Orphan => one.described !== null);
}

function noteUnclaimed({ collectMetrics, logger }: CollectDeps, blob: PlacedBlob): void {
  collectMetrics.unclaimed.inc();
  logger.warn(
    { blob: blob.id, node: blob.node },
    "a blob is left alone: its key has no record, and its set can be read",
  );
}

/** Looks at one blob and deletes it where nothing speaks for it. `intents` were read after it was described. */
async function examine(
  deps: CollectDeps,
  store: BlobStore,
  { blob, described, intents }: Orphan & { readonly intents: readonly Intent[] },
  { signal }: WorkContext,
): Promise<CollectVerdict> {
  const descriptor = decodeDescriptor(described.descriptor);
  const lookedMs = deps.clock.monotonicMs();
  const stored = await deps.metadata.get(descriptor.record.bucket, descriptor.record.key, metadataDeadline(deps));
  const name = blobSetName(blob.id);
  const state = {
    ...{ blob, descriptor, intents, stored },
    pinned: deps.pins.isPinned(name) || deps.remotePins.isPinned(name),
    heldWhereNamed: await isHeldWhereNamed(deps, blob, stored),
    siblingsHeld: stored === null ? await countSiblings(deps, blob, descriptor.record.manifest) : 0,
    keptOfCurrent: stored === null ? 0 : await countKept(deps, stored),
  };
  const verdict = judgeOrphan(state);
  if (verdict.verdict !== "delete" || signal.aborted) return verdict;
  // A healer may have let the record name this blob since.
  if (deps.clock.monotonicMs() - lookedMs > FOUND_MS_MAX + 2 * deps.timeouts.nodeMs)
    return { verdict: "later", why: "not settled" };
  const count = await store.delete([blob.id], soon(deps));
  deps.collectMetrics.blobs.inc(count);
  deps.collectMetrics.bytes.inc(count * described.info.payloadBytes);
  deps.logger.info({ blob: blob.id, node: blob.node }, "a blob that nothing refers to was deleted");
  return verdict;
}

/** Those of the open intents that have to do with a write that made one of the blobs, of however many there are. */
async function openIntentsOf(deps: CollectDeps, orphans: readonly Orphan[]): Promise<Intent[]> {
  const txids = new Set(orphans.map(({ blob }) => parseBlobId(blob.id)?.txid));
  const ids = new Set(orphans.map(({ blob }) => blob.id));
  const concerns = ({ txid, planned, replaces }: Intent) =>
    txids.has(txid) || planned.some((set) => txids.has(set.txid)) || replaces.some(({ id }) => ids.has(id));
  const intents: Intent[] = [];
  for (let after = 0; orphans.length > 0;) {
    const page = await deps.wal.readOpen(after, INTENTS_PER_PAGE, metadataDeadline(deps));
    const last = page.at(-1);
    if (last === undefined) break;
    intents.push(...page.map(({ intent }) => intent).filter(concerns));
    after = last.sequence;
  }
  return intents;
}

async function isHeldWhereNamed(
  deps: CollectDeps,
  blob: PlacedBlob,
  stored: StoredRecord | null,
): Promise<boolean | null> {
  const node = stored === null ? null : placeOf(stored.record.manifest, blob.id);
  if (node === null) return null;
  const store = deps.nodes.get(node);
  if (store === undefined) return false;
  try {
    return (await store.describe(blob.id, soon(deps))) !== null;
  } catch (cause) {
    if (!isStoreError(cause)) throw cause;
    return false;
  }
}

/** Null when some node cannot be asked. */
async function countSiblings(
  deps: CollectDeps,
  blob: PlacedBlob,
  manifest: StoredRecord["record"]["manifest"],
): Promise<number | null> {
  const parsed = parseBlobId(blob.id);
  const set = blobSetsOf(manifest).find((one) => one.txid === parsed?.txid && one.part === parsed.part);
  if (set === undefined) return 0;
  const held = new Set<number>();
  for (const store of deps.nodes.values()) {
    for (const index of set.nodes.keys()) {
      try {
        const found = await store.describe(blobIdOf(set.txid, set.part, index), soon(deps)).catch(nullIfBroken);
        if (found !== null) held.add(index);
      } catch (cause) {
        if (!isStoreError(cause)) throw cause;
        return null;
      }
    }
  }
  return held.size;
}

async function countKept(deps: CollectDeps, { record }: StoredRecord): Promise<number> {
  if (!needsKeeping(record)) return 0;
  const ids = Array.from({ length: KEPT_COPIES }, (_, index) => keptBlobId(record.version, index));
  const isHeld = async (store: BlobStore) => {
    const found = await Promise.all(ids.map((id) => store.describe(id, soon(deps)).catch(() => null)));
    return found.some((one) => one !== null);
  };
  const held = await Promise.all([...deps.nodes.values()].map(isHeld));
  return held.filter(Boolean).length;
}

function nullIfBroken(cause: unknown): null {
  if (isStoreError(cause, "blob_damaged") || isStoreError(cause, "blob_not_found")) return null;
  throw cause;
}

function soon({ clock, timeouts }: CollectDeps) {
  return deadlineIn(clock, timeouts.nodeMs);
}
