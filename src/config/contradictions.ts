import type { ClusterConfig } from "../config.ts";
import { parseBucketName } from "../domain/ids.ts";
import type { BucketSettings } from "../domain/settings.ts";
import type { Path } from "./problems.ts";

export type Contradiction = {
  readonly path: Path;
  /** The other setting that takes part. */
  readonly against: Path;
  readonly message: string;
};

const NODES: Path = ["cluster", "nodes"];

/** Settings that are each allowed but cannot hold together. */
export function findContradictions(cluster: ClusterConfig): Contradiction[] {
  const { nodes, bucketDefaults, buckets } = cluster;
  const found: Contradiction[] = [];
  const names = nodes.map((node) => node.name);
  for (const name of new Set(names.filter((name, index) => names.indexOf(name) !== index))) {
    found.push({ path: NODES, against: NODES, message: `two nodes are named ${name}: give each its own name` });
  }
  found.push(...contradictionsOfBucket(["cluster", "bucketDefaults"], bucketDefaults, nodes.length));
  for (const [name, settings] of Object.entries(buckets)) {
    const path = ["cluster", "buckets", name];
    found.push(
      ...contradictionsOfBucket(path, settings, nodes.length, bucketDefaults),
      ...bucketNameProblem(path, name),
    );
  }
  return found;
}

/** `inherited`: a contradiction that the defaults have as well is told once, there. */
function contradictionsOfBucket(
  path: Path,
  settings: BucketSettings,
  nodeCount: number,
  inherited?: BucketSettings,
): Contradiction[] {
  const found: Contradiction[] = [];
  const { k, m, replicas } = settings;
  const differs = (...keys: (keyof BucketSettings)[]) => keys.some((key) => settings[key] !== inherited?.[key]);
  const nodesHave = `there ${nodeCount === 1 ? "is 1" : `are ${nodeCount}`}`;
  if (k + m > nodeCount && differs("k", "m")) {
    const message = `k ${k} + m ${m} need ${k + m} nodes and ${nodesHave}: lower k or m (k 2, m 1 fits 3 nodes) or add nodes`;
    found.push({ path: [...path, "k"], against: NODES, message });
  }
  if (replicas > nodeCount && differs("replicas")) {
    const message = `${replicas} replicas need as many nodes and ${nodesHave}: lower replicas or add nodes`;
    found.push({ path: [...path, "replicas"], against: NODES, message });
  }
  if (settings.inlineBytesMax > settings.replicationBytesMax && differs("inlineBytesMax", "replicationBytesMax")) {
    const message = `${settings.inlineBytesMax} is above replicationBytesMax (${settings.replicationBytesMax}): lower it`;
    found.push({ path: [...path, "inlineBytesMax"], against: [...path, "replicationBytesMax"], message });
  }
  return found;
}

function bucketNameProblem(path: Path, name: string): Contradiction[] {
  try {
    parseBucketName(name);
    return [];
  } catch (cause) {
    return [{ path, against: path, message: cause instanceof Error ? cause.message : String(cause) }];
  }
}
