import { describe, expect, it } from "vitest";
import { deadlineIn, remainingMs, withDeadline } from "../../../src/lib/deadline.ts";
import { ManualClock, settle } from "../../support/manual-clock.ts";

const expired = () => new Error("too late");

describe("remainingMs()", () => {
  it("counts down to 0 and not below, by the monotonic clock", () => {
    const clock = new ManualClock();
    const deadline = deadlineIn(clock, 100);
    clock.wallOffsetMs -= 3_600_000;
    expect(remainingMs(clock, deadline)).toBe(100);
    clock.advance(60);
    expect(remainingMs(clock, deadline)).toBe(40);
    clock.advance(60);
    expect(remainingMs(clock, deadline)).toBe(0);
  });
});

describe("withDeadline()", () => {
  it("passes on what the work answers and leaves no timer", async () => {
    const clock = new ManualClock();
    await expect(withDeadline(clock, deadlineIn(clock, 10), Promise.resolve(7), expired)).resolves.toBe(7);
    const failure = new Error("failed");
    await expect(withDeadline(clock, deadlineIn(clock, 10), Promise.reject(failure), expired)).rejects.toBe(failure);
    expect(clock.pendingTimers).toBe(0);
  });

  it("rejects exactly when time is up", async () => {
    const clock = new ManualClock();
    const outcome: string[] = [];
    const never = new Promise<never>(() => {});
    void withDeadline(clock, deadlineIn(clock, 10), never, expired).catch((cause: Error) =>
      outcome.push(cause.message),
    );
    clock.advance(9);
    await settle();
    expect(outcome).toEqual([]);
    clock.advance(1);
    await settle();
    expect(outcome).toEqual(["too late"]);
  });

  it("swallows what comes too late, value or failure", async () => {
    const clock = new ManualClock();
    const value = Promise.withResolvers<number>();
    const failure = Promise.withResolvers<number>();
    const waits = [value, failure].map(({ promise }) => withDeadline(clock, deadlineIn(clock, 10), promise, expired));
    const outcomes = Promise.allSettled(waits);
    clock.advance(10);
    value.resolve(1);
    // An unhandled rejection would fail this test file.
    failure.reject(new Error("late failure"));
    await settle();
    expect((await outcomes).map((outcome) => outcome.status)).toEqual(["rejected", "rejected"]);
  });

  it("shares one deadline among the waits of a chain", async () => {
    const clock = new ManualClock();
    const deadline = deadlineIn(clock, 10);
    const first = Promise.withResolvers<void>();
    const waiting = withDeadline(clock, deadline, first.promise, expired);
    clock.advance(8);
    first.resolve();
    await waiting;
    const second = withDeadline(clock, deadline, new Promise<never>(() => {}), expired);
    const outcome = expect(second).rejects.toThrow("too late");
    clock.advance(2);
    await outcome;
  });
});
