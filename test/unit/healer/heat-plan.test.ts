import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { HeatReport } from "../../../src/domain/heat.ts";
import type { BucketName, NodeName, ObjectKey, Txid, VersionId } from "../../../src/domain/ids.ts";
import type { BlobSet } from "../../../src/domain/manifest.ts";
import type { NodeInfo } from "../../../src/domain/node-info.ts";
import type { HeatBounds, HotObject } from "../../../src/healer/heat-plan.ts";
import { planCopies, planHeat } from "../../../src/healer/heat-plan.ts";

const BOUNDS: HeatBounds = { readsMin: 100, copiesMax: 3, coolMs: 600_000, hotMax: 2 };
const bucket = "default" as BucketName;

function report(process: string, reads: Readonly<Record<string, number>>, version = "1"): HeatReport {
  const objects = Object.entries(reads).map(([key, count]) => ({
    ...{ bucket, key: key as ObjectKey, version: version as VersionId, reads: count, windowMs: 60_000 },
  }));
  return { process, objects };
}

/** What becomes of what is hot, one look after the other. */
function looks(bounds: HeatBounds = BOUNDS) {
  let hot: readonly HotObject[] = [];
  return (nowMs: number, ...reports: HeatReport[]) => {
    const plan = planHeat({ reports, hot, nowMs }, bounds);
    ({ hot } = plan);
    return plan.asks.map(({ key, copies }) => `${key} +${copies}`).join(", ");
  };
}

describe("planHeat()", () => {
  test("adds up what all gateways count, and gives a copy more per doubling", () => {
    const look = looks();
    expect(look(0, report("a", { k: 60 }), report("b", { k: 39 }))).toBe("");
    expect(look(1, report("a", { k: 60 }), report("b", { k: 40 }))).toBe("k +1");
    expect(look(2, report("a", { k: 150 }), report("b", { k: 50 }))).toBe("k +2");
    expect(look(3, report("a", { k: 90_000 }))).toBe("k +3");
  });

  test("takes copies back only after all of the time to cool, and all at once", () => {
    const look = looks();
    expect(look(0, report("a", { k: 200 }))).toBe("k +2");
    expect(look(10, report("a", { k: 49 }))).toBe("");
    expect(look(600_009)).toBe("");
    expect(look(600_010)).toBe("k +0");
    expect(look(600_011)).toBe("");
  });

  test("does not cool what is read half as often as makes hot, and begins anew when it was", () => {
    const look = looks();
    look(0, report("a", { k: 100 }));
    look(10, report("a", { k: 49 }));
    expect(look(30_000, report("a", { k: 50 }))).toBe("");
    look(40_000, report("a", { k: 49 }));
    expect(look(639_999)).toBe("");
    expect(look(640_000)).toBe("k +0");
  });

  test("asks again for a new version at once, and now and then for what was asked for", () => {
    const look = looks();
    look(0, report("a", { k: 100 }, "1"));
    expect(look(10, report("a", { k: 100 }, "2"))).toBe("k +1");
    expect(look(20, report("a", { k: 50 }, "2"), report("b", { k: 50 }, "1"))).toBe("");
    expect(look(60_010, report("a", { k: 100 }, "2"))).toBe("k +1");
  });

  test("prefers the hottest while few may be hot", () => {
    const look = looks();
    expect(look(0, report("a", { k: 100, l: 300, m: 200 }))).toBe("l +2, m +2");
    expect(look(1, report("a", { k: 5_000, l: 300, m: 200 }))).toBe("");
  });

  test("takes everything back where no copies are to be given", () => {
    const hot = [{ bucket, key: "k" as ObjectKey, version: "1" as VersionId, copies: 2, askedAtMs: 0, coolSinceMs: 0 }];
    const plan = planHeat({ reports: [], hot, nowMs: BOUNDS.coolMs }, { ...BOUNDS, copiesMax: 0 });
    expect([plan.hot, plan.asks.map(({ copies }) => copies)]).toEqual([[], [0]]);
  });
});

describe("planHeat() over any history", () => {
  const MINUTE_MS = 60_000;
  const history = fc.array(fc.integer({ min: 0, max: 1_000 }), { minLength: 1, maxLength: 60 });

  test("never takes from what is read half as often as makes hot, nor twice within the time to cool", () => {
    fc.assert(
      fc.property(history, (minutes) => {
        const look = looks();
        let coolSince: number | null = null;
        let copies = 0;
        for (const [minute, reads] of minutes.entries()) {
          if (reads >= BOUNDS.readsMin / 2) coolSince = null;
          else coolSince ??= minute;
          const asked = look(minute * MINUTE_MS, report("a", { k: reads }));
          if (asked === "") continue;
          const now = Number(asked.split("+")[1]);
          if (now > 0) {
            expect(reads).toBeGreaterThanOrEqual(copies === 0 ? BOUNDS.readsMin : BOUNDS.readsMin / 2);
            expect(now).toBeGreaterThanOrEqual(copies);
          } else {
            expect(copies).toBeGreaterThan(0);
            expect((minute - (coolSince ?? minute)) * MINUTE_MS).toBeGreaterThanOrEqual(BOUNDS.coolMs);
          }
          copies = now;
        }
      }),
    );
  });
});

const names = Array.from({ length: 8 }, (_, index) => `n${index}` as NodeName);

function nodeOf(name: NodeName, state: NodeInfo["state"]): NodeInfo {
  return {
    ...{ name, state, region: "r", zone: name, weight: 1, url: null, capacityBytes: 1e9, usedBytes: 0 },
  } as unknown as NodeInfo;
}

describe("planCopies()", () => {
  test("never goes below what the write gave, nor puts two on one node, nor touches those before", () => {
    fc.assert(
      fc.property(
        fc.record({
          written: fc.integer({ min: 1, max: 4 }),
          extra: fc.integer({ min: 0, max: 3 }),
          copies: fc.integer({ min: 0, max: 6 }),
          order: fc.shuffledSubarray(names, { minLength: 8 }),
          live: fc.subarray(names),
        }),
        ({ written, extra, copies, order, live }) => {
          const nodes = order.slice(0, written + extra);
          const set: BlobSet = {
            ...{ txid: "0".repeat(26) as Txid, part: "body", sizeBytes: 10, cellBytes: 10, nodes },
            redundancy: { scheme: "replication", copies: nodes.length },
          };
          const infos = names.map((name) => nodeOf(name, live.includes(name) ? "live" : "down"));
          const plan = planCopies(set, { written, wanted: written + copies }, infos, "bucket/k");
          const after = plan.action === "keep" ? set : plan.set;
          const held = after.nodes;
          expect(new Set(held).size).toBe(held.length);
          expect(after.redundancy).toEqual({ scheme: "replication", copies: held.length });
          expect(held.length).toBeGreaterThanOrEqual(written);
          expect(held.length).toBeLessThanOrEqual(Math.max(nodes.length, written + copies));
          const shared = Math.min(held.length, nodes.length);
          expect(held.slice(0, shared)).toEqual(nodes.slice(0, shared));
          expect(held.slice(nodes.length).every((node) => live.includes(node as NodeName))).toBe(true);
          if (plan.action === "lower") expect(plan.dropped.map(({ node }) => node)).toEqual(nodes.slice(held.length));
        },
      ),
    );
  });
});
