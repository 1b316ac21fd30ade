import { describe, expect, it } from "vitest";
import { Alarms } from "../../../src/lib/alarms.ts";
import { ManualClock, settle } from "../../support/manual-clock.ts";

function open() {
  const clock = new ManualClock();
  const alarms = new Alarms(clock);
  const rung: string[] = [];
  const set = (name: string, delayMs: number) => alarms.set(delayMs, () => void rung.push(name));
  const pass = async (ms: number) => {
    clock.advance(ms);
    await settle();
    await settle();
  };
  return { clock, rung, set, pass };
}

describe("Alarms", () => {
  it("set() runs each action once, not before its time, whatever was set before or after it", async () => {
    const { rung, set, pass } = open();
    set("late", 30);
    set("early", 10);
    set("middle", 20);
    await pass(9);
    expect(rung).toEqual([]);
    await pass(1);
    expect(rung).toEqual(["early"]);
    await pass(10);
    expect(rung).toEqual(["early", "middle"]);
    await pass(100);
    expect(rung).toEqual(["early", "middle", "late"]);
  });

  it("set() arms one timer for many waits, and none once they are over", async () => {
    const { clock, rung, set, pass } = open();
    const timers = Array.from({ length: 100 }, (_, index) => set(String(index), 10 + index));
    expect(clock.pendingTimers).toBe(1);
    for (const timer of timers) timer.cancel();
    await pass(10);
    expect([rung, clock.pendingTimers]).toEqual([[], 0]);
  });

  it("set() lets what has arrived be heard first: an answer that cancels in the same turn is in time", async () => {
    const { clock, rung, set } = open();
    const timer = set("hedge", 10);
    setImmediate(() => timer.cancel());
    clock.advance(50);
    await settle();
    await settle();
    expect(rung).toEqual([]);
  });
});
