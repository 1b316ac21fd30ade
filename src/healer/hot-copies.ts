/**
 * Gives a hot object more copies, and takes them back when it has cooled. The record names a copy only once it is made, so
 * that the object is never short of what it should have; one that is taken back is remembered by a clean-up intent, and
 * recovery frees it when no reader is left.
 *
 * | content     | hot                                       | cooled                                                          |
 * |-------------|-------------------------------------------|-----------------------------------------------------------------|
 * | replicated  | its set gets more copies                  | it keeps what its write gave it: its blobs were sealed with that number |
 * | coded       | a set of whole copies beside the shards   | loses that set                                                  |
 * | inline      | nothing: it is in the record              |                                                                 |
 */
import { decodeDescriptor } from "../domain/blob.ts";
import type { BlobSet } from "../domain/manifest.ts";
import { blobSetsOf, codedContentOf } from "../domain/manifest.ts";
import type { StoredRecord } from "../domain/record.ts";
import type { WorkOf } from "../domain/work.ts";
import { commitRecord, metadataDeadline } from "../object/commit-record.ts";
import { blobSetNameOf } from "../object/read-pins.ts";
import { rankNodes } from "../placement/rank-nodes.ts";
import type { CopyOutcome } from "./further-copy.ts";
import { dropFurtherCopy, makeFurtherCopy } from "./further-copy.ts";
import type { CopiesPlan } from "./heat-plan.ts";
import { planCopies, withCopies } from "./heat-plan.ts";
import { lookAtSet } from "./look-at-sets.ts";
import type { MendDeps } from "./mend.ts";
import { withSets } from "./mend.ts";
import { placementKeyOf } from "./mend-plan.ts";
import { rebuildBlobs } from "./rebuild-blobs.ts";
import { cleanUpIntent } from "./recover-plan.ts";
import type { Executor, WorkContext, WorkOutcome } from "./work-executor.ts";

type HeatDeps = Omit<MendDeps, "mendMetrics"> & {
  /** Content that is larger gets no more copies. */
  readonly bytesMax: number;
};

type HeatWork = WorkOf<"heat">;

const LATER_MS = 5_000;
const NOTHING_TO_DO: WorkOutcome = { outcome: "done", bytes: 0 };
/** With less a reader would have nobody else to ask when one is slow, where the shards offer it many. */
const WHOLE_COPIES_MIN = 2;

/** It acts on the version that is current when its turn comes: an object stays hot while it is overwritten. */
export function createHeatExecutor(deps: HeatDeps): Executor<"heat"> {
  return async (work, context) => {
    const stored = await deps.metadata.get(work.bucket, work.key, metadataDeadline(deps));
    if (stored?.record.state !== "object") return NOTHING_TO_DO;
    const { manifest } = stored.record;
    if (manifest.strategy === "replication") return await adjustBody(deps, stored, manifest.body, work, context);
    const content = codedContentOf(manifest);
    return content === null ? NOTHING_TO_DO : await adjustCopy(deps, stored, content, work, context);
  };
}

async function adjustBody(
  deps: HeatDeps,
  stored: StoredRecord,
  body: BlobSet,
  work: HeatWork,
  context: WorkContext,
): Promise<WorkOutcome> {
  const copies = body.sizeBytes > deps.bytesMax ? 0 : work.copies;
  return await adjustSet(deps, { stored, set: body, work }, context, (descriptor) => {
    const written = copiesWritten(descriptor, body);
    return written === null ? null : { written, wanted: written + copies };
  });
}

/** As the blobs remember it; null where they are of another set. */
function copiesWritten(descriptor: Uint8Array, set: BlobSet): number | null {
  const { manifest } = decodeDescriptor(descriptor).record;
  const sealed = blobSetsOf(manifest).find((one) => blobSetNameOf(one) === blobSetNameOf(set));
  return sealed?.redundancy.scheme === "replication" ? sealed.redundancy.copies : null;
}

async function adjustCopy(
  deps: HeatDeps,
  stored: StoredRecord,
  { coded, copy }: NonNullable<ReturnType<typeof codedContentOf>>,
  work: HeatWork,
  context: WorkContext,
): Promise<WorkOutcome> {
  const isWanted = work.copies > 0 && coded.sizeBytes > 0 && coded.sizeBytes <= deps.bytesMax;
  const wanted = isWanted ? Math.max(WHOLE_COPIES_MIN, work.copies) : 0;
  if (copy === null) {
    if (wanted === 0) return NOTHING_TO_DO;
    const live = deps.membership.snapshot().filter(({ state }) => state === "live");
    const nodes = rankNodes(live, placementKeyOf(work)).slice(0, wanted);
    if (nodes.length === 0) return later("no node is live");
    const making = { stored, coded, nodes: nodes.map(({ name }) => name) };
    return outcomeOf(await makeFurtherCopy(deps, making, context.signal));
  }
  if (wanted === 0) return outcomeOf(await dropFurtherCopy(deps, { stored, copy }, context.signal));
  return await adjustSet(deps, { stored, set: copy, work }, context, () => ({ written: 1, wanted }));
}

function outcomeOf(result: CopyOutcome): WorkOutcome {
  switch (result.outcome) {
    case "committed":
      return { outcome: "done", bytes: result.bytes };
    case "changed":
      return conflict();
    case "refused":
      return later("a node did not take its copy");
    case "stopped":
      return later("stopped on the way");
  }
}

type Adjusting = { readonly stored: StoredRecord; readonly set: BlobSet; readonly work: HeatWork };
type Counts = { readonly written: number; readonly wanted: number };

async function adjustSet(
  deps: HeatDeps,
  adjusting: Adjusting,
  context: WorkContext,
  countsOf: (descriptor: Uint8Array) => Counts | null,
): Promise<WorkOutcome> {
  const { set, work } = adjusting;
  const { blobs, descriptor } = await lookAtSet(deps, set, () => false);
  if (descriptor === null || blobs.some(({ condition }) => condition !== "whole")) {
    return later("the object is to be mended first");
  }
  const counts = countsOf(descriptor);
  if (counts === null) return NOTHING_TO_DO;
  const plan = planCopies(set, counts, deps.membership.snapshot(), placementKeyOf(work));
  switch (plan.action) {
    case "keep":
      return NOTHING_TO_DO;
    case "raise":
      return await raise(deps, adjusting, descriptor, plan, context);
    case "lower":
      return await lower(deps, adjusting, plan, context);
  }
}

async function raise(
  deps: HeatDeps,
  { stored, set: before }: Adjusting,
  descriptor: Uint8Array,
  { set, added }: CopiesPlan & { readonly action: "raise" },
  { signal }: WorkContext,
): Promise<WorkOutcome> {
  const source = withCopies(before, [...before.nodes, ...added.map(() => null)]);
  const rebuilds = added.map(({ index, node }) => ({ kind: "blob" as const, index, node }));
  const { bytes, failed } = await rebuildBlobs(deps, source, descriptor, rebuilds, signal);
  // Copies have no gaps: those behind one that failed are the collector's.
  const madeCount = added.findIndex(({ index }) => failed.has(index));
  if (madeCount === 0) return later("no node took another copy");
  const nodes = madeCount < 0 ? set.nodes : set.nodes.slice(0, before.nodes.length + madeCount);
  if (signal.aborted) return later("stopped on the way");
  return await commitSet(deps, stored, withCopies(set, nodes), bytes);
}

async function lower(
  deps: HeatDeps,
  { stored, work: { bucket, key } }: Adjusting,
  { set, dropped }: CopiesPlan & { readonly action: "lower" },
  { signal }: WorkContext,
): Promise<WorkOutcome> {
  const base = { txid: deps.nextTxid(), bucket, key, startedAtMs: deps.clock.wallMs(), writer: "" };
  const intent = { ...base, revisionSeen: stored.revision, planned: [], replaces: [] };
  await deps.wal.append(cleanUpIntent(intent, dropped), metadataDeadline(deps));
  if (signal.aborted) return later("stopped on the way");
  return await commitSet(deps, stored, set, 0);
}

async function commitSet(deps: HeatDeps, stored: StoredRecord, set: BlobSet, bytes: number): Promise<WorkOutcome> {
  const manifest = withSets(stored.record.manifest, new Map([[blobSetNameOf(set), set]]));
  const result = await commitRecord(deps, { ...stored.record, manifest }, stored, null);
  return result.ok ? { outcome: "done", bytes } : conflict();
}

function conflict(): WorkOutcome {
  return { ...later("a writer of the key was faster"), inMs: 0 };
}

function later(reason: string): WorkOutcome & { readonly outcome: "later" } {
  return { outcome: "later", inMs: LATER_MS, reason };
}
