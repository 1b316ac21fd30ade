import { beforeEach, describe, expect, it } from "vitest";
import type { NodeName } from "../../../src/domain/ids.ts";
import type { BlobSet, Redundancy } from "../../../src/domain/manifest.ts";
import type { NodeState } from "../../../src/domain/node-info.ts";
import { createStaticMembership } from "../../../src/membership/static-membership.ts";
import type { ObjectDeps } from "../../../src/object/deps.ts";
import { chooseShards } from "../../../src/object/shard-choice.ts";
import type { MemoryStore } from "../../support/memory-store.ts";
import { NODE_NAMES, openMemoryStore } from "../../support/memory-store.ts";
import { sampleTxid } from "../../support/sample-records.ts";

const EC: Redundancy = { scheme: "ec", k: 4, m: 2 };
const COPIES: Redundancy = { scheme: "replication", copies: 3 };

type Place = { readonly state?: NodeState; readonly region?: string; readonly zone?: string };

let store: MemoryStore;

beforeEach(() => {
  store = openMemoryStore();
});

function setOf(redundancy: Redundancy): BlobSet {
  const nodes = redundancy.scheme === "ec" ? NODE_NAMES : NODE_NAMES.slice(0, 3);
  return { txid: sampleTxid(1), part: "body", sizeBytes: 1e6, cellBytes: 1_000, redundancy, nodes };
}

function orderOf(redundancy: Redundancy, places: readonly Place[] = [], more: Partial<ObjectDeps> = {}): number[] {
  const infos = NODE_NAMES.map((name, at) => {
    const { state = "live", region = "r", zone = "z" } = places[at] ?? {};
    return { name, state, region, zone, weight: 1 };
  });
  const deps = { ...store.deps, membership: createStaticMembership(infos), ...more };
  const choice = chooseShards(deps, setOf(redundancy), 1_000);
  const order: number[] = [];
  for (let next = choice.next(() => false, true); next !== null;) {
    order.push(next);
    next = choice.next((shard) => order.includes(shard), true);
  }
  return order;
}

function learn(node: number, tookMs: number): void {
  for (let count = 0; count < 32; count += 1) {
    store.deps.latency.noteAnswer(NODE_NAMES[node] as NodeName, 1_000, tookMs);
  }
}

describe("chooseShards()", () => {
  it("asks data shards before parity where nodes are alike", () => {
    expect(orderOf(EC)).toEqual([0, 1, 2, 3, 4, 5]);
  });

  it("asks live, full and draining nodes first, suspect ones then, and all others last", () => {
    const states: NodeState[] = ["suspect", "down", "full", "fenced", "draining", "live"];
    expect(
      orderOf(
        EC,
        states.map((state) => ({ state })),
      ),
    ).toEqual([2, 4, 5, 0, 1, 3]);
    const deps = { ...store.deps, membership: createStaticMembership([]) };
    const choice = chooseShards(deps, setOf(COPIES), 1_000);
    expect(
      choice.next(() => false, false),
      "nobody knows these nodes",
    ).toBeNull();
    expect(choice.next(() => false, true)).not.toBeNull();
  });

  it("asks its own region before others, even for parity, and its own zone before others for the same kind of shard", () => {
    const places = [
      { region: "far", zone: "a" },
      { zone: "b" },
      { zone: "a" },
      { zone: "b" },
      { zone: "a" },
      { region: "far", zone: "a" },
    ];
    const locality = { region: "r", zone: "a" };
    expect(orderOf(EC, places, { locality })).toEqual([2, 1, 3, 4, 0, 5]);
    expect(orderOf(EC, places, { locality: null })).toEqual([0, 1, 2, 3, 4, 5]);
    expect(orderOf(COPIES, places, { locality })).toEqual([2, 1, 0]);
  });

  it("spreads the first question over equal replicas, and leaves out only those that are much slower", () => {
    learn(0, 2);
    learn(1, 3);
    learn(2, 200);
    const firsts = new Set<number>();
    for (let turn = 0; turn < 3; turn += 1) {
      const order = orderOf(COPIES, [], { random: { next: () => turn / 3, bytes: () => new Uint8Array(0) } });
      firsts.add(order[0] as number);
      expect(order[2]).toBe(2);
    }
    expect(firsts).toEqual(new Set([0, 1]));
  });

  it("asks parity instead of a data shard whose node is much slower than the others", () => {
    for (const node of [0, 2, 3, 4, 5]) learn(node, 3);
    learn(1, 100);
    expect(orderOf(EC)).toEqual([0, 2, 3, 4, 5, 1]);
  });

  it("asks a node last that kept failing to answer, and first again when its pause is over, whatever was learnt", () => {
    for (const node of [1, 2, 3, 4, 5]) learn(node, 3);
    for (let count = 0; count < 20; count += 1) {
      store.deps.latency.noteGivenUp(NODE_NAMES[0] as NodeName, 1_000, 500);
    }
    expect(orderOf(EC)).toEqual([1, 2, 3, 4, 5, 0]);
    store.clock.advance(1_000);
    expect(orderOf(EC)).toEqual([0, 1, 2, 3, 4, 5]);
    store.deps.latency.noteAsked(NODE_NAMES[0] as NodeName);
    expect(orderOf(EC), "the one before is to find out").toEqual([1, 2, 3, 4, 5, 0]);
  });

  it("remembers within a transfer what failed and what came too late", () => {
    const choice = chooseShards(store.deps, setOf(EC), 1_000);
    choice.noteLate(0);
    choice.noteFailed(1);
    expect([0, 1, 2].map((shard) => choice.isPreferred(shard))).toEqual([false, false, true]);
    const order: number[] = [];
    for (let count = 0; count < 5; count += 1) {
      order.push(choice.next((shard) => order.includes(shard), true) as number);
    }
    expect(order).toEqual([2, 3, 4, 5, 0]);
    expect(choice.next((shard) => order.includes(shard), true)).toBeNull();
  });
});
