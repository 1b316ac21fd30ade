import { describe, expect, test } from "vitest";
import { CommitBatch } from "../../../src/blob/commit-batch.ts";
import { FreeSpace } from "../../../src/blob/free-space.ts";
import { StoreError } from "../../../src/domain/errors.ts";
import type { Clock } from "../../../src/lib/clock.ts";
import { systemClock } from "../../../src/lib/clock.ts";

/** A clock that the test moves; timers fire when their time is reached. */
function createManualClock(): Clock & { advance(ms: number): void; readonly timerCount: number } {
  let nowMs = 0;
  let timers: { atMs: number; action: () => void }[] = [];
  return {
    ...systemClock,
    monotonicMs: () => nowMs,
    startTimer(delayMs, action) {
      const timer = { atMs: nowMs + delayMs, action };
      timers.push(timer);
      return { cancel: () => (timers = timers.filter((other) => other !== timer)) };
    },
    advance(ms) {
      nowMs += ms;
      for (
        let due = timers.find((t) => t.atMs <= nowMs);
        due !== undefined;
        due = timers.find((t) => t.atMs <= nowMs)
      ) {
        const { action } = due;
        timers = timers.filter((timer) => timer !== due);
        action();
      }
    },
    get timerCount() {
      return timers.length;
    },
  };
}

const late = () => new StoreError("deadline_exceeded", "late");
const outcome = (work: Promise<void>) =>
  work.then(
    () => "ok",
    (cause: StoreError) => cause.code,
  );

describe("CommitBatch", () => {
  test("wait() ends each caller at its own deadline and the others when the batch settles", async () => {
    const clock = createManualClock();
    const batch = new CommitBatch(clock, 1_000, () => {});
    const waits = [300, 100, 200].map((atMs) => outcome(batch.wait({ atMs }, late)));
    clock.advance(100);
    expect(await waits[1]).toBe("deadline_exceeded");
    clock.advance(150);
    expect(await waits[2]).toBe("deadline_exceeded");
    batch.settle(null);
    expect(await waits[0]).toBe("ok");
    expect(clock.timerCount).toBe(0);
    expect(await outcome(batch.wait({ atMs: 0 }, late))).toBe("ok");
  });

  test("settle() with a failure reaches who waits and who comes later, once", async () => {
    const batch = new CommitBatch(createManualClock(), 1_000, () => {});
    const wait = outcome(batch.wait({ atMs: 500 }, late));
    batch.settle(new StoreError("node_fenced", "broken"));
    batch.settle(null);
    expect(await wait).toBe("node_fenced");
    expect(await outcome(batch.wait({ atMs: 500 }, late))).toBe("node_fenced");
  });

  test("a batch that never settles is told as stalled, once", async () => {
    const clock = createManualClock();
    let stalls = 0;
    const batch = new CommitBatch(clock, 1_000, () => (stalls += 1));
    const wait = outcome(batch.wait({ atMs: 5_000 }, late));
    clock.advance(999);
    expect(stalls).toBe(0);
    clock.advance(1);
    expect(stalls).toBe(1);
    clock.advance(10_000);
    expect(stalls).toBe(1);
    batch.settle(new StoreError("node_fenced", "stalled"));
    expect(await wait).toBe("node_fenced");
  });
});

describe("FreeSpace", () => {
  test("isShort() counts what is in flight, and what settled until the disk was looked at again", () => {
    const clock = createManualClock();
    let freeBytes = 1_000;
    let probes = 0;
    const space = new FreeSpace(clock, 100, () => ((probes += 1), freeBytes));
    expect(space.isShort(900)).toBe(false);
    expect(space.isShort(901)).toBe(true);
    space.begin(500);
    expect(space.isShort(400)).toBe(false);
    expect(space.isShort(401)).toBe(true);
    space.settle(500);
    expect(space.isShort(401)).toBe(true);
    expect(probes).toBe(1);
    freeBytes = 700;
    clock.advance(200);
    expect(space.isShort(600)).toBe(false);
    expect(space.isShort(601)).toBe(true);
    expect(probes).toBe(2);
  });
});
