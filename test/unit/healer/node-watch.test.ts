import { describe, expect, test } from "vitest";
import type { NodeName } from "../../../src/domain/ids.ts";
import type { NodeInfo, ProcessInfo } from "../../../src/domain/node-info.ts";
import type { NodeMemories, NodeSight } from "../../../src/healer/node-watch.ts";
import { sightsOf, watchNodes } from "../../../src/healer/node-watch.ts";

const REBUILD_AFTER_MS = 60_000;

/**
 * What a leader sees at which second, a line each: `4s n1:a n2:-` is node n1 in its start `a`, and n2 away. What it makes
 * of it stands behind the arrow.
 */
function play(transcript: string): string {
  let memories: NodeMemories = {};
  let beforeMs = 0;
  const lines = transcript.trim().split("\n");
  return lines
    .map((line) => {
      const [seen = ""] = line.trim().split(/ *->/);
      const [second = "", ...nodes] = seen.split(" ");
      const nowMs = Number.parseInt(second, 10) * 1_000;
      const watch = watchNodes(memories, nodes.map(sight), nowMs - beforeMs, REBUILD_AFTER_MS);
      beforeMs = nowMs;
      ({ memories } = watch);
      const told = watch.events.map(({ kind, node, awayMs }) => `${node} ${kind} after ${awayMs / 1_000}s`);
      return `${seen} -> ${told.join(", ")}`.trimEnd();
    })
    .join("\n");
}

function sight(text: string): NodeSight {
  const [name = "", instance = ""] = text.split(":");
  return { name: name as NodeName, instance, isThere: instance !== "-", blobCount: 10 };
}

function expectPlay(transcript: string): void {
  const wanted = transcript
    .trim()
    .split("\n")
    .map((line) => line.trim())
    .join("\n");
  expect(play(transcript)).toBe(wanted);
}

describe("watchNodes()", () => {
  test("takes what it has never seen as it is", () =>
    expectPlay(`
      0s n1:a n2:- ->
      1s n1:a n2:- ->
    `));

  test("tells a node that was away and is there again, and how long it was", () =>
    expectPlay(`
      0s n1:a ->
      5s n1:- ->
      9s n1:- ->
      12s n1:a -> n1 returned after 4s
      13s n1:a ->
    `));

  test("tells a node that was started anew, though nobody saw it away", () =>
    expectPlay(`
      0s n1:a n2:a ->
      1s n1:b n2:a -> n1 returned after 0s
      2s n1:b n2:a ->
    `));

  test("gives up a node that is away too long, once, and welcomes it all the same", () =>
    expectPlay(`
      0s n1:a ->
      10s n1:- ->
      69s n1:- ->
      70s n1:- -> n1 lost after 60s
      300s n1:- ->
      301s n1:b -> n1 returned after 290s
      302s n1:b ->
    `));

  test("begins to count anew with each absence", () =>
    expectPlay(`
      0s n1:a ->
      1s n1:- ->
      41s n1:a -> n1 returned after 0s
      42s n1:- ->
      82s n1:- ->
      101s n1:- ->
      102s n1:- -> n1 lost after 60s
    `));

  test("forgets a node that is none any more", () =>
    expectPlay(`
      0s n1:a n2:a ->
      1s n2:a ->
      2s n1:b n2:a ->
    `));

  test("goes on counting where a leader before it has stopped", () => {
    const away = { instance: "a", blobCount: 7, awayMs: 59_500, isLost: false, isUnverified: false };
    const { memories, events } = watchNodes({ ["n1" as NodeName]: away }, [sight("n1:-")], 500, REBUILD_AFTER_MS);
    expect(events).toEqual([{ kind: "lost", node: "n1", awayMs: 60_000 }]);
    expect(memories["n1" as NodeName]).toEqual({ ...away, awayMs: 60_000, isLost: true });
  });

  test("remembers what a node held when it went until somebody has verified it", () => {
    const n1 = "n1" as NodeName;
    const there = { name: n1, instance: "a", isThere: true, blobCount: 500 };
    const step = (before: NodeMemories, now: NodeSight) => watchNodes(before, [now], 1_000, REBUILD_AFTER_MS).memories;
    const away = step(step({}, there), { ...there, isThere: false, blobCount: null });
    // It came back wiped.
    const back = step(away, { ...there, instance: "b", blobCount: 0 });
    expect(back[n1]).toMatchObject({ blobCount: 500, isUnverified: true });
    const verified = { [n1]: { ...back[n1]!, isUnverified: false } };
    expect(step(verified, { ...there, instance: "b", blobCount: 3 })[n1]).toMatchObject({ blobCount: 3 });
  });
});

describe("sightsOf()", () => {
  const node = (state: NodeInfo["state"]): NodeInfo => ({
    ...{ name: "n1" as NodeName, state, region: "r", zone: "z", weight: 1 },
  });
  const process = (state: ProcessInfo["state"]): ProcessInfo => ({
    ...{ name: "n1", role: "node", instance: "a", state, address: null, region: "r", zone: "z", version: "1" },
    ...{ silentMs: 0, uptimeMs: 1, load: { blobCount: 5 } },
  });

  test("goes by silence: requests that failed make nobody absent", () => {
    expect(sightsOf([node("down")], [process("live")])).toMatchObject([{ isThere: true, blobCount: 5 }]);
    expect(sightsOf([node("down")], [process("suspect")])).toMatchObject([{ isThere: true }]);
    expect(sightsOf([node("down")], [process("down")])).toMatchObject([{ isThere: false }]);
  });

  test("goes by the state where there are no processes", () => {
    const there = (["live", "full", "draining", "suspect", "fenced", "down", "gone"] as const).filter(
      (state) => sightsOf([node(state)], [])[0]?.isThere,
    );
    expect(there).toEqual(["live", "full", "draining", "suspect"]);
  });
});
