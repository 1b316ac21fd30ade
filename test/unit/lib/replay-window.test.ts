import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ReplayWindow } from "../../../src/lib/replay-window.ts";

describe("ReplayWindow", () => {
  test("admit() takes each number once, in whatever order within the window", () => {
    const window = new ReplayWindow(64);
    const order = [0, 3, 1, 2, 40, 63, 5, 64, 100, 99];
    expect(order.map((number) => window.admit(number))).toEqual(order.map(() => true));
    expect(order.map((number) => window.admit(number))).toEqual(order.map(() => false));
  });

  test("admit() refuses what is behind the window, seen or not", () => {
    const window = new ReplayWindow(64);
    expect(window.admit(200)).toBe(true);
    expect(window.admit(136)).toBe(false);
    expect(window.admit(137)).toBe(true);
    expect(window.admit(2 ** 47)).toBe(true);
    expect(window.admit(2 ** 47 - 63)).toBe(true);
    expect(window.admit(200)).toBe(false);
  });

  test("admit() agrees with a set that forgets nothing", () => {
    const steps = fc.array(fc.oneof(fc.nat(300), fc.nat({ max: 5_000 })), { maxLength: 400 });
    fc.assert(
      fc.property(steps, (numbers) => {
        const window = new ReplayWindow(96);
        const seen = new Set<number>();
        let highest = -1;
        for (const number of numbers) {
          const isNew = !seen.has(number) && number > highest - 96;
          expect(window.admit(number)).toBe(isNew);
          seen.add(number);
          highest = Math.max(highest, number);
        }
      }),
    );
  });
});
