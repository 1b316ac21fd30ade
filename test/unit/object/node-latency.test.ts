import { beforeEach, describe, expect, it } from "vitest";
import type { NodeName } from "../../../src/domain/ids.ts";
import { NodeLatency } from "../../../src/object/node-latency.ts";
import { ManualClock } from "../../support/manual-clock.ts";

const [n1, n2] = ["n1", "n2"] as [NodeName, NodeName];
const SMALL = 1_000;
const LARGE = 1_000_000;

let clock: ManualClock;
let latency: NodeLatency;

beforeEach(() => {
  clock = new ManualClock();
  latency = new NodeLatency(clock);
});

function answer(node: NodeName, cellBytes: number, tookMs: number, times = 100): void {
  for (let count = 0; count < times; count += 1) latency.noteAnswer(node, cellBytes, tookMs);
}

describe("NodeLatency", () => {
  it("hedgeDelayMs() begins with a guess, then follows the slowest twentieth of each node and size", () => {
    expect(latency.hedgeDelayMs(n1, SMALL)).toBe(50);
    answer(n1, SMALL, 1, 15);
    expect(latency.hedgeDelayMs(n1, SMALL), "too little to learn from").toBe(50);
    for (let count = 0; count < 200; count += 1) answer(n1, SMALL, count % 10 === 0 ? 30 : 1, 1);
    expect(latency.hedgeDelayMs(n1, SMALL)).toBeGreaterThanOrEqual(30);
    expect(latency.hedgeDelayMs(n1, SMALL)).toBeLessThan(36);
    expect(latency.hedgeDelayMs(n1, LARGE)).toBe(50);
    expect(latency.hedgeDelayMs(n2, SMALL)).toBe(50);
  });

  it("hedgeDelayMs() stays within bounds whatever was learnt", () => {
    answer(n1, SMALL, 0.1);
    expect(latency.hedgeDelayMs(n1, SMALL)).toBe(10);
    answer(n1, LARGE, 9_000);
    expect(latency.hedgeDelayMs(n1, LARGE)).toBe(1_000);
  });

  it("hedgeDelayMs() learns from cells that were given up that waits are longer, as long as some answer", () => {
    for (let count = 0; count < 100; count += 1) {
      latency.noteAnswer(n1, SMALL, 5);
      latency.noteGivenUp(n1, SMALL, 200);
    }
    expect(latency.hedgeDelayMs(n1, SMALL)).toBeGreaterThanOrEqual(200);
  });

  it("typicalMs() is the middle, and is forgotten after a minute without news", () => {
    expect(latency.typicalMs(n1, SMALL)).toBeNull();
    answer(n1, SMALL, 8);
    answer(n1, SMALL, 900, 20);
    expect(latency.typicalMs(n1, SMALL)).toBe(8);
    clock.advance(59_999);
    expect(latency.typicalMs(n1, SMALL)).toBe(8);
    clock.advance(1);
    expect(latency.typicalMs(n1, SMALL)).toBeNull();
  });

  it("standingOf() avoids a node after three misses running, and lets one question through after each pause", () => {
    latency.noteGivenUp(n1, SMALL, 60);
    latency.noteGivenUp(n1, SMALL, 60);
    answer(n1, SMALL, 5, 1);
    latency.noteGivenUp(n1, SMALL, 60);
    latency.noteGivenUp(n1, LARGE, 60);
    expect(latency.standingOf(n1), "an answer between them").toBe("usual");
    latency.noteGivenUp(n1, SMALL, 60);
    // Many cells that were on their way together are one incident.
    for (let count = 0; count < 50; count += 1) latency.noteGivenUp(n1, SMALL, 60);
    expect(latency.standingOf(n1)).toBe("avoided");
    expect(latency.standingOf(n2)).toBe("usual");
    for (const pauseMs of [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]) {
      clock.advance(pauseMs - 1);
      expect(latency.standingOf(n1)).toBe("avoided");
      clock.advance(1);
      expect(latency.standingOf(n1)).toBe("on_trial");
      latency.noteAsked(n1);
      expect(latency.standingOf(n1), "one at a time").toBe("avoided");
      latency.noteGivenUp(n1, SMALL, 60);
    }
    answer(n1, SMALL, 5, 1);
    expect(latency.standingOf(n1)).toBe("usual");
  });

  it("hedgeDelayMs() of a node on trial is no longer than the guess, however long it hung before", () => {
    for (let count = 0; count < 100; count += 1) latency.noteGivenUp(n1, SMALL, 5_000);
    expect(latency.hedgeDelayMs(n1, SMALL)).toBe(50);
  });
});
