import type { HealingControls, HealingJob, HealingStatus, JobKind, Track, TrackControl } from "../domain/healing.ts";
import type { NodeName } from "../domain/ids.ts";

/**
 * Where operators meet healing: gateways ask here, whoever leads answers. Every method rejects with `healing_unavailable`
 * (retriable) when nobody leads or the leader does not answer in time.
 */
export type HealingDesk = {
  status(): Promise<HealingStatus>;
  /** Asks for a job. One of the same kind and node that has not ended is answered instead of a second one. @throws {StoreError} `node_unknown` */
  start(kind: JobKind, node: NodeName | null): Promise<HealingJob>;
  /** @throws {StoreError} `job_unknown` */
  job(id: string): Promise<HealingJob>;
  /** Pauses, resumes or throttles a track, in every process that works on it and until it is set again. Durable. */
  control(track: Track, change: Partial<Omit<TrackControl, "runs">>): Promise<HealingControls>;
  /** Marks a node as draining, or takes that back. Durable. @throws {StoreError} `node_unknown` */
  drain(node: NodeName, draining: boolean): Promise<void>;
  /** Forgets a node for good: it must be drained or gone. Should it come back with its data it is refused. @throws {StoreError} `node_unknown`, `node_in_use` */
  remove(node: NodeName): Promise<void>;
  close(): Promise<void>;
};
