/**
 * Which nodes hold more than their share, and where a blob of theirs would better be. Pure: no I/O.
 *
 * A node's share of the bytes is its weight's share of all weights. Where every node is near enough to its own, nothing is
 * moved. Else bytes go from nodes above to nodes below, and only where the receiver stays below the giver: so the sum of
 * the squares of what is off falls with every move, and no round undoes another.
 */
import type { NodeName } from "../domain/ids.ts";
import type { BlobSet } from "../domain/manifest.ts";
import type { NodeInfo } from "../domain/node-info.ts";
import { rankNodes } from "../placement/rank-nodes.ts";

export type NodeShare = NodeInfo & { readonly bytes: number };

/** Bytes that each node has above its share; below 0 what it lacks. */
export type Surplus = Map<NodeName, number>;

export type BalanceBounds = {
  /** Part of its share by which a node may be above it. */
  readonly spread: number;
  /** Off by less than this nobody is bothered. */
  readonly bytesMin: number;
};

/** Null: all are near enough. Nodes that neither give nor take are left out. */
export function planSurplus(nodes: readonly NodeShare[], { spread, bytesMin }: BalanceBounds): Surplus | null {
  const taking = nodes.filter(({ state }) => state === "live" || state === "full");
  const weights = taking.reduce((sum, { weight }) => sum + weight, 0);
  const total = taking.reduce((sum, { bytes }) => sum + bytes, 0);
  const surplus: Surplus = new Map();
  let isOff = false;
  for (const { name, weight, bytes } of taking) {
    const share = (total * weight) / weights;
    surplus.set(name, bytes - share);
    if (bytes - share > Math.max(bytesMin, spread * share)) isOff = true;
  }
  return isOff ? surplus : null;
}

/** Those that give, the fullest first. */
export function giversOf(surplus: Surplus): NodeName[] {
  return [...surplus]
    .filter(([, bytes]) => bytes > 0)
    .sort((a, b) => b[1] - a[1])
    .map(([name]) => name);
}

/** The node that should take a blob of `bytes` from `from`; null: it is best where it is. */
export function chooseTaker(
  set: BlobSet,
  from: NodeName,
  bytes: number,
  { nodes, surplus, placementKey }: { nodes: readonly NodeInfo[]; surplus: Surplus; placementKey: string },
): NodeName | null {
  const given = surplus.get(from) ?? 0;
  const source = nodes.find(({ name }) => name === from);
  if (given <= 0 || bytes === 0 || source === undefined) return null;
  const others = nodes.filter(({ name }) => name !== from && set.nodes.includes(name));
  const takers = nodes.filter((node) => {
    const has = surplus.get(node.name);
    if (node.state !== "live" || has === undefined || set.nodes.includes(node.name)) return false;
    return has < 0 && has + bytes < given && sharesNoMore(node, source, others);
  });
  return rankNodes(takers, placementKey)[0]?.name ?? null;
}

/** Notes a move that was asked for. */
export function noteMove(surplus: Surplus, from: NodeName, to: NodeName, bytes: number): void {
  surplus.set(from, (surplus.get(from) ?? 0) - bytes);
  surplus.set(to, (surplus.get(to) ?? 0) + bytes);
}

/** The set stays spread over regions and zones as it is, or becomes more so. */
function sharesNoMore(taker: NodeInfo, source: NodeInfo, others: readonly NodeInfo[]): boolean {
  const inRegion = (node: NodeInfo) => others.filter(({ region }) => region === node.region).length;
  const inZone = (node: NodeInfo) =>
    others.filter(({ region, zone }) => region === node.region && zone === node.zone).length;
  return inRegion(taker) <= inRegion(source) && inZone(taker) <= inZone(source);
}
