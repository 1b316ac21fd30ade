/**
 * A seed → the faults of a campaign, in order of time. Pure, so that a seed always means the same faults.
 *
 * What loses data (a wiped or a corrupt disk) meets one node at a time while all others are there, and the executor lets
 * it wait until everything is whole again: so no more is ever lost than the redundancy covers. What is merely away may
 * overlap, as long as a quorum of each kind is left. A few faults take everything down and stand alone.
 */
import type { Seeded } from "../../support/load/seeded.ts";

export const FAULT_KINDS = [
  "kill",
  "pause",
  "restart",
  "kill-nats-leader",
  "kill-leading-healer",
  "kill-majority",
  "restart-all",
  "partition",
  "full-disk",
  "drain",
  "wipe",
  "corrupt",
] as const;
export type FaultKind = (typeof FAULT_KINDS)[number];

export type Fault = {
  readonly kind: FaultKind;
  /** When it is due, from the beginning of the schedule. */
  readonly atMs: number;
  /** How long it stays. */
  readonly lastsMs: number;
  /** A member, a site, or a stream whose leader is meant. */
  readonly target: string;
  /** Of a partition: which way nothing passes. */
  readonly loss?: "cutOff" | "mute" | "deafen";
  /** Of a corrupt disk: in so many places. */
  readonly flips?: number;
};

export type ScheduleOptions = {
  readonly spanMs: number;
  readonly kinds: readonly FaultKind[];
  readonly gateways: readonly string[];
  readonly nodes: readonly string[];
  readonly healers: readonly string[];
  readonly nats: readonly string[];
  readonly sites: readonly string[];
  /** Streams whose leaders are killed. */
  readonly streams: readonly string[];
  /** The node whose disk is small enough to be filled. */
  readonly smallDiskNode: string;
};

const FIRST_MS = 2_000;
const GAP_MS = [200, 3_500] as const;
/** Now and then there is peace for a while, so that what only shows then has time to. */
const CALM_SHARE = 0.06;
const CALM_MS = 18_000;
/** Elections and sessions of what came back are over. */
const SETTLE_MS = 3_000;

const WEIGHTS: Readonly<Record<FaultKind, number>> = {
  kill: 5,
  pause: 4,
  restart: 1,
  "kill-nats-leader": 2,
  "kill-leading-healer": 1.5,
  "kill-majority": 0.5,
  "restart-all": 0.7,
  partition: 2,
  "full-disk": 1.2,
  drain: 1,
  wipe: 1.5,
  corrupt: 1.5,
};

/** How long each lasts, in milliseconds. */
const LASTS: Readonly<Record<FaultKind, readonly [number, number]>> = {
  // Now and then longer than it takes until blobs are rebuilt elsewhere.
  kill: [200, 40_000],
  pause: [1_000, 20_000],
  restart: [100, 1_000],
  "kill-nats-leader": [500, 9_000],
  "kill-leading-healer": [200, 6_000],
  "kill-majority": [1_000, 4_000],
  "restart-all": [100, 2_000],
  partition: [3_000, 14_000],
  "full-disk": [3_000, 10_000],
  drain: [2_000, 20_000],
  wipe: [500, 4_000],
  corrupt: [100, 200],
};

const ALONE: ReadonlySet<FaultKind> = new Set(["kill-majority", "restart-all", "partition", "wipe", "corrupt"]);

export function planFaults(random: Seeded, options: ScheduleOptions): Fault[] {
  const faults: Fault[] = [];
  const kinds = options.kinds.filter((kind) => targetsOf(kind, options).length > 0);
  if (kinds.length === 0) return faults;
  let atMs = FIRST_MS;
  while (atMs < options.spanMs) {
    const fault = drawFault(random, kinds, options, atMs);
    const freeMs = freeFrom(faults, fault, options);
    // A pause or a kill may begin while others last, if that leaves enough; else all wait for their ends.
    atMs = Math.max(atMs, freeMs);
    if (atMs >= options.spanMs) break;
    faults.push({ ...fault, atMs, lastsMs: Math.min(fault.lastsMs, options.spanMs - atMs) });
    atMs += random.between(...GAP_MS);
    if (random.next() < CALM_SHARE) atMs = Math.max(...faults.map(endOf)) + CALM_MS;
  }
  return faults;
}

function drawFault(random: Seeded, kinds: readonly FaultKind[], options: ScheduleOptions, atMs: number): Fault {
  const total = kinds.reduce((sum, kind) => sum + WEIGHTS[kind], 0);
  let choice = random.next() * total;
  const kind = kinds.find((each) => (choice -= WEIGHTS[each]) < 0) ?? (kinds[0] as FaultKind);
  const target = random.pick(targetsOf(kind, options));
  const lastsMs = random.size(...LASTS[kind]);
  const fault = { kind, atMs, lastsMs, target };
  if (kind === "partition") return { ...fault, loss: random.pick(["cutOff", "cutOff", "mute", "deafen"]) };
  return kind === "corrupt" ? { ...fault, flips: random.size(1, 40) } : fault;
}

function targetsOf(kind: FaultKind, options: ScheduleOptions): readonly string[] {
  const { gateways, nodes, healers, nats, sites, streams, smallDiskNode } = options;
  switch (kind) {
    case "kill":
    case "pause":
      return [...gateways, ...nodes, ...healers, ...nats];
    case "restart":
      return [...gateways, ...nodes, ...healers];
    case "kill-nats-leader":
      return streams;
    case "kill-leading-healer":
      return ["whoever leads"];
    case "kill-majority":
      return ["nats", "nodes"];
    case "restart-all":
      return ["everything"];
    case "partition":
      return sites;
    case "full-disk":
      return smallDiskNode === "" ? [] : [smallDiskNode];
    case "drain":
    case "wipe":
    case "corrupt":
      return nodes;
  }
}

/** The earliest time at which the fault leaves enough of everything beside those before it. */
function freeFrom(faults: readonly Fault[], fault: Fault, options: ScheduleOptions): number {
  let freeMs = fault.atMs;
  const byEnd = faults.toSorted((a, b) => endOf(a) - endOf(b));
  for (const other of byEnd) {
    const during = faults.filter((each) => endOf(each) + SETTLE_MS > freeMs);
    if (mayOverlap(during, fault, options)) return freeMs;
    freeMs = Math.max(freeMs, endOf(other) + SETTLE_MS);
  }
  return freeMs;
}

/** Whether enough of everything is left when the fault comes on top of these. */
export function mayOverlap(during: readonly Fault[], fault: Fault, options: ScheduleOptions): boolean {
  if (during.length === 0) return true;
  if (ALONE.has(fault.kind) || during.some(({ kind }) => ALONE.has(kind))) return false;
  const all = [...during, fault];
  if (new Set(all.map(({ target }) => target)).size < all.length) return false;
  const away = (names: readonly string[]) => all.filter(({ target }) => names.includes(target)).length;
  const natsAway = away(options.nats) + away(options.streams);
  return natsAway <= 1 && away(options.nodes) <= 1 && away(options.gateways) < options.gateways.length;
}

function endOf({ atMs, lastsMs }: Fault): number {
  return atMs + lastsMs;
}

/** `12.3 s  pause node-4 for 7.5 s`. */
export function describeFault(fault: Fault): string {
  return `${(fault.atMs / 1_000).toFixed(1).padStart(6)} s  ${describeDeed(fault)}`;
}

export function describeDeed({ kind, target, lastsMs, loss, flips }: Fault): string {
  const span = `${(lastsMs / 1_000).toFixed(1)} s`;
  switch (kind) {
    case "kill":
      return `kill -9 ${target}, back after ${span}`;
    case "pause":
      return `pause ${target} for ${span}`;
    case "restart":
      return `stop ${target} cleanly, back after ${span}`;
    case "kill-nats-leader":
      return `kill -9 the nats-server that leads ${target}, back after ${span}`;
    case "kill-leading-healer":
      return `kill -9 the leading healer, back after ${span}`;
    case "kill-majority":
      return `kill -9 the majority of the ${target} at once, back after ${span}`;
    case "restart-all":
      return `kill -9 everything at once, back after ${span}`;
    case "partition":
      return `${loss === "cutOff" ? "cut off" : loss} site ${target} for ${span}`;
    case "full-disk":
      return `fill the disk of ${target} for ${span}`;
    case "drain":
      return `drain ${target}, and take that back after ${span}`;
    case "wipe":
      return `kill -9 ${target} and wipe its disk, back empty after ${span} (waits until all is whole)`;
    case "corrupt":
      return `flip bytes in ${flips} places on the disk of ${target} (waits until all is whole)`;
  }
}
