/** What the gateway shows of the store behind it. Made in `compose.ts`; the cluster pages and the gauges read it. */
import type { NodeInfo, NodeUsage } from "../domain/node-info.ts";
import type { BucketSummary } from "../metadata/metadata-store.ts";

export type ClusterNode = {
  readonly info: NodeInfo;
  /** Null when the node could not be asked. */
  readonly usage: NodeUsage | null;
};

export type ClusterSnapshot = {
  readonly nodes: readonly ClusterNode[];
  readonly buckets: readonly BucketSummary[];
  /** Bytes of all requests in memory together. */
  readonly inFlightBytes: number;
  readonly inFlightBytesMax: number;
  /** Writes that the log does not know to be settled. */
  readonly openIntents: number;
};

export type ClusterView = {
  /** Immutable and at hand. */
  nodes(): readonly NodeInfo[];
  /** Calls `listener` whenever a node changes its state; the function given back ends that. */
  watch(listener: (nodes: readonly NodeInfo[]) => void): () => void;
  /** Asks nodes and metadata. @throws {StoreError} `metadata_unavailable` */
  snapshot(): Promise<ClusterSnapshot>;
  /** Live nodes that a write under the default settings needs. */
  readonly writeNodesMin: number;
};

export type ClusterHealth = {
  /** ok: every node is live. degraded: reads and writes work with less to spare. unavailable: writes are refused. */
  readonly status: "ok" | "degraded" | "unavailable";
  readonly nodesLive: number;
  readonly nodesTotal: number;
};

export function clusterHealth(nodes: readonly NodeInfo[], writeNodesMin: number): ClusterHealth {
  const nodesLive = nodes.filter((node) => node.state === "live").length;
  const status = nodesLive < writeNodesMin ? "unavailable" : nodesLive < nodes.length ? "degraded" : "ok";
  return { status, nodesLive, nodesTotal: nodes.length };
}

export type ClusterTotals = {
  readonly objectCount: number;
  readonly objectBytes: number;
  readonly blobCount: number;
  readonly liveBytes: number;
  readonly fileBytes: number;
  /** What the nodes hold for each byte of content; null while there is none. */
  readonly overhead: number | null;
};

export function clusterTotals(snapshot: ClusterSnapshot): ClusterTotals {
  const sum = <T>(items: readonly T[], of: (item: T) => number) => items.reduce((total, item) => total + of(item), 0);
  const objectBytes = sum(snapshot.buckets, (bucket) => bucket.objectBytes);
  const liveBytes = sum(snapshot.nodes, (node) => node.usage?.liveBytes ?? 0);
  return {
    objectCount: sum(snapshot.buckets, (bucket) => bucket.objectCount),
    objectBytes,
    blobCount: sum(snapshot.nodes, (node) => node.usage?.blobCount ?? 0),
    liveBytes,
    fileBytes: sum(snapshot.nodes, (node) => node.usage?.fileBytes ?? 0),
    overhead: objectBytes === 0 ? null : liveBytes / objectBytes,
  };
}
