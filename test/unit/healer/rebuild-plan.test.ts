import { describe, expect, test } from "vitest";
import type { NodeName, Revision, Txid, VersionId } from "../../../src/domain/ids.ts";
import type { BlobSet, Manifest } from "../../../src/domain/manifest.ts";
import type { ObjectRecord } from "../../../src/domain/record.ts";
import { isBuried } from "../../../src/domain/record.ts";
import type { FoundState } from "../../../src/healer/rebuild-plan.ts";
import { planRebuiltKey } from "../../../src/healer/rebuild-plan.ts";
import { sampleRecord } from "../../support/sample-records.ts";

const NODES = ["n1", "n2", "n3"] as NodeName[];

function setOf(version: string): BlobSet {
  const redundancy = { scheme: "ec", k: 2, m: 1 } as const;
  return { txid: version as Txid, part: "body", sizeBytes: 10, cellBytes: 5, redundancy, nodes: NODES };
}

/** Versions are letters; content is erasure-coded 2 + 1. */
function state(
  kind: FoundState["kind"],
  revision: number,
  version: string,
  more: Partial<ObjectRecord> = {},
): FoundState {
  const manifest: Manifest = { strategy: "ec", body: setOf(version) };
  const record = { ...sampleRecord("k"), version: version as VersionId, etag: version, manifest, ...more };
  return { kind, revision: revision as Revision, record };
}

const inline: Partial<ObjectRecord> = { manifest: { strategy: "inline", bytes: new Uint8Array(3) } };
const tombstoneOf = (version: string): Partial<ObjectRecord> => ({
  state: "tombstone",
  manifest: { strategy: "ec", body: setOf(version) },
});

/** As in "b: object, b.body on n1 n2 -": what becomes of the key when so many blobs of each version are there. */
function rebuild(states: readonly FoundState[], present: Readonly<Record<string, number>>): string {
  const { record, passedOver } = planRebuiltKey(states, ({ txid, nodes }) =>
    nodes.map((node, index) => (node !== null && index < (present[txid] ?? 0) ? [node] : [])),
  );
  const suffix = passedOver === 0 ? "" : `, ${passedOver} passed over`;
  if (record === null) return `nothing${suffix}`;
  const what = isBuried(record) ? "buried" : record.state;
  const places =
    record.manifest.strategy === "ec" ? ` on ${record.manifest.body.nodes.map((node) => node ?? "-").join(" ")}` : "";
  return `${record.version}: ${what}${places}${suffix}`;
}

describe("planRebuiltKey()", () => {
  test.each<[what: string, states: FoundState[], present: Record<string, number>, outcome: string]>([
    ["one object", [state("content", 0, "a")], { a: 3 }, "a: object on n1 n2 n3"],
    ["a dirty one", [state("content", 0, "a")], { a: 2 }, "a: object on n1 n2 -"],
    [
      "one that was written over",
      [state("content", 0, "a"), state("content", 5, "b")],
      { a: 3, b: 3 },
      "b: object on n1 n2 n3",
    ],
    [
      "a write that was never finished",
      [state("content", 0, "a"), state("content", 5, "b")],
      { a: 3, b: 1 },
      "a: object on n1 n2 n3, 1 passed over",
    ],
    [
      "a hot update behind its content",
      [state("content", 0, "a"), state("kept", 5, "b", inline)],
      { a: 3 },
      "b: object",
    ],
    [
      "content behind a hot update",
      [state("kept", 5, "b", inline), state("content", 5, "c")],
      { c: 3 },
      "c: object on n1 n2 n3",
    ],
    [
      "a delete",
      [state("content", 0, "a"), state("kept", 5, "d", tombstoneOf("a"))],
      { a: 3 },
      "d: tombstone on n1 n2 n3",
    ],
    ["a delete whose content is gone", [state("kept", 5, "d", tombstoneOf("a"))], { a: 1 }, "d: buried"],
    [
      "content behind a delete",
      [state("kept", 5, "d", tombstoneOf("a")), state("content", 5, "e")],
      { e: 2 },
      "e: object on n1 n2 -",
    ],
    [
      "two that saw the same",
      [state("content", 5, "b"), state("content", 5, "c")],
      { b: 3, c: 3 },
      "c: object on n1 n2 n3",
    ],
    ["too little of all", [state("content", 0, "a")], { a: 1 }, "nothing, 1 passed over"],
  ])("%s", (_what, states, present, outcome) => {
    expect(rebuild(states, present)).toBe(outcome);
    expect(rebuild(states.toReversed(), present)).toBe(outcome);
  });

  test("a blob that was found elsewhere is named where it is, one on several nodes where it was meant to be", () => {
    const places = [["n3", "n1"], ["n3"], []] as unknown as NodeName[][];
    const { record } = planRebuiltKey([state("content", 0, "a")], () => places);
    expect(record?.manifest).toMatchObject({ body: { nodes: ["n1", "n3", null] } });
  });
});
