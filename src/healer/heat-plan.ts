import type { HeatReport, ObjectHeat } from "../domain/heat.ts";
import type { BucketName, NodeName, ObjectKey, VersionId } from "../domain/ids.ts";
import type { BlobSet, PlacedBlob } from "../domain/manifest.ts";
import { placedBlobsOf } from "../domain/manifest.ts";
import type { NodeInfo } from "../domain/node-info.ts";
import { rankNodes } from "../placement/rank-nodes.ts";

/** An object that has more copies because it is read so often, as far as the leader knows. */
export type HotObject = {
  readonly bucket: BucketName;
  readonly key: ObjectKey;
  readonly version: VersionId;
  /** How many more than its write gave it. */
  readonly copies: number;
  /** By the leader's monotonic clock; null: those copies are still to be asked for. */
  readonly askedAtMs: number | null;
  /** Since when it is read less than half as often as makes hot; null while it is read more. */
  readonly coolSinceMs: number | null;
};

export type HeatBounds = {
  /** Reads in a minute, over all gateways. */
  readonly readsMin: number;
  readonly copiesMax: number;
  readonly coolMs: number;
  /** Objects that have more copies at a time. */
  readonly hotMax: number;
};

export type HeatPlan = {
  readonly hot: readonly HotObject[];
  /** Those whose copies are to be asked for now; `copies` 0 takes them back. */
  readonly asks: readonly HotObject[];
};

const MINUTE_MS = 60_000;
/** What was asked for is asked for again: it may have been lost, or undone by a writer. */
const ASK_AGAIN_MS = 60_000;

/**
 * Which objects are to have how many more copies:
 *
 * | reads in a minute, of `readsMin` | it is not hot                       | it is hot                                         |
 * |----------------------------------|-------------------------------------|---------------------------------------------------|
 * | as many or more                  | hot: one copy, another per doubling | as many copies as that, and never fewer than now  |
 * | half of it or more               | nothing                             | keeps its copies                                  |
 * | less                             | nothing                             | keeps them for `coolMs`, then loses all           |
 *
 * The hottest come first; while `hotMax` are hot no other becomes so. A new version has what its write gave it, so its
 * copies are asked for at once.
 */
export function planHeat(
  { reports, hot, nowMs }: { reports: readonly HeatReport[]; hot: readonly HotObject[]; nowMs: number },
  bounds: HeatBounds,
): HeatPlan {
  const heats = sumReads(reports);
  const next: HotObject[] = [];
  const asks: HotObject[] = [];
  for (const object of hot) {
    const heat = heats.get(nameOf(object));
    heats.delete(nameOf(object));
    const judged = judgeHot(object, heat, nowMs, bounds);
    if (judged.askedAtMs === null) asks.push({ ...judged, askedAtMs: nowMs });
    if (judged.copies > 0) next.push({ ...judged, askedAtMs: judged.askedAtMs ?? nowMs });
  }
  const rising = [...heats.values()].filter(({ reads }) => copiesFor(reads, bounds) > 0);
  rising.sort((a, b) => b.reads - a.reads);
  for (const { bucket, key, version, reads } of rising.slice(0, Math.max(0, bounds.hotMax - next.length))) {
    const copies = copiesFor(reads, bounds);
    const object: HotObject = { bucket, key, version, copies, askedAtMs: nowMs, coolSinceMs: null };
    next.push(object);
    asks.push(object);
  }
  return { hot: next, asks };
}

/** What is to be asked for has no `askedAtMs`. */
function judgeHot(object: HotObject, heat: Heat | undefined, nowMs: number, bounds: HeatBounds): HotObject {
  const reads = heat?.reads ?? 0;
  if (reads < bounds.readsMin / 2) {
    const coolSinceMs = object.coolSinceMs ?? nowMs;
    const isCold = nowMs - coolSinceMs >= bounds.coolMs;
    return isCold ? { ...object, coolSinceMs, copies: 0, askedAtMs: null } : { ...object, coolSinceMs };
  }
  const copies = Math.min(bounds.copiesMax, Math.max(object.copies, copiesFor(reads, bounds)));
  const version = heat !== undefined && heat.version > object.version ? heat.version : object.version;
  const isAsked =
    object.askedAtMs !== null &&
    nowMs - object.askedAtMs < ASK_AGAIN_MS &&
    copies === object.copies &&
    version === object.version;
  return { ...object, version, copies, coolSinceMs: null, askedAtMs: isAsked ? object.askedAtMs : null };
}

function copiesFor(reads: number, { readsMin, copiesMax }: HeatBounds): number {
  return reads < readsMin ? 0 : Math.min(copiesMax, 1 + Math.floor(Math.log2(reads / readsMin)));
}

type Heat = Pick<ObjectHeat, "bucket" | "key" | "version" | "reads">;

/** Reads in a minute by all processes, by object, with the latest version that any of them has read. */
function sumReads(reports: readonly HeatReport[]): Map<string, Heat> {
  const heats = new Map<string, Heat>();
  for (const { bucket, key, version, reads, windowMs } of reports.flatMap(({ objects }) => objects)) {
    const before = heats.get(nameOf({ bucket, key }));
    const perMinute = (before?.reads ?? 0) + (reads * MINUTE_MS) / Math.max(1, windowMs);
    const latest = before !== undefined && before.version > version ? before.version : version;
    heats.set(nameOf({ bucket, key }), { bucket, key, version: latest, reads: perMinute });
  }
  return heats;
}

export function nameOf({ bucket, key }: { readonly bucket: BucketName; readonly key: ObjectKey }): string {
  return `${bucket}\0${key}`;
}

export type CopiesPlan =
  | { readonly action: "keep" }
  /** `set` as it will be when all of `added` are made. */
  | { readonly action: "raise"; readonly set: BlobSet; readonly added: readonly { index: number; node: NodeName }[] }
  | { readonly action: "lower"; readonly set: BlobSet; readonly dropped: readonly PlacedBlob[] };

/**
 * How a replicated set comes to have `wanted` copies, or as many as there are nodes for. Never fewer than `written`, which is what
 * its write gave it. The last ones go first: they came last.
 */
export function planCopies(
  set: BlobSet,
  { written, wanted }: { readonly written: number; readonly wanted: number },
  nodes: readonly NodeInfo[],
  placementKey: string,
): CopiesPlan {
  const count = Math.max(written, wanted);
  const now = set.nodes.length;
  if (count < now) {
    const lowered = withCopies(set, set.nodes.slice(0, count));
    const left = new Set(placedBlobsOf(lowered).map(({ id }) => id));
    return { action: "lower", set: lowered, dropped: placedBlobsOf(set).filter(({ id }) => !left.has(id)) };
  }
  const free = nodes.filter(({ name, state }) => state === "live" && !set.nodes.includes(name));
  const taken = rankNodes(free, placementKey).slice(0, count - now);
  if (taken.length === 0) return { action: "keep" };
  const added = taken.map(({ name }, offset) => ({ index: now + offset, node: name }));
  return { action: "raise", set: withCopies(set, [...set.nodes, ...added.map(({ node }) => node)]), added };
}

export function withCopies(set: BlobSet, nodes: BlobSet["nodes"]): BlobSet {
  return { ...set, nodes, redundancy: { scheme: "replication", copies: nodes.length } };
}
