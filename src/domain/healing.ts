/** What operators see of healing and may say to it: tracks, their throttles, jobs and incidents. */
import type { WorkStatus } from "../lib/background-work.ts";
import type { NodeName } from "./ids.ts";

/**
 * recover, audit, balance and heat are the leader's; repair (mending, moving, collecting) is shared by all healers; scrub
 * and compact are each node's own.
 */
export const TRACKS = ["recover", "audit", "repair", "collect", "balance", "heat", "keep", "scrub", "compact"] as const;
export type Track = (typeof TRACKS)[number];

/** What an operator sets at run time, the same for every process that works on the track. Null: as configured. */
export type TrackControl = {
  readonly paused: boolean;
  /** Bytes per second and process; null: as configured. */
  readonly bytesPerSecond: number | null;
  /** Raised to ask for a run now, where the track is not the leader's. */
  readonly runs: number;
};

export type HealingControls = Readonly<Partial<Record<Track, TrackControl>>>;

export const JOB_KINDS = ["audit", "recover_node", "collect", "balance", "scrub", "compact"] as const;
export type JobKind = (typeof JOB_KINDS)[number];

/** Something that an operator, or an event such as a node that came back, has asked the leader for. Survives the leader. */
export type HealingJob = {
  readonly id: string;
  readonly kind: JobKind;
  /** Null: all of them. */
  readonly node: NodeName | null;
  readonly state: "waiting" | "running" | "done" | "failed";
  /** Wall time, for people. */
  readonly startedAtMs: number;
  readonly endedAtMs: number | null;
  readonly done: number;
  /** Null: not known. */
  readonly total: number | null;
  readonly unit: string;
  /** Counts of what was found and done, by name. */
  readonly result: Readonly<Record<string, number>>;
  readonly failure: string | null;
};

/** A loss of redundancy, from when it was noticed to when nothing was missing any more. */
export type Incident = {
  readonly id: string;
  readonly kind: "node_lost" | "node_returned" | "damage" | "on_demand";
  readonly node: NodeName | null;
  /** Wall time, for people. */
  readonly noticedAtMs: number;
  /** Null while it lasts. By a monotonic clock where one process saw all of it. */
  readonly repairMs: number | null;
  /** Objects that lacked something when most was lacking, and the bytes of what they lacked. */
  readonly objects: number;
  readonly bytes: number;
};

/** What lacks somewhere, as an audit found it. */
export type Loss = {
  readonly blobs: number;
  readonly objects: number;
  readonly bytes: number;
};

export const NO_LOSS: Loss = { blobs: 0, objects: 0, bytes: 0 };

export type TrackReport = WorkStatus & {
  readonly track: Track;
  /** The process that works on it. */
  readonly process: string;
  readonly bytesPerSecondMax: number | null;
  readonly paused: boolean;
  /** Figures of its own, such as `orphans` or `cellsBad`. */
  readonly figures: Readonly<Record<string, number>>;
};

export type HealingStatus = {
  readonly leader: string | null;
  /** Blobs that records plan and no node that can be reached is known to hold; null before anybody has looked. */
  readonly replicationLag: number | null;
  /** Pieces of work that wait or are under way, by urgency. */
  readonly waiting: readonly number[];
  readonly tracks: readonly TrackReport[];
  readonly jobs: readonly HealingJob[];
  readonly incidents: readonly Incident[];
  readonly controls: HealingControls;
};
