import { describe, expect, test } from "vitest";
import type { Incident } from "../../../src/domain/healing.ts";
import type { NodeName } from "../../../src/domain/ids.ts";
import { endIncidents, meanRepairMs } from "../../../src/healer/incidents.ts";
import { replicationLag } from "../../../src/healer/replication-lag.ts";

const incident = (id: string, node: string | null, changes: Partial<Incident> = {}): Incident => ({
  ...{ id, kind: "node_returned", node: node as NodeName | null, noticedAtMs: 1, repairMs: null, objects: 0, bytes: 0 },
  ...changes,
});

describe("endIncidents()", () => {
  const lackingOf = (node: NodeName) => (node === "n2" ? 5 : 0);
  const open = [incident("i1", "n1"), incident("i2", "n2"), incident("i3", null, { kind: "damage" })];
  const ended = (lacking: number, node: string | null) =>
    endIncidents(open, { lacking, lackingOf, node: node as NodeName | null }, () => 1_234.4).map(({ id }) => id);

  test("ends those whose node lacks nothing, others when nothing lacks anywhere", () => {
    expect(ended(5, null)).toEqual(["i1"]);
    expect(ended(0, null)).toEqual(["i1", "i3"]);
  });

  test("takes an audit of one node for no other", () => {
    expect(ended(0, "n1")).toEqual(["i1"]);
    expect(ended(5, "n2")).toEqual([]);
  });

  test("notes how long it took, once", () => {
    const over = { lacking: 0, lackingOf: () => 0, node: null };
    expect(endIncidents([incident("i1", "n1")], over, () => 1_234.4)).toMatchObject([{ repairMs: 1_234 }]);
    expect(endIncidents([incident("i1", "n1", { repairMs: 7 })], over, () => 1)).toEqual([]);
  });
});

describe("meanRepairMs()", () => {
  test("is that of what has ended", () => {
    expect(meanRepairMs([incident("a", null)])).toBeNull();
    expect(meanRepairMs([10, 20, null].map((repairMs, n) => incident(`${n}`, null, { repairMs })))).toBe(15);
  });
});

describe("replicationLag()", () => {
  const there = { instance: "a", blobCount: 40, awayMs: null, isLost: false, isUnverified: false };
  const nothing = { lacking: 0, mended: 0, urgent: 0, nodes: [there, there] };

  test("is not known before anybody has looked, and 0 when all is well", () => {
    expect(replicationLag({ ...nothing, lacking: null })).toBeNull();
    expect(replicationLag(nothing)).toBe(0);
  });

  test("rises by what a node held when it stops, and falls when it is back and verified", () => {
    expect(replicationLag({ ...nothing, nodes: [there, { ...there, awayMs: 0 }] })).toBe(40);
    expect(replicationLag({ ...nothing, nodes: [there, { ...there, isUnverified: true }] })).toBe(40);
    expect(replicationLag({ ...nothing, lacking: 12 })).toBe(12);
  });

  test("counts what lacks until it is mended, and no less than waits for it", () => {
    expect(replicationLag({ ...nothing, lacking: 12, mended: 5 })).toBe(7);
    expect(replicationLag({ ...nothing, lacking: 12, mended: 50 })).toBe(0);
    expect(replicationLag({ ...nothing, lacking: 12, mended: 50, urgent: 2 })).toBe(2);
    expect(replicationLag({ ...nothing, lacking: null, urgent: 3 })).toBe(3);
  });

  test("of a node that was given up counts what an audit finds lacking, not what it held", () => {
    expect(replicationLag({ ...nothing, lacking: 3, nodes: [{ ...there, awayMs: 1e6, isLost: true }] })).toBe(3);
  });
});
