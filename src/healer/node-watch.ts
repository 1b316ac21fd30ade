/**
 * Which nodes came back and which were away for too long. Pure: what is remembered of the nodes, what is seen of them
 * now, and the time in between.
 *
 * | remembered | seen | happens |
 * |---|---|---|
 * | nothing | anything | it is remembered |
 * | there | there, another start of its process | `returned` |
 * | there | away | its absence begins to count |
 * | away | there | `returned` |
 * | away | still away, longer than `rebuildAfterMs` by now | `lost`, once |
 * | anything | not a node any more | it is forgotten |
 */
import type { NodeMemory } from "../desk/healing-ledger.ts";
import type { NodeName } from "../domain/ids.ts";
import type { NodeInfo, ProcessInfo } from "../domain/node-info.ts";

export type NodeMemories = Readonly<Record<NodeName, NodeMemory>>;

export type NodeSight = {
  readonly name: NodeName;
  /** Of one start of its process; "" where there are no processes. */
  readonly instance: string;
  readonly isThere: boolean;
  /** As last told; null when it never told. */
  readonly blobCount: number | null;
};

export type NodeEvent = {
  readonly kind: "returned" | "lost";
  readonly node: NodeName;
  /** How long it was not there, as far as anybody knows. */
  readonly awayMs: number;
};

export type NodeWatch = { readonly memories: NodeMemories; readonly events: readonly NodeEvent[] };

export function watchNodes(
  remembered: NodeMemories,
  sights: readonly NodeSight[],
  elapsedMs: number,
  rebuildAfterMs: number,
): NodeWatch {
  const events: NodeEvent[] = [];
  const memories: Record<NodeName, NodeMemory> = {};
  for (const sight of sights) {
    const before = remembered[sight.name];
    const after = before === undefined ? firstSight(sight) : nextSight(before, sight, elapsedMs, rebuildAfterMs);
    memories[sight.name] = after;
    if (before === undefined) continue;
    if (after.isLost && !before.isLost) {
      events.push({ kind: "lost", node: sight.name, awayMs: after.awayMs ?? 0 });
    } else if (sight.isThere && (before.awayMs !== null || before.instance !== sight.instance)) {
      events.push({ kind: "returned", node: sight.name, awayMs: before.awayMs ?? 0 });
    }
  }
  return { memories, events };
}

function firstSight({ instance, isThere, blobCount }: NodeSight): NodeMemory {
  return { instance, blobCount: blobCount ?? 0, awayMs: isThere ? null : 0, isLost: false, isUnverified: false };
}

function nextSight(before: NodeMemory, sight: NodeSight, elapsedMs: number, rebuildAfterMs: number): NodeMemory {
  const { instance, isThere } = sight;
  if (!isThere) {
    const awayMs = before.awayMs === null ? 0 : before.awayMs + elapsedMs;
    return { ...before, awayMs, isLost: before.isLost || awayMs >= rebuildAfterMs };
  }
  const hasReturned = before.awayMs !== null || before.instance !== instance;
  // What it held when it went is what may be missing until an audit has looked.
  const blobCount = hasReturned || before.isUnverified ? before.blobCount : (sight.blobCount ?? before.blobCount);
  return { instance, blobCount, awayMs: null, isLost: false, isUnverified: hasReturned || before.isUnverified };
}

/**
 * How the nodes are, by silence and by what they say of themselves: that requests of this process to one failed does not
 * make it absent.
 */
export function sightsOf(nodes: readonly NodeInfo[], processes: readonly ProcessInfo[]): NodeSight[] {
  return nodes.map(({ name, state }) => {
    const process = processes.find((one) => one.role === "node" && one.name === name);
    if (process === undefined) {
      const isThere = state !== "down" && state !== "gone" && state !== "fenced";
      return { name, instance: "", isThere, blobCount: null };
    }
    const blobCount = process.load["blobCount"] ?? null;
    return { name, instance: process.instance, isThere: process.state !== "down", blobCount };
  });
}
