import { checksumOf } from "../domain/checksum.ts";
import type { NodeInfo } from "../domain/node-info.ts";

/**
 * Orders the nodes for one object by weighted rendezvous hashing: each node draws a score from the hash of its name and
 * the key, so that a node that comes or goes moves only the objects it wins or loses. Every prefix of the order is
 * spread as evenly as the nodes allow over regions, and within a region over zones; among equals the score decides.
 */
export function rankNodes(nodes: readonly NodeInfo[], placementKey: string): NodeInfo[] {
  const seed = splitHash(placementKey);
  const scored = nodes.map((node) => ({ node, score: scoreOf(seed, node), turn: 0 }));
  scored.sort((a, b) => b.score - a.score || compareNames(a.node.name, b.node.name));

  // A node's turn is how many of its domain stand before it: by turn first, every domain gets one before any gets two.
  takeTurns(scored, (node) => `${node.region}\0${node.zone}`);
  scored.sort((a, b) => a.turn - b.turn);
  takeTurns(scored, (node) => node.region);
  scored.sort((a, b) => a.turn - b.turn || b.score - a.score || compareNames(a.node.name, b.node.name));
  return scored.map((entry) => entry.node);
}

type Scored = { readonly node: NodeInfo; readonly score: number; turn: number };
type SplitHash = { readonly high: number; readonly low: number };

function takeTurns(scored: readonly Scored[], domainOf: (node: NodeInfo) => string): void {
  const seen = new Map<string, number>();
  for (const entry of scored) {
    const domain = domainOf(entry.node);
    entry.turn = seen.get(domain) ?? 0;
    seen.set(domain, entry.turn + 1);
  }
}

/** -weight / ln(h) with h even in (0, 1): the share of keys a node wins is proportional to its weight. */
function scoreOf(seed: SplitHash, node: NodeInfo): number {
  const own = hashOfNode(node.name);
  const low = mix(seed.low ^ own.low);
  const high = mix(seed.high ^ own.high ^ low);
  // 53 bits, shifted by half a step so that neither 0 nor 1 can come out.
  const even = ((high >>> 5) * 67_108_864 + (mix(low ^ high) >>> 6) + 0.5) / 9_007_199_254_740_992;
  return -node.weight / Math.log(even);
}

/** Every bit of the input moves every bit of the result (the finaliser of MurmurHash3). */
function mix(value: number): number {
  let mixed = value ^ (value >>> 16);
  mixed = Math.imul(mixed, 0x85eb_ca6b);
  mixed ^= mixed >>> 13;
  mixed = Math.imul(mixed, 0xc2b2_ae35);
  return mixed ^ (mixed >>> 16);
}

/** Nodes are few and their names do not change, so each is hashed once. */
const nodeHashes = new Map<string, SplitHash>();
const NODE_HASHES_MAX = 4_096;

function hashOfNode(name: string): SplitHash {
  let hash = nodeHashes.get(name);
  if (hash === undefined) {
    if (nodeHashes.size >= NODE_HASHES_MAX) nodeHashes.clear();
    hash = splitHash(name);
    nodeHashes.set(name, hash);
  }
  return hash;
}

const encoder = new TextEncoder();

function splitHash(text: string): SplitHash {
  const hash = checksumOf(encoder.encode(text));
  return { high: Number(hash >> 32n) | 0, low: Number(hash & 0xffff_ffffn) | 0 };
}

function compareNames(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
