import { describe, expect, test } from "vitest";
import { RequestLane, type LaneSettings } from "../../../src/lib/request-lane.ts";
import { ManualClock, settle } from "../../support/manual-clock.ts";

const SETTINGS: LaneSettings = { inFlightMax: 2, slowMs: 100, requestsMax: 4, itemsMax: 5, bytesTarget: 100 };

function openLane(settings: Partial<LaneSettings> = {}) {
  const clock = new ManualClock();
  const sent: { items: number[]; answer: () => void }[] = [];
  const lane = new RequestLane<number>(clock, { ...SETTINGS, ...settings }, (items) => {
    const { promise, resolve } = Promise.withResolvers<void>();
    sent.push({ items, answer: resolve });
    return promise;
  });
  return { clock, lane, sent, batches: () => sent.map(({ items }) => items.join()) };
}

describe("RequestLane", () => {
  test("add() sends a lone item at once, and what comes in the same turn with it", async () => {
    const { lane, batches } = openLane();
    lane.add(1, 1);
    await settle();
    expect(batches()).toEqual(["1"]);
    lane.add(2, 1);
    lane.add(3, 1);
    await settle();
    expect(batches()).toEqual(["1", "2,3"]);
  });

  test("add() lets items wait while two requests are under way, then sends them together", async () => {
    const { lane, sent, batches } = openLane();
    for (const item of [1, 2, 3, 4]) {
      lane.add(item, 1);
      await settle();
    }
    expect(batches()).toEqual(["1", "2"]);
    sent[1]?.answer();
    await settle();
    expect(batches()).toEqual(["1", "2", "3,4"]);
  });

  test("a shared request keeps its place for a while after it was answered, a lone one does not", async () => {
    const { clock, lane, sent, batches } = openLane({ inFlightMax: 1 });
    lane.add(1, 1);
    lane.add(2, 1);
    await settle();
    lane.add(3, 1);
    clock.advance(8);
    sent[0]?.answer();
    await settle();
    expect(batches()).toEqual(["1,2"]);
    clock.advance(8);
    await settle();
    expect(batches()).toEqual(["1,2", "3"]);
    lane.add(4, 1);
    clock.advance(8);
    sent[1]?.answer();
    await settle();
    expect(batches()).toEqual(["1,2", "3", "4"]);
  });

  test("add() closes a batch by items and by bytes", async () => {
    const { lane, batches } = openLane({ inFlightMax: 9, requestsMax: 9 });
    for (let item = 1; item <= 7; item += 1) lane.add(item, 1);
    for (const item of [8, 9, 10]) lane.add(item, 99);
    await settle();
    expect(batches()).toEqual(["1,2,3,4,5", "6,7,8", "9,10"]);
  });

  test("a slow request gives its place up, within bounds", async () => {
    const { clock, lane, sent, batches } = openLane({ inFlightMax: 1, requestsMax: 3 });
    for (const item of [1, 2, 3, 4]) {
      lane.add(item, 1);
      await settle();
      clock.advance(100);
      await settle();
    }
    expect(batches()).toEqual(["1", "2", "3"]);
    sent[0]?.answer();
    await settle();
    expect(batches()).toEqual(["1", "2", "3", "4"]);
    for (const { answer } of sent) answer();
    await settle();
    expect(clock.pendingTimers).toBe(0);
  });

  test("withdraw() takes out what has not been sent", async () => {
    const { lane, sent, batches } = openLane({ inFlightMax: 1 });
    const first = lane.add(1, 1);
    await settle();
    const second = lane.add(2, 1);
    lane.add(3, 1);
    expect(lane.withdraw(first)).toBe(false);
    expect(lane.withdraw(second)).toBe(true);
    expect(lane.withdraw(second)).toBe(false);
    expect(lane.length).toBe(1);
    sent[0]?.answer();
    await settle();
    expect(batches()).toEqual(["1", "3"]);
    expect(lane.withdraw(second)).toBe(false);
  });
});
