import { describe, expect, test } from "vitest";
import type { BackgroundWork, StepResult } from "../../../src/lib/background-work.ts";
import { runInBackground } from "../../../src/lib/background-work.ts";
import { silentLogger } from "../../../src/lib/logger.ts";
import { ManualClock, settle } from "../../support/manual-clock.ts";

type Step = StepResult | Error;

const BUSY: Step = { state: "busy" };
const idle = (againInMs: number): Step => ({ state: "idle", againInMs });

/** A work whose steps end as told, and are idle for ever after; `steps` counts them. */
function startWork(outcomes: readonly Step[], more: Partial<BackgroundWork> = {}) {
  const clock = new ManualClock();
  const told: string[] = [];
  const seen = { steps: 0 };
  const work: BackgroundWork = {
    name: "sweep",
    async step() {
      const outcome = outcomes[seen.steps] ?? idle(1e12);
      seen.steps += 1;
      if (outcome instanceof Error) throw outcome;
      return outcome;
    },
    progress: () => null,
    ...more,
  };
  const running = runInBackground(work, { clock, logger: silentLogger, onStep: (_, outcome) => told.push(outcome) });
  const pass = async (ms: number) => {
    await settle();
    clock.advance(ms);
    await settle();
  };
  return { clock, running, seen, told, pass };
}

describe("runInBackground()", () => {
  test("goes on at once while there is more, and rests when there is nothing", async () => {
    const { running, seen, pass, clock, told } = startWork([BUSY, BUSY, idle(500)]);
    for (let turn = 0; turn < 5; turn += 1) await pass(0);
    expect([seen.steps, running.status().state]).toEqual([3, "idle"]);
    await pass(499);
    expect(seen.steps).toBe(3);
    await pass(1);
    expect(seen.steps).toBe(4);
    expect(told).toEqual(["busy", "busy", "idle", "idle"]);
    await running[Symbol.asyncDispose]();
    expect(clock.pendingTimers).toBe(0);
  });

  test("wakes an idle work, also one that is woken during its step", async () => {
    const { promise: more, resolve: goOn } = Promise.withResolvers<void>();
    let steps = 0;
    const { running } = startWork([], {
      async step() {
        steps += 1;
        if (steps === 2) await more;
        return { state: "idle", againInMs: 1_000 };
      },
    });
    await settle();
    running.wake();
    await settle();
    expect(steps).toBe(2);
    running.wake();
    goOn();
    await settle();
    expect(steps).toBe(3);
    await running[Symbol.asyncDispose]();
  });

  test("takes no step while it is paused, and one at once when it goes on", async () => {
    const { running, seen, pass } = startWork([idle(10), idle(10)]);
    await pass(0);
    running.pause(true);
    await pass(60_000);
    running.wake();
    await pass(60_000);
    expect([seen.steps, running.status().state]).toEqual([1, "paused"]);
    running.pause(false);
    await pass(0);
    expect(seen.steps).toBe(2);
    await running[Symbol.asyncDispose]();
  });

  test("tries again after failures, ever more slowly, and tells of the last until a step succeeds", async () => {
    const failures = Array.from({ length: 8 }, () => new Error("no answer"));
    const { running, seen, pass, told } = startWork(failures);
    await pass(0);
    expect(running.status()).toMatchObject({ state: "failing", failure: "no answer", failureCount: 1, stepCount: 1 });
    const pauses: number[] = [];
    while (seen.steps < 9) {
      const before = seen.steps;
      let waitedMs = 0;
      for (; seen.steps === before; waitedMs += 500) await pass(500);
      pauses.push(waitedMs);
    }
    expect(pauses).toEqual([500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
    expect(running.status()).toMatchObject({ state: "idle", failure: null, failureCount: 8, stepCount: 9 });
    expect(told.filter((outcome) => outcome === "failed")).toHaveLength(8);
    await running[Symbol.asyncDispose]();
  });

  test("looks again in time after a rest that no timer could wait for", async () => {
    const { running, seen, pass } = startWork([idle(365 * 86_400_000)]);
    await pass(3_600_000);
    expect(seen.steps).toBe(2);
    await running[Symbol.asyncDispose]();
  });

  test("ends the step under way when disposed and waits for it", async () => {
    const events: string[] = [];
    const { running } = startWork([], {
      step: (signal) =>
        new Promise((resolve) => {
          signal.addEventListener("abort", () => {
            events.push("aborted");
            setImmediate(() => {
              events.push("ended");
              resolve({ state: "idle", againInMs: 0 });
            });
          });
        }),
    });
    await settle();
    await running[Symbol.asyncDispose]();
    expect(events).toEqual(["aborted", "ended"]);
  });

  test("does not count what its own end broke as a failure", async () => {
    const { running } = startWork([], {
      step: (signal) =>
        new Promise((_, reject) => signal.addEventListener("abort", () => reject(new Error("stopped in the middle")))),
    });
    await settle();
    await running[Symbol.asyncDispose]();
    expect(running.status()).toMatchObject({ failure: null, failureCount: 0 });
  });
});
