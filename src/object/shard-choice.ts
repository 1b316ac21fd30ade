import type { NodeName } from "../domain/ids.ts";
import { dataShards } from "../domain/geometry.ts";
import type { BlobSet } from "../domain/manifest.ts";
import type { NodeInfo } from "../domain/node-info.ts";
import type { ObjectDeps } from "./deps.ts";

/**
 * Whom to ask for the blobs of a set: healthy nodes first, then near ones, then what needs no decoding. What a
 * transfer learns on its way it remembers: with a node gone or slow, later stripes cost no second detour.
 */
export class ShardChoice {
  readonly #ranked: readonly Ranked[];
  /** Shards that failed in this transfer: they are not asked again. */
  readonly #failed = new Set<number>();
  /** Shards that were given up because others were faster. */
  readonly #late = new Set<number>();

  constructor(ranked: readonly Ranked[]) {
    this.#ranked = ranked;
  }

  noteFailed(shard: number): void {
    this.#failed.add(shard);
  }

  noteLate(shard: number): void {
    this.#late.add(shard);
  }

  /** True when a shard is as good a choice as any: on a healthy node that is not slow. */
  isPreferred(shard: number): boolean {
    const entry = this.#ranked.find((other) => other.shard === shard);
    return entry !== undefined && entry.trust === TRUSTED && !this.#failed.has(shard) && !this.#late.has(shard);
  }

  /** The best shard that `isTaken` does not have, or null. Nodes that are believed to be away only with `lastResort`. */
  next(isTaken: (shard: number) => boolean, lastResort: boolean): number | null {
    let best: Ranked | null = null;
    let bestTrust = lastResort ? AWAY + 1 : AWAY;
    for (const entry of this.#ranked) {
      const trust = entry.trust === TRUSTED && this.#late.has(entry.shard) ? SLOW : entry.trust;
      if (trust >= bestTrust || this.#failed.has(entry.shard) || isTaken(entry.shard)) continue;
      best = entry;
      bestTrust = trust;
    }
    return best?.shard ?? null;
  }
}

type Ranked = { readonly shard: number; readonly trust: number };

const TRUSTED = 0;
const SLOW = 1;
const SUSPECT = 2;
/** Down, fenced or given up: asked when nobody else is left, as what is believed of a node may be out of date. */
const AWAY = 3;

/** A node is slow beside another one from this many times its typical wait, and this much more in all. */
const SLOW_FACTOR = 4;
const SLOW_MS = 5;

/** `cellBytes`: about how much will be asked for at a time, as small and large cells have latencies of their own. */
export function chooseShards(deps: ObjectDeps, set: BlobSet, cellBytes: number): ShardChoice {
  const known = nodesByName(deps.membership.snapshot());
  const candidates: Candidate[] = [];
  let fastestMs = Infinity;
  for (const [shard, name] of set.nodes.entries()) {
    if (name === null) continue;
    const info = known.get(name);
    const standing = deps.latency.standingOf(name);
    // What is known of a node on trial is what the trial is about.
    const typicalMs = standing === "on_trial" ? null : deps.latency.typicalMs(name, cellBytes);
    if (typicalMs !== null && typicalMs < fastestMs) fastestMs = typicalMs;
    candidates.push({ shard, info, typicalMs, cost: 0, trust: trustIn(info, standing === "avoided") });
  }
  const isCoded = set.redundancy.scheme === "ec";
  const dataCount = dataShards(set.redundancy);
  for (const candidate of candidates) {
    const { info, typicalMs } = candidate;
    const isSlow = typicalMs !== null && typicalMs > SLOW_FACTOR * fastestMs + SLOW_MS;
    if (isSlow) candidate.trust = Math.max(candidate.trust, SLOW);
    // Far regions cost more than decoding does, another zone costs less.
    const isParity = isCoded && candidate.shard >= dataCount;
    const { otherRegion, otherZone } = distanceOf(deps, info);
    candidate.cost = 4 * Number(otherRegion) + 2 * Number(isParity) + Number(otherZone);
  }
  // Among equals a random start spreads the load; sorting is stable, so it decides just where nothing else does.
  const turn = isCoded ? 0 : Math.floor(deps.random.next() * candidates.length);
  const turned = turn === 0 ? candidates : [...candidates.slice(turn), ...candidates.slice(0, turn)];
  turned.sort((a, b) => a.trust - b.trust || a.cost - b.cost || slownessOf(a, fastestMs) - slownessOf(b, fastestMs));
  return new ShardChoice(turned);
}

/** Whether any blob of the set is on a node that is worth asking before others. */
export function isWithinReach(deps: ObjectDeps, set: BlobSet): boolean {
  const known = nodesByName(deps.membership.snapshot());
  return set.nodes.some((name) => {
    if (name === null) return false;
    return trustIn(known.get(name), deps.latency.standingOf(name) === "avoided") === TRUSTED;
  });
}

type Candidate = {
  readonly shard: number;
  readonly info: NodeInfo | undefined;
  readonly typicalMs: number | null;
  trust: number;
  cost: number;
};

function trustIn(info: NodeInfo | undefined, isAvoided: boolean): number {
  switch (info?.state) {
    case "live":
    case "full":
    case "draining":
      return isAvoided ? SLOW : TRUSTED;
    case "suspect":
      return SUSPECT;
    default:
      return AWAY;
  }
}

function distanceOf(deps: ObjectDeps, info: NodeInfo | undefined): { otherRegion: boolean; otherZone: boolean } {
  const here = deps.locality ?? null;
  if (here === null || info === undefined) return { otherRegion: false, otherZone: false };
  const otherRegion = info.region !== here.region;
  return { otherRegion, otherZone: otherRegion || info.zone !== here.zone };
}

/** Waits that differ by little count as equal: else the fastest replica would get all of the load. */
function slownessOf(candidate: Candidate, fastestMs: number): number {
  const { typicalMs } = candidate;
  if (typicalMs === null || typicalMs <= 2 * fastestMs + 2) return 0;
  return Math.floor(Math.log2(typicalMs / fastestMs));
}

/** Snapshots live until something changes, so each is indexed once. */
const indexes = new WeakMap<readonly NodeInfo[], ReadonlyMap<NodeName, NodeInfo>>();

function nodesByName(snapshot: readonly NodeInfo[]): ReadonlyMap<NodeName, NodeInfo> {
  let index = indexes.get(snapshot);
  if (index === undefined) {
    index = new Map(snapshot.map((info) => [info.name, info]));
    indexes.set(snapshot, index);
  }
  return index;
}
