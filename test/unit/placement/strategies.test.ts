import { describe, expect, test } from "vitest";
import { parseNodeName } from "../../../src/domain/ids.ts";
import type { Redundancy, StrategyChoice } from "../../../src/domain/manifest.ts";
import type { NodeInfo, NodeState } from "../../../src/domain/node-info.ts";
import type { BucketSettings } from "../../../src/domain/settings.ts";
import { chooseStrategy, planTargets, quorumOf } from "../../../src/placement/strategies.ts";

const SETTINGS: BucketSettings = {
  strategy: "auto",
  k: 4,
  m: 2,
  replicas: 3,
  consistency: "quorum",
  inlineBytesMax: 1_000,
  replicationBytesMax: 10_000,
  hybridBytesMin: 5_000,
  hotFields: ["status"],
};
const JSON_BYTE = 0x7b;
const OTHER_BYTE = 0xff;

function chosen(
  sizeBytes: number | null,
  firstByte: number | null,
  options: { settings?: Partial<BucketSettings>; choice?: StrategyChoice } = {},
): string {
  const decision = chooseStrategy({ ...SETTINGS, ...options.settings }, options.choice ?? null, {
    sizeBytes,
    firstByte,
  });
  return decision.strategy === "field_hybrid" ? `field_hybrid ${decision.mode}` : decision.strategy;
}

describe("chooseStrategy()", () => {
  test("auto goes by size, and splits JSON from the threshold on", () => {
    expect(chosen(0, null)).toBe("inline");
    expect(chosen(1_000, JSON_BYTE)).toBe("inline");
    expect(chosen(1_001, JSON_BYTE)).toBe("replication");
    expect(chosen(4_999, JSON_BYTE)).toBe("replication");
    expect(chosen(5_000, JSON_BYTE)).toBe("field_hybrid lenient");
    expect(chosen(10_000, OTHER_BYTE)).toBe("replication");
    expect(chosen(10_001, OTHER_BYTE)).toBe("ec");
    expect(chosen(10_001, null)).toBe("ec");
  });

  test("auto takes a body of unknown size for a large one", () => {
    expect(chosen(null, JSON_BYTE)).toBe("field_hybrid lenient");
    expect(chosen(null, OTHER_BYTE)).toBe("ec");
    expect(chosen(null, null)).toBe("ec");
  });

  test("auto does not split without hot fields", () => {
    expect(chosen(800_000, JSON_BYTE, { settings: { hotFields: [] } })).toBe("ec");
  });

  test("takes what the client names, and holds it to JSON when that is field_hybrid", () => {
    expect(chosen(1, OTHER_BYTE, { choice: "ec" })).toBe("ec");
    expect(chosen(1_000_000, OTHER_BYTE, { choice: "replication" })).toBe("replication");
    expect(chosen(1_000_000, OTHER_BYTE, { choice: "inline" })).toBe("inline");
    expect(chosen(10, OTHER_BYTE, { choice: "field_hybrid" })).toBe("field_hybrid strict");
    expect(chosen(10, OTHER_BYTE, { choice: "auto", settings: { strategy: "ec" } })).toBe("inline");
  });

  test("takes what the bucket names, any body included", () => {
    expect(chosen(10, OTHER_BYTE, { settings: { strategy: "ec" } })).toBe("ec");
    expect(chosen(10, OTHER_BYTE, { settings: { strategy: "field_hybrid" } })).toBe("field_hybrid lenient");
  });
});

const REPLICATION: Redundancy = { scheme: "replication", copies: 3 };
const EC: Redundancy = { scheme: "ec", k: 4, m: 2 };

function nodesOf(...states: NodeState[]): NodeInfo[] {
  return states.map((state, index) => {
    const name = parseNodeName(`n${index + 1}`);
    return { name, state, region: "r", zone: "z", weight: 1 };
  });
}

describe("quorumOf()", () => {
  test("is one copy or k shards, a majority or one shard to spare, or all", () => {
    expect((["one", "quorum", "all"] as const).map((consistency) => quorumOf(REPLICATION, consistency))).toEqual([
      1, 2, 3,
    ]);
    expect((["one", "quorum", "all"] as const).map((consistency) => quorumOf(EC, consistency))).toEqual([4, 5, 6]);
    expect(quorumOf({ scheme: "ec", k: 2, m: 0 }, "quorum")).toBe(2);
    expect(quorumOf({ scheme: "replication", copies: 1 }, "quorum")).toBe(1);
    expect(quorumOf({ scheme: "replication", copies: 4 }, "quorum")).toBe(3);
  });
});

describe("planTargets()", () => {
  test("writes only to live nodes and leaves the last blobs out when those are too few", () => {
    const nodes = nodesOf("live", "full", "live", "fenced", "live", "down", "live", "live");
    const plan = planTargets({ nodes, redundancy: EC, consistency: "quorum", key: "k" });
    expect(plan.targets.toSorted()).toEqual(["n1", "n3", "n5", "n7", "n8", null]);
    expect(plan.targets.at(-1)).toBe(null);
    expect(plan.spares).toEqual([]);
    expect(plan.quorum).toBe(5);
  });

  test("names the state met and the state wanted when it refuses", () => {
    const nodes = nodesOf("live", "live", "live", "live", "live", "down");
    expect(() => planTargets({ nodes, redundancy: EC, consistency: "all", key: "k" })).toThrow(
      expect.objectContaining({
        code: "placement_impossible",
        retriable: true,
        message: "Cannot place 6 shards: 5 nodes are live, consistency all needs 6; add a node or lower k or m",
      }),
    );
    const few = nodesOf("live");
    expect(() => planTargets({ nodes: few, redundancy: REPLICATION, consistency: "quorum", key: "k" })).toThrow(
      expect.objectContaining({ code: "placement_impossible", retriable: false }),
    );
  });
});
