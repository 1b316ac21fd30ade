import { describe, expect, test, vi } from "vitest";
import { ProgressWatch } from "../../../src/runtime/progress-watch.ts";
import { ManualClock } from "../../support/manual-clock.ts";

const LIMITS = { bytesPerSecondMin: 1_000, windowMs: 30_000, stallMs: 60_000 };

function start(limits = LIMITS) {
  const clock = new ManualClock();
  return { clock, watch: new ProgressWatch(clock, limits), onSlow: vi.fn<() => void>() };
}

describe("ProgressWatch.watchUpload()", () => {
  test("cuts off a client that sends less than the minimum over a window", () => {
    const { clock, watch, onSlow } = start();
    const transfer = watch.watchUpload(onSlow);
    for (let second = 0; second < 29; second += 1) {
      expect(onSlow).not.toHaveBeenCalled();
      transfer.beginWait();
      clock.advance(1_000);
      transfer.moved(900);
    }
    transfer.beginWait();
    clock.advance(2_000);
    expect(onSlow).toHaveBeenCalledTimes(1);
    expect(watch.size).toBe(0);
    clock.advance(100_000);
    expect(onSlow).toHaveBeenCalledTimes(1);
  });

  test("lets a client that keeps the minimum go on for ever", () => {
    const { clock, watch, onSlow } = start();
    const transfer = watch.watchUpload(onSlow);
    for (let second = 0; second < 1_000; second += 1) {
      transfer.beginWait();
      clock.advance(1_000);
      transfer.moved(1_100);
    }
    expect(onSlow).not.toHaveBeenCalled();
  });

  test("blames no client while the store is the one that waits", () => {
    const { clock, watch, onSlow } = start();
    const transfer = watch.watchUpload(onSlow);
    transfer.beginWait();
    transfer.moved(1);
    clock.advance(1_000_000);
    expect(onSlow).not.toHaveBeenCalled();
  });

  test("measures each window anew, so that a fast start buys no time", () => {
    const { clock, watch, onSlow } = start();
    const transfer = watch.watchUpload(onSlow);
    transfer.beginWait();
    transfer.moved(1_000_000_000);
    transfer.beginWait();
    clock.advance(31_000);
    expect(onSlow).not.toHaveBeenCalled();
    clock.advance(31_000);
    expect(onSlow).toHaveBeenCalledTimes(1);
  });

  test("waits for ever with a minimum of 0, and needs no timer for it", () => {
    const { clock, watch, onSlow } = start({ ...LIMITS, bytesPerSecondMin: 0 });
    watch.watchUpload(onSlow).beginWait();
    expect(clock.pendingTimers).toBe(0);
    clock.advance(1_000_000);
    expect(onSlow).not.toHaveBeenCalled();
  });

  test("runs one timer for all transfers and none without any", () => {
    const { clock, watch, onSlow } = start();
    const transfers = [1, 2, 3].map(() => watch.watchUpload(onSlow));
    expect(clock.pendingTimers).toBe(1);
    for (const transfer of transfers) transfer.end();
    clock.advance(1_000);
    expect(clock.pendingTimers).toBe(0);
  });
});

describe("ProgressWatch.watchDownload()", () => {
  test("cuts off a client that leaves one write untaken for the stall time", () => {
    const { clock, watch, onSlow } = start();
    const transfer = watch.watchDownload(onSlow);
    transfer.beginWait();
    clock.advance(59_000);
    transfer.moved(1);
    transfer.beginWait();
    clock.advance(59_000);
    expect(onSlow).not.toHaveBeenCalled();
    clock.advance(1_000);
    expect(onSlow).toHaveBeenCalledTimes(1);
  });
});
