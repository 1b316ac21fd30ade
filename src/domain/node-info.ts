import type { NodeName } from "./ids.ts";

export const NODE_STATES = ["live", "full", "draining", "suspect", "fenced", "down", "gone"] as const;
/**
 * live: reads and writes. full: reads and deletes. draining: reads and deletes, by an operator's wish. suspect: silent for
 * a moment or failing here, read from last and written to no more. fenced: met a storage error and takes no more work.
 * down: not reachable. gone: down for so long that its blobs are given up.
 */
export type NodeState = (typeof NODE_STATES)[number];

export type NodeUsage = {
  readonly blobCount: number;
  /** Payload bytes of sealed blobs. */
  readonly liveBytes: number;
  /** Bytes the volumes take on disk. */
  readonly fileBytes: number;
  readonly volumeCount: number;
  /** Volumes that were set aside as unreadable. */
  readonly quarantinedCount: number;
  readonly diskFreeBytes: number;
};

/** One storage node as placement sees it. */
export type NodeInfo = {
  readonly name: NodeName;
  readonly state: NodeState;
  readonly region: string;
  readonly zone: string;
  /** Relative capacity, above 0. */
  readonly weight: number;
};

/** What a node takes part in right now: whether its blobs can be read. */
export function isReadableNode(state: NodeState): boolean {
  return state === "live" || state === "full" || state === "draining" || state === "suspect";
}

export const PROCESS_ROLES = ["gateway", "node", "healer"] as const;
export type ProcessRole = (typeof PROCESS_ROLES)[number];

/** One process of a cluster as the others see it. */
export type ProcessInfo = {
  readonly name: string;
  readonly role: ProcessRole;
  /** Names this one start of it. */
  readonly instance: string;
  /** live: heard of lately. suspect: silent for a moment. down: silent for longer; its place may be taken. */
  readonly state: "live" | "suspect" | "down";
  /** Where it listens, or null. */
  readonly address: string | null;
  readonly region: string;
  readonly zone: string;
  readonly version: string;
  /** Milliseconds since it was last heard of, by this process's clock. */
  readonly silentMs: number;
  readonly uptimeMs: number;
  /** Figures that it tells of itself with every heartbeat, such as `cpuPercent`, `rssBytes`, `indexLag`. */
  readonly load: Readonly<Record<string, number>>;
};
