import { describe, expect, test } from "vitest";
import { parseNodeName } from "../../../src/domain/ids.ts";
import type { NodeInfo } from "../../../src/domain/node-info.ts";
import { rankNodes } from "../../../src/placement/rank-nodes.ts";

function nodeOf(name: string, place: string, weight = 1): NodeInfo {
  const [region, zone] = place.split("/") as [string, string];
  return { name: parseNodeName(name), state: "live", region, zone, weight };
}

describe("rankNodes()", () => {
  test("never changes its answer: blobs are looked for where they were put", () => {
    const nodes = ["n1", "n2", "n3", "n4", "n5", "n6"].map((name) => nodeOf(name, "r/z"));
    const orders = ["photos/a.jpg", "telemetry/dev-1", "温度"].map((key) =>
      rankNodes(nodes, key).map((node) => node.name),
    );
    expect(orders).toMatchInlineSnapshot(`
      [
        [
          "n1",
          "n4",
          "n3",
          "n6",
          "n5",
          "n2",
        ],
        [
          "n5",
          "n2",
          "n3",
          "n1",
          "n4",
          "n6",
        ],
        [
          "n5",
          "n2",
          "n4",
          "n3",
          "n1",
          "n6",
        ],
      ]
    `);
  });

  test("gives each node first place in proportion to its weight", () => {
    const nodes = [nodeOf("n1", "r/z", 1), nodeOf("n2", "r/z", 1), nodeOf("n3", "r/z", 2)];
    const wins = new Map<string, number>();
    for (let i = 0; i < 20_000; i += 1) {
      const first = rankNodes(nodes, `bucket/key-${i}`)[0] as NodeInfo;
      wins.set(first.name, (wins.get(first.name) ?? 0) + 1);
    }
    expect((wins.get("n1") ?? 0) / 20_000).toBeCloseTo(0.25, 1);
    expect((wins.get("n2") ?? 0) / 20_000).toBeCloseTo(0.25, 1);
    expect((wins.get("n3") ?? 0) / 20_000).toBeCloseTo(0.5, 1);
  });

  test("takes one node of each region before a second of any, and a second from another zone", () => {
    const nodes = [
      nodeOf("a1", "eu/1"),
      nodeOf("a2", "eu/1"),
      nodeOf("a3", "eu/2"),
      nodeOf("b1", "us/1"),
      nodeOf("b2", "us/2"),
      nodeOf("c1", "ap/1"),
    ];
    for (let i = 0; i < 200; i += 1) {
      const ranked = rankNodes(nodes, `k${i}`);
      expect(new Set(ranked.slice(0, 3).map((node) => node.region)).size).toBe(3);
      const zones = ranked.slice(0, 5).map((node) => `${node.region}/${node.zone}`);
      expect(new Set(zones).size).toBe(5);
    }
  });

  test("tells domains apart whose joined names are equal", () => {
    const nodes = [nodeOf("n1", "r/z"), nodeOf("n2", "r/z"), nodeOf("n3", "r/z")];
    expect(rankNodes(nodes, "").length).toBe(3);
    expect(rankNodes([], "k")).toEqual([]);
  });
});
