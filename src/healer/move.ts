/**
 * Moves one blob of an object to another node: the same bytes under the same id are made there, a clean-up intent remembers
 * the old place, and only then the record comes to name the new one. So there is never a moment with one blob less, and a
 * crash at any step leaves at most one too many: recovery frees the old place once no reader is left, or keeps it where
 * the record still names it; what was made in vain the collector finds.
 */
import type { BlobSet } from "../domain/manifest.ts";
import { blobSetsOf, placedBlobsOf } from "../domain/manifest.ts";
import type { StoredRecord } from "../domain/record.ts";
import type { WorkOf } from "../domain/work.ts";
import { commitRecord, metadataDeadline } from "../object/commit-record.ts";
import { blobSetNameOf } from "../object/read-pins.ts";
import { lookAtSet } from "./look-at-sets.ts";
import { withSets } from "./mend.ts";
import type { MendDeps } from "./mend.ts";
import { rebuildBlobs } from "./rebuild-blobs.ts";
import { cleanUpIntent } from "./recover-plan.ts";
import type { Executor, WorkContext, WorkOutcome } from "./work-executor.ts";

const LATER_MS = 5_000;
const NOTHING_TO_DO: WorkOutcome = { outcome: "done", bytes: 0 };

export function createMoveExecutor(deps: Omit<MendDeps, "mendMetrics">): Executor<"move"> {
  return async (work, context) => {
    const stored = await deps.metadata.get(work.bucket, work.key, metadataDeadline(deps));
    const found = stored === null ? null : findBlob(stored, work);
    // It was replaced, deleted or moved since.
    if (stored === null || found === null) return NOTHING_TO_DO;
    const target = deps.membership.snapshot().find(({ name }) => name === work.to);
    if (target?.state !== "live") return later("the node that was to take it is not live");
    // Two of a set on one node would be lost together.
    if (found.set.nodes.includes(work.to)) return NOTHING_TO_DO;
    return await moveBlob(deps, work, { stored, ...found }, context);
  };
}

type Found = { readonly set: BlobSet; readonly index: number };

function findBlob({ record }: StoredRecord, { blob }: WorkOf<"move">): Found | null {
  for (const set of blobSetsOf(record.manifest)) {
    const placed = placedBlobsOf(set).find(({ id, node }) => id === blob.id && node === blob.node);
    if (placed !== undefined) return { set, index: set.nodes.indexOf(placed.node) };
  }
  return null;
}

async function moveBlob(
  deps: Omit<MendDeps, "mendMetrics">,
  work: WorkOf<"move">,
  { stored, set, index }: Found & { readonly stored: StoredRecord },
  { signal }: WorkContext,
): Promise<WorkOutcome> {
  const { bucket, key, blob, to } = work;
  const { record, revision } = stored;
  const look = await lookAtSet(deps, set, () => false);
  // A set that lacks something is mended first: that finds a node for the blob as well.
  if (look.descriptor === null || look.blobs.some(({ condition }) => condition !== "whole")) {
    return later("the object is to be mended first");
  }
  const made = await rebuildBlobs(deps, set, look.descriptor, [{ kind: "blob", index, node: to }], signal);
  if (made.failed.size > 0) return later("the node did not take it");
  if (signal.aborted) return later("stopped on the way");
  const txid = deps.nextTxid();
  const base = { txid, bucket, key, startedAtMs: deps.clock.wallMs(), writer: "", revisionSeen: revision };
  await deps.wal.append(cleanUpIntent({ ...base, planned: [], replaces: [] }, [blob]), metadataDeadline(deps));
  const moved: BlobSet = { ...set, nodes: set.nodes.map((node, at) => (at === index ? to : node)) };
  const manifest = withSets(record.manifest, new Map([[blobSetNameOf(set), moved]]));
  if (signal.aborted) return later("stopped on the way");
  const result = await commitRecord(deps, { ...record, manifest }, stored, null);
  return result.ok ? { outcome: "done", bytes: made.bytes } : { ...later("a writer of the key was faster"), inMs: 0 };
}

function later(reason: string): WorkOutcome & { readonly outcome: "later" } {
  return { outcome: "later", inMs: LATER_MS, reason };
}
