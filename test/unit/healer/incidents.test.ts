import { describe, expect, test } from "vitest";
import type { Incident } from "../../../src/domain/healing.ts";
import { NO_LOSS } from "../../../src/domain/healing.ts";
import type { NodeName } from "../../../src/domain/ids.ts";
import { auditedIncidents, meanRepairMs } from "../../../src/healer/incidents.ts";
import { replicationLag } from "../../../src/healer/replication-lag.ts";

const incident = (id: string, node: string | null, changes: Partial<Incident> = {}): Incident => ({
  ...{ id, kind: "node_returned", node: node as NodeName | null, noticedAtMs: 1, repairMs: null, objects: 0, bytes: 0 },
  ...changes,
});

describe("auditedIncidents()", () => {
  const lossOfAll = (blobs: number, ofN2 = 5) => ({
    lossOf: (node: NodeName | null) => {
      const count = node === "n2" ? ofN2 : node === null ? blobs : 0;
      return { blobs: count, objects: count, bytes: 100 * count };
    },
  });
  const open = [incident("i1", "n1"), incident("i2", "n2"), incident("i3", null, { kind: "damage" })];
  const audited = (blobs: number, node: string | null, again = false) =>
    auditedIncidents(open, { ...lossOfAll(blobs), node: node as NodeName | null, again }, () => 1_234.4).map(
      ({ id, repairMs, objects, bytes }) => `${id} ${repairMs === null ? `${objects} objects ${bytes} B` : "over"}`,
    );

  test("ends those whose node lacks nothing, others when nothing lacks anywhere", () => {
    expect(audited(5, null)).toEqual(["i1 over", "i2 5 objects 500 B", "i3 5 objects 500 B"]);
    expect(audited(0, null)).toEqual(["i1 over", "i2 5 objects 500 B", "i3 over"]);
  });

  test("takes an audit of one node for no other", () => {
    expect(audited(0, "n1")).toEqual(["i1 over"]);
    expect(audited(5, "n2")).toEqual(["i2 5 objects 500 B"]);
  });

  test("ends nothing by an audit that has not seen everything", () => {
    expect(audited(0, null, true)).toEqual(["i2 5 objects 500 B"]);
  });

  test("keeps what was lacking when most was", () => {
    const [first] = auditedIncidents([incident("i2", "n2")], { ...lossOfAll(5), node: null, again: false }, () => 1);
    const later = auditedIncidents([first as Incident], { ...lossOfAll(2, 2), node: null, again: false }, () => 1);
    expect(later).toEqual([]);
    const over = auditedIncidents([first as Incident], { ...lossOfAll(0, 0), node: null, again: false }, () => 1);
    expect(over).toEqual([{ ...first, repairMs: 1, objects: 5, bytes: 500 }]);
  });

  test("notes how long it took, once", () => {
    const over = { lossOf: () => NO_LOSS, node: null, again: false };
    expect(auditedIncidents([incident("i1", "n1")], over, () => 1_234.4)).toMatchObject([{ repairMs: 1_234 }]);
    expect(auditedIncidents([incident("i1", "n1", { repairMs: 7 })], over, () => 1)).toEqual([]);
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
