import type { BucketName, NodeName, ObjectKey, VersionId } from "./ids.ts";
import type { Strategy } from "./manifest.ts";

export const CONSISTENCIES = ["one", "quorum", "all"] as const;
/** How many blobs must be durable before a write is acknowledged. */
export type Consistency = (typeof CONSISTENCIES)[number];

/** What a write achieved, told honestly: nothing here is planned, all of it is durable. */
export type Receipt = {
  readonly bucket: BucketName;
  readonly key: ObjectKey;
  readonly version: VersionId;
  readonly etag: string;
  /** Null after a hot update: nobody has read the whole. */
  readonly sha256: string | null;
  readonly sizeBytes: number;
  readonly strategy: Strategy;
  /** True when the key had no readable version before. */
  readonly created: boolean;
  /** Nodes that hold fsynced bytes of this version. */
  readonly nodes: readonly NodeName[];
  readonly blobsDurable: number;
  readonly blobsPlanned: number;
  /** How many of those nodes may be lost before a byte is. */
  readonly tolerance: number;
  readonly dirty: boolean;
  /** Payload bytes that this write sent to nodes, parity and copies included. */
  readonly nodeBytesWritten: number;
};
