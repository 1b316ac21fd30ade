import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { isStoreError } from "../../src/domain/errors.ts";
import { parseNodeName } from "../../src/domain/ids.ts";
import type { Redundancy } from "../../src/domain/manifest.ts";
import { blobsPlanned } from "../../src/domain/manifest.ts";
import type { NodeInfo } from "../../src/domain/node-info.ts";
import { CONSISTENCIES } from "../../src/domain/receipt.ts";
import { rankNodes } from "../../src/placement/rank-nodes.ts";
import { planTargets, quorumOf, type Targets, type TargetsRequest } from "../../src/placement/strategies.ts";

const TIME_BOX = { interruptAfterTimeLimit: 10_000 } as const;

const cluster: fc.Arbitrary<NodeInfo[]> = fc
  .array(
    fc.record({
      region: fc.constantFrom("r1", "r2", "r3"),
      zone: fc.constantFrom("z1", "z2"),
      weight: fc.constantFrom(0.5, 1, 4),
      state: fc.constantFrom("live", "live", "live", "full", "suspect", "fenced", "down", "draining", "gone"),
    }),
    { maxLength: 14 },
  )
  .map((nodes) => nodes.map((node, index) => ({ ...node, name: parseNodeName(`n${index}`) })));

/** The most and the fewest chosen nodes of one domain, of those that still have a node to give. */
function isEven(chosen: readonly NodeInfo[], all: readonly NodeInfo[], domainOf: (node: NodeInfo) => string): boolean {
  const count = (nodes: readonly NodeInfo[], domain: string): number =>
    nodes.filter((node) => domainOf(node) === domain).length;
  const domains = [...new Set(all.map(domainOf))];
  const most = Math.max(0, ...domains.map((domain) => count(chosen, domain)));
  return domains.every((domain) => count(chosen, domain) >= Math.min(most - 1, count(all, domain)));
}

describe("rankNodes()", () => {
  test("orders all nodes the same way whatever their order, every prefix even over regions, and over zones within", () => {
    fc.assert(
      fc.property(cluster, fc.string(), (nodes, key) => {
        const ranked = rankNodes(nodes, key);
        expect(ranked.map((node) => node.name)).toEqual(rankNodes(nodes.toReversed(), key).map((node) => node.name));
        expect(new Set(ranked)).toEqual(new Set(nodes));
        expect(ranked.length).toBe(nodes.length);
        for (let length = 1; length <= ranked.length; length += 1) {
          const prefix = ranked.slice(0, length);
          expect(isEven(prefix, nodes, (node) => node.region)).toBe(true);
          for (const region of ["r1", "r2", "r3"]) {
            const within = (node: NodeInfo): boolean => node.region === region;
            expect(isEven(prefix.filter(within), nodes.filter(within), (node) => node.zone)).toBe(true);
          }
        }
      }),
      { numRuns: 1_500, ...TIME_BOX },
    );
  });

  test("keeps the order of the others when a node leaves a flat cluster", () => {
    const flat = cluster.map((nodes) => nodes.map((node) => ({ ...node, region: "r", zone: "z" })));
    fc.assert(
      fc.property(flat, fc.string(), fc.nat(20), (nodes, key, gone) => {
        const left = nodes.filter((_, index) => index !== gone);
        expect(rankNodes(left, key)).toEqual(rankNodes(nodes, key).filter((node) => left.includes(node)));
      }),
      { numRuns: 1_500, ...TIME_BOX },
    );
  });
});

describe("planTargets()", () => {
  const redundancy = fc.oneof(
    fc.record({ scheme: fc.constant("replication" as const), copies: fc.integer({ min: 1, max: 5 }) }),
    fc.record({
      scheme: fc.constant("ec" as const),
      k: fc.integer({ min: 1, max: 6 }),
      m: fc.integer({ min: 0, max: 3 }),
    }),
  ) as fc.Arbitrary<Redundancy>;

  test("puts each blob on a live node of its own, on suspect ones only where the live are too few, nulls at the end, the rest as spares; or refuses", () => {
    fc.assert(
      fc.property(
        cluster,
        redundancy,
        fc.constantFrom(...CONSISTENCIES),
        fc.string(),
        (nodes, code, consistency, key) => {
          const live = nodes.filter((node) => node.state === "live").map((node) => node.name);
          const suspect = nodes.filter((node) => node.state === "suspect").map((node) => node.name);
          const quorum = quorumOf(code, consistency);
          const takers = live.length < quorum ? [...live, ...suspect] : live;
          const plan = planOrRefusal({ nodes, redundancy: code, consistency, key });
          expect(plan === "refused").toBe(takers.length < quorum);
          if (plan === "refused") return;
          const placed = plan.targets.filter((node) => node !== null);
          expect(plan.quorum).toBe(quorum);
          expect(plan.targets.length).toBe(blobsPlanned(code));
          expect(placed.length).toBe(Math.min(takers.length, blobsPlanned(code)));
          expect(plan.targets.slice(0, placed.length)).toEqual(placed);
          expect([...placed, ...plan.spares].toSorted()).toEqual(takers.toSorted());
          const ranked = [...placed, ...plan.spares];
          expect(ranked.slice(0, live.length).toSorted(), "the live come first").toEqual(live.toSorted());
        },
      ),
      { numRuns: 1_500, ...TIME_BOX },
    );
  });
});

function planOrRefusal(request: TargetsRequest): Targets | "refused" {
  try {
    return planTargets(request);
  } catch (error) {
    if (isStoreError(error, "placement_impossible")) return "refused";
    throw error;
  }
}
