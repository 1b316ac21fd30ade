import { describe, expect, test } from "vitest";
import { AttendedClock } from "../../../src/membership/attended-clock.ts";
import { ManualClock } from "../../support/manual-clock.ts";

describe("AttendedClock", () => {
  test("nowMs() runs while something arrives", () => {
    const clock = new ManualClock();
    const attended = new AttendedClock(clock, 2_000);
    for (let beat = 1; beat <= 10; beat += 1) {
      clock.advance(1_000);
      attended.arrive();
    }
    expect(attended.nowMs()).toBe(10_000);
    expect(attended.isDeaf()).toBe(false);
  });

  test("nowMs() stands still when nothing arrives for too long, and goes on from there", () => {
    const clock = new ManualClock();
    const attended = new AttendedClock(clock, 2_000);
    clock.advance(500);
    attended.arrive();
    clock.advance(2_001);
    expect(attended.isDeaf()).toBe(true);
    clock.advance(60_000);
    expect(attended.nowMs()).toBe(2_500);
    attended.arrive();
    expect(attended.isDeaf()).toBe(false);
    clock.advance(700);
    expect(attended.nowMs()).toBe(3_200);
  });
});
