/** What the gateway shows of the store behind it. Made in `compose.ts`; the cluster pages and the gauges read it. */
import type { NodeInfo, NodeState, NodeUsage, ProcessInfo } from "../domain/node-info.ts";
import type { BucketSummary } from "../metadata/metadata-store.ts";
import type { CacheFigures } from "../object/content-cache.ts";

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
  /** Writes that the log does not know to be settled; null where nobody has told. */
  readonly openIntents: number | null;
  /** Every process of the cluster; none where this one is the whole store. */
  readonly processes: readonly ProcessInfo[];
  /** Null where this process needs nobody. */
  readonly coordination: Coordination | null;
  /** The streams that metadata and log are in; none in an embedded store. */
  readonly streams: readonly StreamReport[];
  readonly healing: HealingFigures;
};

/** What whoever leads healing tells with its heartbeats. */
export type HealingFigures = {
  /** Blobs that records plan and no node that can be reached is known to hold; null while nobody knows. */
  readonly replicationLag: number | null;
  readonly jobsOpen: number;
  /** Over the latest incidents; null before one has ended. */
  readonly meanRepairMs: number | null;
};

/** What keeps a cluster together. */
export type Coordination = {
  /** False when NATS did not answer in time: nothing can be committed then. */
  readonly reachable: boolean;
  /** The healer that leads; null when none does or nobody can tell. */
  readonly leader: string | null;
  /** False while NATS elects who answers for it. */
  readonly leaderKnown: boolean;
  /** NATS servers that the others do not hear. */
  readonly serversAway: readonly string[];
  /** Streams that nobody leads right now: what needs them waits. */
  readonly streamsWaiting: readonly string[];
  /** The NATS server that this process talks to. */
  readonly server: string;
  /** Committed changes that this process has not followed yet. */
  readonly indexLag: number;
};

export type StreamReport = {
  readonly name: string;
  /** The server that leads it, or null during an election. */
  readonly leader: string | null;
  readonly messageCount: number;
  readonly bytes: number;
  /** Servers with a copy that their leader does not hear. */
  readonly serversAway: readonly string[];
  /** Copies that are up to date, of those there should be. */
  readonly replicasCurrent: number;
  readonly replicasTotal: number;
};

export type ClusterView = {
  /** Immutable and at hand. */
  nodes(): readonly NodeInfo[];
  /** Calls `listener` whenever a node changes its state; the function given back ends that. */
  watch(listener: (nodes: readonly NodeInfo[]) => void): () => void;
  /** What this process keeps in memory for readers; at hand. */
  cache(): CacheFigures;
  /** Every process of the cluster as last heard of; immutable and at hand. */
  processes(): readonly ProcessInfo[];
  /** As last heard of. */
  healing(): HealingFigures;
  /** Asks NATS, shortly; null where this process needs nobody. */
  coordination(): Promise<Coordination | null>;
  /** Asks nodes and metadata. @throws {StoreError} `metadata_unavailable` */
  snapshot(): Promise<ClusterSnapshot>;
  /** Live nodes that a write under the default settings needs. */
  readonly writeNodesMin: number;
};

export type ClusterHealth = {
  /** ok: everything is there. degraded: reads and writes work with less to spare. unavailable: writes are refused. */
  readonly status: "ok" | "degraded" | "unavailable";
  readonly nodesLive: number;
  readonly nodesTotal: number;
  /** What is not as it should be, each in a few words for people. */
  readonly problems: readonly string[];
};

export type HealthState = {
  readonly nodes: readonly NodeInfo[];
  readonly writeNodesMin: number;
  readonly processes?: readonly ProcessInfo[];
  readonly coordination?: Coordination | null;
  readonly healing?: Pick<HealingFigures, "replicationLag">;
};

export function clusterHealth({
  nodes,
  writeNodesMin,
  processes = [],
  coordination = null,
  healing = { replicationLag: null },
}: HealthState): ClusterHealth {
  const nodesLive = nodes.filter((node) => node.state === "live").length;
  const problems = nodes.flatMap(({ name, state }) =>
    state === "live" ? [] : [`${name} is ${state}: ${STATE_MEANINGS[state]}`],
  );
  for (const { role, name, state } of processes) {
    if (role !== "node" && state !== "live") problems.push(`${name} is ${state}: not heard of, others do its work`);
  }
  if (nodesLive < writeNodesMin) problems.push(`writes need ${writeNodesMin} live nodes`);
  if (coordination !== null) problems.push(...coordinationProblems(coordination));
  const lag = healing.replicationLag ?? 0;
  if (lag > 0)
    problems.push(`${lag} ${lag === 1 ? "blob is" : "blobs are"} missing or not to be reached: being mended`);
  const writable = nodesLive >= writeNodesMin && coordination?.reachable !== false;
  return {
    status: !writable ? "unavailable" : problems.length > 0 ? "degraded" : "ok",
    nodesLive,
    nodesTotal: nodes.length,
    problems,
  };
}

/** What a state costs, for people. */
const STATE_MEANINGS: Readonly<Record<Exclude<NodeState, "live">, string>> = {
  full: "reads and deletes only, new blobs go to others",
  draining: "reads and deletes only, by an operator's wish",
  suspect: "silent or failing, new blobs go to others",
  fenced: "met a storage error, its disk is to be looked after",
  down: "not reachable, its blobs are read from others",
  gone: "not reachable for long, its blobs are given up",
};

function coordinationProblems(coordination: Coordination): string[] {
  const { reachable, leader, leaderKnown, serversAway, streamsWaiting } = coordination;
  if (!reachable) return ["NATS does not answer: no writes, and no reads that have to be current, until it does"];
  return [
    ...serversAway.map((name) => `NATS server ${name} is down; the others do its work while most of them run`),
    ...streamsWaiting.map((name) => `stream ${name} has no leader: what needs it waits for an election, some seconds`),
    ...(leader !== null ? [] : [leaderKnown ? "no healer leads" : "NATS cannot tell yet which healer leads"]),
  ];
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
