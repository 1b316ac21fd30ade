/**
 * What a leader of healing keeps for its successors: jobs and incidents, bounded, and what it last knew of the nodes.
 * Pure; `healing-store.ts` makes it durable.
 */
import type { HealingControls, HealingJob, Incident, Track, TrackControl } from "../domain/healing.ts";
import type { NodeName } from "../domain/ids.ts";

/** What was last known of a node. */
export type NodeMemory = {
  /** Of one start of its process; "" where there are no processes. */
  readonly instance: string;
  readonly blobCount: number;
  /** For how long it has been away by now, as far as leaders have seen; null while it is there. */
  readonly awayMs: number | null;
  /** Its absence lasted so long that its blobs were given up. */
  readonly isLost: boolean;
  /** It came back, and no audit has looked at it since. */
  readonly isUnverified: boolean;
};

export type HealingLedger = {
  /** Token of the lease under which it was written: it never falls. */
  readonly term: number;
  /** The newest last. */
  readonly jobs: readonly HealingJob[];
  readonly incidents: readonly Incident[];
  readonly nodes: Readonly<Record<NodeName, NodeMemory>>;
  /** Blobs that lacked at the last audit, by the node that should have them; under "" those that have no node yet. Null before one. */
  readonly lacking: Readonly<Record<string, number>> | null;
};

export const EMPTY_LEDGER: HealingLedger = { term: 0, jobs: [], incidents: [], nodes: {}, lacking: null };

/** So many of each are remembered; what is not over yet is never forgotten for what is. */
export const LEDGER_ENTRIES_MAX = 100;

export function isOver(job: HealingJob): boolean {
  return job.state === "done" || job.state === "failed";
}

/** Adds the job, or puts it in the place of the one with its id. */
export function withJob(ledger: HealingLedger, job: HealingJob): HealingLedger {
  return { ...ledger, jobs: bounded(placed(ledger.jobs, job), isOver) };
}

export function withIncident(ledger: HealingLedger, incident: Incident): HealingLedger {
  const isEnded = ({ repairMs }: Incident) => repairMs !== null;
  return { ...ledger, incidents: bounded(placed(ledger.incidents, incident), isEnded) };
}

function placed<T extends { readonly id: string }>(entries: readonly T[], entry: T): readonly T[] {
  const known = entries.some(({ id }) => id === entry.id);
  return known ? entries.map((one) => (one.id === entry.id ? entry : one)) : [...entries, entry];
}

function bounded<T>(entries: readonly T[], isOld: (entry: T) => boolean): readonly T[] {
  if (entries.length <= LEDGER_ENTRIES_MAX) return entries;
  const oldest = Math.max(0, entries.findIndex(isOld));
  return entries.toSpliced(oldest, 1);
}

export const NO_CONTROL: TrackControl = { paused: false, bytesPerSecond: null, runs: 0 };

export function controlOf(controls: HealingControls, track: Track): TrackControl {
  return controls[track] ?? NO_CONTROL;
}

export function withControl(controls: HealingControls, track: Track, change: Partial<TrackControl>): HealingControls {
  return { ...controls, [track]: { ...controlOf(controls, track), ...change } };
}
