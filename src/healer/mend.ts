/**
 * Brings an object back to its full redundancy: looks at what nodes really hold, decides (`mend-plan.ts`), makes what is
 * missing, and lets the record name it by compare-and-set. Nothing that a reader sees changes.
 *
 * Whoever is stopped on the way, or does the same at the same time, does no harm: a blob has the same bytes wherever it
 * is made; the record changes only from the state that was looked at; and no place that a record names is ever emptied here.
 * What is made and then not named, the collector finds. Since it may have found it just before the record came to name it,
 * what was named is looked at once more.
 */
import { encodeDescriptor } from "../domain/blob.ts";
import type { NodeName } from "../domain/ids.ts";
import type { BlobSet, Manifest } from "../domain/manifest.ts";
import { blobSetsOf, codedContentOf } from "../domain/manifest.ts";
import type { ObjectRecord, StoredRecord } from "../domain/record.ts";
import type { WorkOf } from "../domain/work.ts";
import type { Throttle } from "../lib/throttle.ts";
import { commitRecord, metadataDeadline } from "../object/commit-record.ts";
import type { ObjectDeps } from "../object/deps.ts";
import { blobSetNameOf } from "../object/read-pins.ts";
import { dropFurtherCopy } from "./further-copy.ts";
import type { FoundSet, IsSuspect } from "./look-at-sets.ts";
import { lookAtSet } from "./look-at-sets.ts";
import type { SetMend } from "./mend-plan.ts";
import { mendedSet, placementKeyOf, planSetMend, sourceSet } from "./mend-plan.ts";
import type { MendMetrics } from "./mend-metrics.ts";
import type { Rebuild, RebuildOutcome } from "./rebuild-blobs.ts";
import { rebuildBlobs, transcodeBlobs } from "./rebuild-blobs.ts";
import type { Executor, WorkContext, WorkOutcome } from "./work-executor.ts";

export type MendDeps = ObjectDeps & {
  readonly throttle: Throttle;
  readonly mendMetrics: MendMetrics;
  /** A node that nobody waits for any more: what it held is made anew elsewhere. */
  isLost(node: NodeName): boolean;
};

/** How often the record is looked at anew because somebody was faster. */
const ATTEMPTS_MAX = 4;
const CONFLICT_MS = 1_000;
const WAIT_MS = 5_000;
/** What cannot be read cannot be mended until a node comes back with what it held. */
const UNREADABLE_MS = 60_000;

export function createMendExecutor(deps: MendDeps): Executor<"mend"> {
  return async (work, context) => {
    let bytes = 0;
    for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt += 1) {
      const stored = await deps.metadata.get(work.bucket, work.key, metadataDeadline(deps));
      if (stored === null || blobSetsOf(stored.record.manifest).length === 0) return { outcome: "done", bytes };
      const result = await mendOnce(deps, work, stored, context);
      bytes += result.bytes;
      if (result.outcome !== "changed") return settled(deps, work, result, bytes);
      if (context.signal.aborted) return { outcome: "later", inMs: 0, reason: "stopped on the way" };
    }
    return { outcome: "later", inMs: CONFLICT_MS, reason: "writers of the key were faster every time" };
  };
}

type Attempt = {
  /** changed: the record is another than the one that was looked at. */
  readonly outcome: "whole" | "changed" | "incomplete" | "waiting" | "unreadable";
  readonly bytes: number;
};

function settled(deps: MendDeps, { bucket, key }: WorkOf<"mend">, result: Attempt, bytes: number): WorkOutcome {
  switch (result.outcome) {
    case "unreadable":
      deps.mendMetrics.unreadable.inc();
      deps.logger.error({ bucket, key }, "an object cannot be mended: fewer blobs are left than it takes to read it");
      return { outcome: "later", inMs: UNREADABLE_MS, reason: "fewer blobs are left than it takes to read the object" };
    case "waiting":
      return { outcome: "later", inMs: WAIT_MS, reason: "a node is away, or none is free" };
    case "incomplete":
      return { outcome: "later", inMs: CONFLICT_MS, reason: "a node did not take what was made for it" };
    default:
      return { outcome: "done", bytes };
  }
}

async function mendOnce(
  deps: MendDeps,
  work: WorkOf<"mend">,
  stored: StoredRecord,
  { signal }: WorkContext,
): Promise<Attempt> {
  const { record } = stored;
  const isSuspect: IsSuspect = (id, node) =>
    work.suspects.some((suspect) => suspect.id === id && suspect.node === node);
  const looks = await Promise.all(blobSetsOf(record.manifest).map((set) => lookAtSet(deps, set, isSuspect)));
  const context = { nodes: deps.membership.snapshot(), key: placementKeyOf(record) };
  const plans = looks.map((look) => ({ look, mend: planSetMend(look, context) }));

  // Whole copies beside the shards of which none is left are no loss.
  const gone = plans.find(({ mend }) => mend.source === "lost" && mend.set.part === "copy");
  if (gone !== undefined) {
    await dropFurtherCopy(deps, { stored, copy: gone.mend.set }, signal);
    return { outcome: "changed", bytes: 0 };
  }
  const done: { mend: SetMend; outcome: RebuildOutcome }[] = [];
  const rescue = rescueOf(record.manifest, plans);
  for (const { look, mend } of plans) {
    if (mend.source === "enough") done.push({ mend, outcome: await makeBlobs(deps, look, mend, signal) });
    else if (mend === rescue?.mend) done.push({ mend, outcome: await makeFromCopy(deps, stored, rescue, signal) });
  }
  const bytes = done.reduce((sum, { outcome }) => sum + outcome.bytes, 0);
  if (signal.aborted) return { outcome: "changed", bytes };

  const sets = new Map(done.map(({ mend, outcome }) => [blobSetNameOf(mend.set), mendedSet(mend, outcome.failed)]));
  const moved = done.some(({ mend }) => {
    const set = sets.get(blobSetNameOf(mend.set));
    return set?.nodes.some((node, index) => node !== mend.set.nodes[index]) === true;
  });
  if (moved) {
    const next = { ...record, manifest: withSets(record.manifest, sets) };
    const result = await commitRecord(deps, next, stored, null);
    if (!result.ok) return { outcome: "changed", bytes };
    if (!(await areHeld(deps, [...sets.values()], next))) return { outcome: "incomplete", bytes };
  }
  countMended(deps, done);
  if (plans.some(({ mend }) => mend.source === "lost" && mend !== rescue?.mend))
    return { outcome: "unreadable", bytes };
  if (done.some(({ outcome }) => outcome.failed.size > 0)) return { outcome: "incomplete", bytes };
  return { outcome: plans.some(({ mend }) => isWaiting(mend)) ? "waiting" : "whole", bytes };
}

/** A blob that the record does not count on and nobody can make now; one on a node that is only away is no reason to wait. */
function isWaiting({ blobs, source }: SetMend): boolean {
  return source === "away" || blobs.some((mend) => mend.action === "wait" && mend.for === "a free node");
}

async function makeBlobs(
  deps: MendDeps,
  { descriptor }: FoundSet,
  mend: SetMend,
  signal: AbortSignal,
): Promise<RebuildOutcome> {
  const rebuilds = rebuildsOf(mend);
  if (rebuilds.length === 0 || descriptor === null) return { bytes: 0, failed: new Set() };
  return await rebuildBlobs(deps, sourceSet(mend), descriptor, rebuilds, signal);
}

function rebuildsOf({ blobs }: SetMend): Rebuild[] {
  return blobs.flatMap((blob, index): Rebuild[] => {
    if (blob.action === "rebuild") return [{ kind: "blob", index, node: blob.node }];
    return blob.action === "mend_cells" ? [{ kind: "cells", index, node: blob.node, cells: blob.cells }] : [];
  });
}

type Planned = { readonly look: FoundSet; readonly mend: SetMend };
type Rescue = Planned & { readonly copy: SetMend };

/** Of shards too few are left, but there are whole copies beside them. */
function rescueOf(manifest: Manifest, plans: readonly Planned[]): Rescue | null {
  const coded = codedContentOf(manifest)?.coded;
  const planned = coded === undefined ? undefined : plans.find(({ mend }) => mend.set === coded);
  const copy = plans.find(({ mend }) => mend.set.part === "copy")?.mend;
  if (planned?.mend.source !== "lost" || copy?.source !== "enough") return null;
  return { ...planned, copy };
}

async function makeFromCopy(
  deps: MendDeps,
  { record, revision }: StoredRecord,
  { look, mend, copy }: Rescue,
  signal: AbortSignal,
): Promise<RebuildOutcome> {
  const descriptor = look.descriptor ?? encodeDescriptor({ record, revisionSeen: revision });
  return await transcodeBlobs(deps, { from: sourceSet(copy), set: mend.set, descriptor }, rebuildsOf(mend), signal);
}

/** Whether what the record names now is still where it was seen or made a moment ago. */
async function areHeld(deps: MendDeps, sets: readonly BlobSet[], record: ObjectRecord): Promise<boolean> {
  const looks = await Promise.all(sets.map((set) => lookAtSet(deps, set, () => false)));
  const gone = looks.some(({ blobs }) => blobs.some(({ condition }) => condition === "missing"));
  if (gone) deps.logger.warn({ key: record.key }, "a blob was collected while its record came to name it; once more");
  return !gone;
}

function countMended({ mendMetrics }: MendDeps, done: readonly { mend: SetMend; outcome: RebuildOutcome }[]): void {
  for (const { mend, outcome } of done) {
    for (const [index, { action }] of mend.blobs.entries()) {
      if (action === "keep" || action === "wait" || outcome.failed.has(index)) continue;
      mendMetrics.blobs.inc({ action });
    }
  }
}

/** The manifest with these sets in the place of those of the same names. */
export function withSets(manifest: Manifest, sets: ReadonlyMap<string, BlobSet>): Manifest {
  const placed = (set: BlobSet) => sets.get(blobSetNameOf(set)) ?? set;
  switch (manifest.strategy) {
    case "inline":
      return manifest;
    case "replication":
      return { ...manifest, body: placed(manifest.body) };
    case "ec":
      return { ...manifest, body: placed(manifest.body), ...copyOf(manifest.copy, placed) };
    case "field_hybrid": {
      const { hot, cold, copy } = manifest;
      const hotPart = hot.kind === "blobs" ? { ...hot, blobs: placed(hot.blobs) } : hot;
      return { ...manifest, hot: hotPart, cold: placed(cold), ...copyOf(copy, placed) };
    }
  }
}

function copyOf(copy: BlobSet | undefined, placed: (set: BlobSet) => BlobSet): { copy?: BlobSet } {
  return copy === undefined ? {} : { copy: placed(copy) };
}
