import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { NodeName, Txid } from "../../../src/domain/ids.ts";
import type { BlobSet } from "../../../src/domain/manifest.ts";
import type { NodeState } from "../../../src/domain/node-info.ts";
import type { NodeShare } from "../../../src/healer/balance-plan.ts";
import { chooseTaker, giversOf, noteMove, planSurplus } from "../../../src/healer/balance-plan.ts";

const BOUNDS = { spread: 0.1, bytesMin: 0 };

function node(
  name: string,
  bytes: number,
  more: { weight?: number; zone?: string; state?: NodeState } = {},
): NodeShare {
  const { weight = 1, zone = "z", state = "live" } = more;
  return { name: name as NodeName, bytes, weight, zone, region: "r", state };
}

function setOn(...names: string[]): BlobSet {
  const redundancy = { scheme: "replication", copies: names.length } as const;
  const nodes = names as NodeName[];
  return { txid: "t" as Txid, part: "body", sizeBytes: 10, cellBytes: 10, redundancy, nodes };
}

/** As in "a +50, b -50"; "settled" where all are near enough. */
function surplusOf(nodes: readonly NodeShare[], bounds = BOUNDS): string {
  const surplus = planSurplus(nodes, bounds);
  if (surplus === null) return "settled";
  return [...surplus].map(([name, bytes]) => `${name} ${bytes < 0 ? "" : "+"}${Math.round(bytes)}`).join(", ");
}

describe("planSurplus()", () => {
  test.each<[what: string, nodes: NodeShare[], surplus: string]>([
    ["nothing stored", [node("a", 0), node("b", 0)], "settled"],
    ["all alike", [node("a", 100), node("b", 104), node("c", 96)], "settled"],
    ["a new node", [node("a", 150), node("b", 150), node("c", 0)], "a +50, b +50, c -100"],
    ["one of twice the weight", [node("a", 100), node("b", 100, { weight: 3 })], "a +50, b -50"],
    [
      "one that drains is left out",
      [node("a", 100), node("b", 0), node("c", 900, { state: "draining" })],
      "a +50, b -50",
    ],
    ["a full one gives", [node("a", 200, { state: "full" }), node("b", 100)], "a +50, b -50"],
    ["one that is below the others is no reason", [node("a", 105), node("b", 105), node("c", 90)], "settled"],
  ])("%s", (_what, nodes, surplus) => {
    expect(surplusOf(nodes)).toBe(surplus);
  });

  test("what is little in bytes is left alone, however large a part it is", () => {
    expect(surplusOf([node("a", 900), node("b", 100)], { spread: 0.1, bytesMin: 500 })).toBe("settled");
  });
});

describe("chooseTaker()", () => {
  const take = (nodes: readonly NodeShare[], set: BlobSet, from: string, bytes = 10) => {
    const surplus = planSurplus(nodes, BOUNDS) ?? new Map<NodeName, number>();
    return chooseTaker(set, from as NodeName, bytes, { nodes, surplus, placementKey: "k" });
  };
  const nodes = [node("a", 200), node("b", 100), node("c", 0)];

  test("goes to a node with room that has nothing of the set", () => {
    expect(take(nodes, setOn("a", "b"), "a")).toBe("c");
    expect(take(nodes, setOn("a", "c"), "a")).toBeNull();
    expect(take(nodes, setOn("b", "a"), "b")).toBeNull();
  });

  test("stays where the move would only turn things round", () => {
    expect(take(nodes, setOn("a", "b"), "a", 250)).toBeNull();
  });

  test("never goes to a node that does not take writes, nor nearer to another blob of the set", () => {
    expect(take([node("a", 200), node("b", 100), node("c", 0, { state: "full" })], setOn("a", "b"), "a")).toBeNull();
    const zoned = [node("a", 200, { zone: "1" }), node("b", 100, { zone: "2" }), node("c", 0, { zone: "2" })];
    expect(take(zoned, setOn("a", "b"), "a")).toBeNull();
    expect(take(zoned, setOn("b", "a"), "a")).toBeNull();
    expect(take([...zoned, node("d", 0, { zone: "3" })], setOn("a", "b"), "a")).toBe("d");
  });
});

type Blob = { readonly bytes: number; readonly nodes: NodeName[] };

function sharesOf(nodes: readonly NodeShare[], blobs: readonly Blob[]): NodeShare[] {
  return nodes.map((each) => ({
    ...each,
    bytes: blobs.reduce((sum, blob) => sum + (blob.nodes.includes(each.name) ? blob.bytes : 0), 0),
  }));
}

/** One round as the balance does it; answers how many blobs moved. */
function round(nodes: readonly NodeShare[], blobs: readonly Blob[]): number {
  const shares = sharesOf(nodes, blobs);
  const surplus = planSurplus(shares, BOUNDS);
  let moves = 0;
  for (const from of surplus === null ? [] : giversOf(surplus)) {
    for (const [index, blob] of blobs.entries()) {
      const at = blob.nodes.indexOf(from);
      if (at < 0 || surplus === null) continue;
      const to = chooseTaker(setOn(...blob.nodes), from, blob.bytes, {
        nodes: shares,
        surplus,
        placementKey: `${index}`,
      });
      if (to === null) continue;
      noteMove(surplus, from, to, blob.bytes);
      blob.nodes[at] = to;
      moves += 1;
    }
  }
  return moves;
}

test("rounds come to an end, never put two blobs of a set on one node, and leave everybody near its share", () => {
  const weight = fc.constantFrom(1, 2, 4);
  const nodeCount = fc.integer({ min: 3, max: 8 });
  fc.assert(
    fc.property(nodeCount, fc.array(weight, { minLength: 8, maxLength: 8 }), fc.nat(), (count, weights, seed) => {
      const nodes = Array.from({ length: count }, (_, n) => node(`n${n}`, 0, { weight: weights[n] as number }));
      const holders = Math.max(2, 1 + (seed % (count - 1)));
      const blobs: Blob[] = Array.from({ length: 300 }, (_, n) => ({
        bytes: 1_000 + ((n * 37 + seed) % 500),
        nodes: [nodes[n % holders]?.name as NodeName, nodes[(n + 1) % holders]?.name as NodeName],
      }));
      let rounds = 0;
      while (round(nodes, blobs) > 0) {
        rounds += 1;
        // About five are usual; two dozen where a heavy node has a share that it cannot reach.
        expect(rounds).toBeLessThan(100);
      }
      for (const blob of blobs) expect(new Set(blob.nodes).size).toBe(2);
      // No node can hold more than one blob of each set: a heavy one may have a share that it cannot reach.
      const total = weights.slice(0, count).reduce((sum, each) => sum + each, 0);
      if (Math.max(...weights.slice(0, count)) / total > 0.45) return;
      expect(surplusOf(sharesOf(nodes, blobs))).toBe("settled");
    }),
    { numRuns: 200 },
  );
});
