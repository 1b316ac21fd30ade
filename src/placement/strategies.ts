import { StoreError } from "../domain/errors.ts";
import type { NodeName } from "../domain/ids.ts";
import type { Redundancy, Strategy, StrategyChoice } from "../domain/manifest.ts";
import { blobsNeeded, blobsPlanned } from "../domain/manifest.ts";
import type { NodeInfo, NodeState } from "../domain/node-info.ts";
import type { Consistency } from "../domain/receipt.ts";
import type { BucketSettings } from "../domain/settings.ts";
import { unreachable } from "../lib/assert.ts";
import type { SplitOptions } from "./json-split.ts";
import { rankNodes } from "./rank-nodes.ts";

export type BodyFacts = {
  /** Null when the sender did not say. */
  readonly sizeBytes: number | null;
  /** The first byte that is not JSON whitespace; null when there is none or it is not known. */
  readonly firstByte: number | null;
};

export type ChosenStrategy =
  | { readonly strategy: Exclude<Strategy, "field_hybrid"> }
  | { readonly strategy: "field_hybrid"; readonly mode: SplitOptions["mode"] };

const OPENING_BRACE = 0x7b;

/**
 * Decides how a new version is stored. `choice` is what the client asked for, null for nothing. A client that names
 * field_hybrid gets JSON or an error; where the bucket or `auto` decides, any body is taken.
 * An explicit `inline` is answered whatever the size: the caller refuses bodies that do not fit a record.
 */
export function chooseStrategy(
  settings: BucketSettings,
  choice: StrategyChoice | null,
  facts: BodyFacts,
): ChosenStrategy {
  const wanted = choice ?? settings.strategy;
  if (wanted === "field_hybrid") {
    return { strategy: "field_hybrid", mode: choice === "field_hybrid" ? "strict" : "lenient" };
  }
  if (wanted !== "auto") return { strategy: wanted };

  const { sizeBytes, firstByte } = facts;
  if (sizeBytes !== null && sizeBytes <= settings.inlineBytesMax) return { strategy: "inline" };
  const worthSplitting = sizeBytes === null || sizeBytes >= settings.hybridBytesMin;
  if (firstByte === OPENING_BRACE && worthSplitting && settings.hotFields.length > 0) {
    return { strategy: "field_hybrid", mode: "lenient" };
  }
  if (sizeBytes !== null && sizeBytes <= settings.replicationBytesMax) return { strategy: "replication" };
  return { strategy: "ec" };
}

export type TargetsRequest = {
  readonly nodes: readonly NodeInfo[];
  readonly redundancy: Redundancy;
  readonly consistency: Consistency;
  /** What placement hashes; the same key prefers the same nodes. */
  readonly key: string;
};

export type Targets = {
  /** Node of each blob, all distinct; null for a blob that no node is left for. */
  readonly targets: readonly (NodeName | null)[];
  /** The other nodes that take writes, best first: they step in for a target that fails. */
  readonly spares: readonly NodeName[];
  /** How many blobs must be durable before the write counts. */
  readonly quorum: number;
};

/**
 * Assigns the blobs of one set to live nodes. Where too few are live for the quorum, suspect ones step in behind them:
 * a suspicion may be unfounded, and trying costs a wait where refusing costs the write. With a quorum of live nodes the
 * suspect get nothing, as every write would wait for them: what is missing then is repaired later.
 * @throws {StoreError} `placement_impossible` fewer nodes are live or suspect than the consistency needs
 */
export function planTargets(request: TargetsRequest): Targets {
  const { redundancy, consistency } = request;
  const planned = blobsPlanned(redundancy);
  const quorum = quorumOf(redundancy, consistency);
  const ranked = rankInState(request, "live");
  if (ranked.length < quorum) {
    const liveCount = ranked.length;
    ranked.push(...rankInState(request, "suspect"));
    if (ranked.length < quorum) throw placementImpossible(request, liveCount, quorum);
  }
  const targets = Array.from({ length: planned }, (_, index) => ranked[index] ?? null);
  return { targets, spares: ranked.slice(planned), quorum };
}

function rankInState({ nodes, key }: TargetsRequest, state: NodeState): NodeName[] {
  const inState = nodes.filter((node) => node.state === state);
  return rankNodes(inState, key).map((node) => node.name);
}

/** Durable blobs that a write at this consistency waits for. */
export function quorumOf(redundancy: Redundancy, consistency: Consistency): number {
  const planned = blobsPlanned(redundancy);
  switch (consistency) {
    case "one":
      return blobsNeeded(redundancy);
    case "quorum":
      // One shard to spare, so that the write outlives a node also before its last shards are durable.
      return redundancy.scheme === "ec" ? Math.min(redundancy.k + 1, planned) : Math.floor(planned / 2) + 1;
    case "all":
      return planned;
    default:
      return unreachable(consistency);
  }
}

function placementImpossible(request: TargetsRequest, liveCount: number, quorum: number): StoreError {
  const { redundancy, consistency, nodes } = request;
  const planned = blobsPlanned(redundancy);
  const [blobs, remedy] = redundancy.scheme === "ec" ? ["shards", "lower k or m"] : ["copies", "lower the replicas"];
  return new StoreError(
    "placement_impossible",
    `Cannot place ${planned} ${blobs}: ${liveCount} nodes are live, consistency ${consistency} needs ${quorum}; add a node or ${remedy}`,
    {
      // With enough nodes known, waiting for one to come back is all it takes.
      retriable: nodes.length >= quorum,
      details: { planned, quorum, liveCount, nodeCount: nodes.length },
    },
  );
}
