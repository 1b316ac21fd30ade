/**
 * Gives a hot object more copies, and takes them back when it has cooled. The record names a copy only once it is made, so
 * that the object is never short of what it should have; one that is taken back is remembered by a clean-up intent, and
 * recovery frees it when no reader is left. What the write gave the object it keeps: its blobs were sealed with that number.
 *
 * Objects that are not replicated have nothing that could be raised, and are left alone.
 */
import { decodeDescriptor } from "../domain/blob.ts";
import type { BlobSet } from "../domain/manifest.ts";
import { blobSetsOf } from "../domain/manifest.ts";
import type { StoredRecord } from "../domain/record.ts";
import type { WorkOf } from "../domain/work.ts";
import { commitRecord, metadataDeadline } from "../object/commit-record.ts";
import { blobSetNameOf } from "../object/read-pins.ts";
import type { CopiesPlan } from "./heat-plan.ts";
import { planCopies, withCopies } from "./heat-plan.ts";
import { lookAtSet } from "./look-at-sets.ts";
import type { MendDeps } from "./mend.ts";
import { placementKeyOf } from "./mend-plan.ts";
import { rebuildBlobs } from "./rebuild-blobs.ts";
import { cleanUpIntent } from "./recover-plan.ts";
import type { Executor, WorkContext, WorkOutcome } from "./work-executor.ts";

type HeatDeps = Omit<MendDeps, "mendMetrics">;

const LATER_MS = 5_000;
const NOTHING_TO_DO: WorkOutcome = { outcome: "done", bytes: 0 };

/** It acts on the version that is current when its turn comes: an object stays hot while it is overwritten. */
export function createHeatExecutor(deps: HeatDeps): Executor<"heat"> {
  return async (work, context) => {
    const stored = await deps.metadata.get(work.bucket, work.key, metadataDeadline(deps));
    if (stored?.record.state !== "object" || stored.record.manifest.strategy !== "replication") return NOTHING_TO_DO;
    const { body } = stored.record.manifest;
    const { blobs, descriptor } = await lookAtSet(deps, body, () => false);
    if (descriptor === null || blobs.some(({ condition }) => condition !== "whole")) {
      return later("the object is to be mended first");
    }
    const written = copiesWritten(descriptor, body);
    if (written === null) return NOTHING_TO_DO;
    const counts = { written, wanted: written + work.copies };
    const plan = planCopies(body, counts, deps.membership.snapshot(), placementKeyOf(work));
    switch (plan.action) {
      case "keep":
        return NOTHING_TO_DO;
      case "raise":
        return await raise(deps, { stored, body, descriptor }, plan, context);
      case "lower":
        return await lower(deps, stored, plan, work, context);
    }
  };
}

/** As the blobs remember it; null where they are of another set. */
function copiesWritten(descriptor: Uint8Array, set: BlobSet): number | null {
  const { manifest } = decodeDescriptor(descriptor).record;
  const sealed = blobSetsOf(manifest).find((one) => blobSetNameOf(one) === blobSetNameOf(set));
  return sealed?.redundancy.scheme === "replication" ? sealed.redundancy.copies : null;
}

type Found = { readonly stored: StoredRecord; readonly body: BlobSet; readonly descriptor: Uint8Array };

async function raise(
  deps: HeatDeps,
  { stored, body, descriptor }: Found,
  { set, added }: CopiesPlan & { readonly action: "raise" },
  { signal }: WorkContext,
): Promise<WorkOutcome> {
  const source = withCopies(body, [...body.nodes, ...added.map(() => null)]);
  const rebuilds = added.map(({ index, node }) => ({ kind: "blob" as const, index, node }));
  const { bytes, failed } = await rebuildBlobs(deps, source, descriptor, rebuilds, signal);
  // Copies have no gaps: those behind one that failed are the collector's.
  const madeCount = added.findIndex(({ index }) => failed.has(index));
  if (madeCount === 0) return later("no node took another copy");
  const nodes = madeCount < 0 ? set.nodes : set.nodes.slice(0, body.nodes.length + madeCount);
  if (signal.aborted) return later("stopped on the way");
  return await commitSet(deps, stored, withCopies(set, nodes), bytes);
}

async function lower(
  deps: HeatDeps,
  stored: StoredRecord,
  { set, dropped }: CopiesPlan & { readonly action: "lower" },
  { bucket, key }: WorkOf<"heat">,
  { signal }: WorkContext,
): Promise<WorkOutcome> {
  const base = { txid: deps.nextTxid(), bucket, key, startedAtMs: deps.clock.wallMs(), writer: "" };
  const intent = { ...base, revisionSeen: stored.revision, planned: [], replaces: [] };
  await deps.wal.append(cleanUpIntent(intent, dropped), metadataDeadline(deps));
  if (signal.aborted) return later("stopped on the way");
  return await commitSet(deps, stored, set, 0);
}

async function commitSet(deps: HeatDeps, stored: StoredRecord, body: BlobSet, bytes: number): Promise<WorkOutcome> {
  const next = { ...stored.record, manifest: { strategy: "replication", body } as const };
  const result = await commitRecord(deps, next, stored, null);
  return result.ok ? { outcome: "done", bytes } : { ...later("a writer of the key was faster"), inMs: 0 };
}

function later(reason: string): WorkOutcome & { readonly outcome: "later" } {
  return { outcome: "later", inMs: LATER_MS, reason };
}
