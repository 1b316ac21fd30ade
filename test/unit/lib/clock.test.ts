import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { systemClock } from "../../../src/lib/clock.ts";

const CLOCK = join(import.meta.dirname, "../../../src/lib/clock.ts");

describe("systemClock", () => {
  it("wallMs() is the time of day and monotonicMs() never goes backwards", () => {
    expect(Math.abs(systemClock.wallMs() - Date.now())).toBeLessThan(60_000);
    let last = systemClock.monotonicMs();
    for (let draw = 0; draw < 1_000; draw += 1) {
      const now = systemClock.monotonicMs();
      expect(now).toBeGreaterThanOrEqual(last);
      last = now;
    }
  });

  it("startTimer() runs its action once, and never after cancel()", async () => {
    const runs: string[] = [];
    const cancelled = systemClock.startTimer(1, () => runs.push("cancelled"));
    cancelled.cancel();
    cancelled.cancel();
    await new Promise<void>((resolve) => {
      systemClock.startTimer(5, () => {
        runs.push("kept");
        resolve();
      });
    });
    expect(runs).toEqual(["kept"]);
  });

  it("startTimer() does not keep the process alive", () => {
    const script = `import { systemClock } from ${JSON.stringify(CLOCK)}; systemClock.startTimer(3_600_000, () => {});`;
    execFileSync(process.execPath, ["--input-type=module", "-e", script], { timeout: 20_000 });
  });

  it("sleep() ends at once when its signal aborts or has aborted", async () => {
    const abort = new AbortController();
    const sleeping = systemClock.sleep(3_600_000, abort.signal);
    abort.abort();
    await sleeping;
    await systemClock.sleep(3_600_000, abort.signal);
    await systemClock.sleep(1, new AbortController().signal);
    await systemClock.sleep(1);
  });
});
