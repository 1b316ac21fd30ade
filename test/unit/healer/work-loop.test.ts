import { Registry } from "prom-client";
import { describe, expect, test } from "vitest";
import { StoreError } from "../../../src/domain/errors.ts";
import type { Work } from "../../../src/domain/work.ts";
import type { Executors, WorkContext, WorkOutcome } from "../../../src/healer/work-executor.ts";
import { createWorkLoop, laterMs } from "../../../src/healer/work-loop.ts";
import { createWorkLoopMetrics } from "../../../src/healer/work-metrics.ts";
import { silentLogger } from "../../../src/lib/logger.ts";
import { createMemoryWorkQueue } from "../../../src/work/memory-work-queue.ts";
import { LEASE_MS } from "../../../src/work/work-queue.ts";
import { ManualClock, settle } from "../../support/manual-clock.ts";
import { ANY_TIME } from "../../support/memory-store.ts";
import { BUCKET, keyOf } from "../../support/store.ts";

const mend = (key: string): Work => ({
  ...{ kind: "mend", urgency: 1, reason: "dirty", suspects: [] },
  ...{ bucket: BUCKET, key: keyOf(key) },
});

/** Its process may be stopped: time goes by, and no timer runs. */
class SleepyClock extends ManualClock {
  sleptMs = 0;

  override monotonicMs(): number {
    return super.monotonicMs() + this.sleptMs;
  }
}

function open(executor: (work: Work, context: WorkContext) => Promise<WorkOutcome>, parallel = 1) {
  const clock = new SleepyClock();
  const queue = createMemoryWorkQueue({ clock });
  const executors: Executors = {
    ...{
      mend: executor,
      identify: executor,
      move: executor,
      collect: executor,
      bury: executor,
      keep_record: executor,
      heat: executor,
    },
  };
  const metrics = createWorkLoopMetrics(new Registry());
  const loop = createWorkLoop({ clock, logger: silentLogger, queue, executors, metrics }, parallel);
  const stopping = new AbortController();
  const waiting = async () => (await queue.depth(ANY_TIME)).byUrgency.reduce((sum, count) => sum + count, 0);
  const step = () => loop.works[0]!.step(stopping.signal);
  return { clock, queue, loop, stopping, waiting, step };
}

describe("createWorkLoop()", () => {
  test("does what waits, settles it and counts it by kind", async () => {
    const { queue, loop, waiting, step } = open(async () => ({ outcome: "done", bytes: 100 }));
    await queue.add(mend("a"), ANY_TIME);
    await queue.add(mend("b"), ANY_TIME);
    expect(await step()).toEqual({ state: "busy" });
    expect(await step()).toEqual({ state: "busy" });
    expect(await waiting()).toBe(0);
    expect(loop.figures()).toMatchObject({ mendDone: 2, mendBytes: 200, failedCount: 0 });
    expect(loop.mendedCount()).toBe(2);
  });

  test("tries again later what could not be done, and what failed, and goes on with the rest", async () => {
    const done: string[] = [];
    const { clock, queue, loop, waiting, step } = open(async (work, _) => {
      if (work.kind !== "mend") throw new Error("mends");
      const isFirst = !done.includes(work.key);
      done.push(work.key);
      if (isFirst && work.key === "fails") throw new StoreError("node_unavailable", "gone", { retriable: true });
      if (isFirst && work.key === "broken") throw new Error("a bug");
      return isFirst && work.key === "waits"
        ? { outcome: "later", inMs: 1_000, reason: "a node is away" }
        : { outcome: "done", bytes: 0 };
    });
    for (const key of ["fails", "broken", "waits", "plain"]) await queue.add(mend(key), ANY_TIME);
    for (let n = 0; n < 4; n += 1) await step();
    expect(done).toEqual(["fails", "broken", "waits", "plain"]);
    expect(loop.figures()).toMatchObject({ mendDone: 1, laterCount: 1, failedCount: 2 });
    expect(await waiting()).toBe(3);
    clock.advance(60_000);
    for (let n = 0; n < 3; n += 1) await step();
    expect(await waiting()).toBe(0);
  });

  test("keeps a piece for as long as it is at it", async () => {
    let finish = (_: WorkOutcome) => {};
    const { clock, queue, waiting, step } = open(() => new Promise((resolve) => (finish = resolve)));
    await queue.add(mend("long"), ANY_TIME);
    const working = step();
    await settle();
    for (let n = 0; n < 20; n += 1) {
      clock.advance(LEASE_MS / 4);
      await settle();
      expect(await queue.take(0, new AbortController().signal)).toBeNull();
    }
    finish({ outcome: "done", bytes: 0 });
    await working;
    expect(await waiting()).toBe(0);
  });

  test("tells an executor that slept through its lease to change nothing any more", async () => {
    const { clock, queue, step } = open(async (_, { signal }) => {
      await new Promise((resolve) => signal.addEventListener("abort", resolve));
      return { outcome: "later", inMs: 0, reason: "stopped on the way" };
    });
    await queue.add(mend("slept"), ANY_TIME);
    const working = step();
    await settle();
    clock.sleptMs = 2 * LEASE_MS;
    clock.advance(LEASE_MS);
    expect(await working).toEqual({ state: "busy" });
  });

  test("leaves to others at once what the end of its process cut short", async () => {
    const { queue, stopping, step } = open(async (_, { signal }) => {
      await new Promise((resolve) => signal.addEventListener("abort", resolve));
      throw new StoreError("shutting_down", "stopped", { retriable: true });
    });
    await queue.add(mend("cut"), ANY_TIME);
    const working = step();
    await settle();
    stopping.abort();
    await working;
    expect(await queue.take(0, new AbortController().signal)).toMatchObject({ work: { key: "cut" }, attempt: 2 });
  });
});

describe("laterMs()", () => {
  test("grows with the attempts, from what was asked for up to a bound", () => {
    const delays = Array.from({ length: 60 }, (_, attempt) => laterMs(1_000, attempt + 1, 8));
    expect(delays.slice(0, 10)).toEqual([...Array.from({ length: 8 }, () => 1_000), 2_000, 4_000]);
    expect(delays).toEqual([...delays].sort((a, b) => a - b));
    expect(delays.at(-1)).toBe(delays.at(-2));
  });
});
