import type { NodeName } from "./ids.ts";

export const NODE_STATES = ["live", "full", "fenced", "down"] as const;
/** live: reads and writes. full: reads and deletes. fenced: met a storage error and takes no more work. down: not reachable. */
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
