import { describe, expect, test } from "vitest";
import { Throttle } from "../../../src/lib/throttle.ts";
import { ManualClock, settle } from "../../support/manual-clock.ts";

/** A throttle under a clock of the test; `taken` names what was let through, in that order. */
function openThrottle(perSecond: number | null) {
  const clock = new ManualClock();
  const throttle = new Throttle(clock, perSecond);
  const taken: string[] = [];
  const take = (name: string, units: number, signal?: AbortSignal) =>
    void throttle.take(units, signal).then(() => taken.push(name));
  const pass = async (ms: number) => {
    await settle();
    for (let left = ms; left > 0; left -= Math.min(left, 1_000)) {
      clock.advance(Math.min(left, 1_000));
      await settle();
    }
  };
  return { clock, throttle, taken, take, pass };
}

describe("Throttle", () => {
  test("lets no more through than its rate allows, in the order of the calls", async () => {
    const { clock, take, taken, pass } = openThrottle(100);
    for (let n = 0; n < 50; n += 1) take(`${n}`, 50);
    await pass(10_000);
    // A burst is what one call may overdraw.
    expect(taken.length).toBeGreaterThanOrEqual(20);
    expect(taken.length).toBeLessThanOrEqual(21);
    expect(taken).toEqual(taken.map((_, n) => `${n}`));
    await pass(20_000);
    expect(taken).toHaveLength(50);
    await settle();
    expect(clock.pendingTimers).toBe(0);
  });

  test("lets more than a second's worth through in one go, and makes up for it before the next", async () => {
    const { take, taken, pass } = openThrottle(100);
    take("large", 1_000);
    take("next", 1);
    await pass(1_000);
    expect(taken).toEqual(["large"]);
    await pass(8_000);
    expect(taken).toEqual(["large"]);
    await pass(2_000);
    expect(taken).toEqual(["large", "next"]);
  });

  test("saves up no more than a second's worth while nobody takes any", async () => {
    const { take, taken, pass } = openThrottle(100);
    await pass(3_600_000);
    for (let n = 0; n < 50; n += 1) take(`${n}`, 10);
    await pass(0);
    await settle();
    expect(taken.length).toBeLessThanOrEqual(11);
  });

  test.each([
    ["a higher rate", 1_000_000],
    ["no bound", null],
  ])("tells those who wait of %s at once", async (_, rate) => {
    const { throttle, take, taken, pass } = openThrottle(1);
    take("first", 1_000_000);
    take("second", 1);
    await pass(2_000);
    expect(taken).toEqual(["first"]);
    throttle.setRate(rate);
    expect(throttle.perSecond).toBe(rate);
    await pass(2_000);
    expect(taken).toEqual(["first", "second"]);
  });

  test("stops everything at a rate of 0 until it is raised", async () => {
    const { throttle, take, taken, pass } = openThrottle(0);
    take("one", 1);
    await pass(10_000);
    expect(taken).toEqual([]);
    throttle.setRate(10);
    await pass(1_000);
    expect(taken).toEqual(["one"]);
  });

  test("lets go of who gave up, without counting what was not used", async () => {
    const { take, taken, pass } = openThrottle(1);
    const stop = new AbortController();
    await pass(1_000);
    take("overdraws", 10);
    take("gives up", 1_000_000, stop.signal);
    take("waits", 1);
    await pass(1_000);
    stop.abort();
    await pass(0);
    expect(taken).toEqual(["overdraws", "gives up"]);
    await pass(11_000);
    expect(taken).toEqual(["overdraws", "gives up", "waits"]);
  });
});
