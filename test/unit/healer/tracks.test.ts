import { describe, expect, test } from "vitest";
import { withControl } from "../../../src/desk/healing-ledger.ts";
import type { HealingControls } from "../../../src/domain/healing.ts";
import { runTracks } from "../../../src/healer/tracks.ts";
import type { StepResult } from "../../../src/lib/background-work.ts";
import { silentLogger } from "../../../src/lib/logger.ts";
import { Throttle } from "../../../src/lib/throttle.ts";
import { ManualClock, settle } from "../../support/manual-clock.ts";

/** A scrub of one work that ends its run after so many steps, under controls of the test. */
function startScrub(stepsPerRun = 2) {
  const clock = new ManualClock();
  const throttle = new Throttle(clock, 1_000);
  let controls: HealingControls = {};
  let tell: (controls: HealingControls) => void = () => {};
  let left = 0;
  const seen = { steps: 0, runs: 0 };
  const tracks = runTracks(
    [
      {
        track: "scrub",
        throttle,
        works: [
          {
            name: "scrub",
            progress: () => null,
            async step(): Promise<StepResult> {
              seen.steps += 1;
              if (left === 0) return { state: "idle", againInMs: 1e9 };
              left -= 1;
              return { state: "throttled", againInMs: 1_000 };
            },
          },
        ],
        figures: () => ({ cellsBad: 3 }),
        runNow() {
          seen.runs += 1;
          left = stepsPerRun;
        },
      },
    ],
    {
      ...{ clock, logger: silentLogger, processName: "n1" },
      controls: {
        watch(listener) {
          tell = listener;
          listener(controls);
          return () => (tell = () => {});
        },
      },
    },
  );
  const set = async (change: Parameters<typeof withControl>[2]) => {
    tell((controls = withControl(controls, "scrub", change)));
    await settle();
  };
  const pass = async (ms: number) => {
    await settle();
    clock.advance(ms);
    await settle();
  };
  return {
    tracks,
    throttle,
    seen,
    set,
    pass,
    report: () => tracks.reports()[0],
    tell: (c: HealingControls) => tell(c),
  };
}

describe("runTracks()", () => {
  test("throttles a track as operators say, and as configured when they take it back", async () => {
    const { tracks, throttle, set, report } = startScrub();
    await set({ bytesPerSecond: 64 });
    expect([throttle.perSecond, report()?.bytesPerSecondMax]).toEqual([64, 64]);
    await set({ bytesPerSecond: 0 });
    expect(throttle.perSecond).toBe(0);
    await set({ bytesPerSecond: null });
    expect(throttle.perSecond).toBe(1_000);
    await tracks[Symbol.asyncDispose]();
  });

  test("pauses a track and lets it go on", async () => {
    const { tracks, seen, set, pass, report } = startScrub();
    await pass(0);
    await set({ paused: true });
    const { steps } = seen;
    tracks.wake("scrub");
    await pass(60_000);
    expect([seen.steps, report()?.state, report()?.paused]).toEqual([steps, "paused", true]);
    await set({ paused: false });
    expect(seen.steps).toBe(steps + 1);
    await tracks[Symbol.asyncDispose]();
  });

  test("runs at once when urged, and tells when that run has ended", async () => {
    const { tracks, seen, set, pass, report } = startScrub();
    await pass(0);
    await set({ runs: 1 });
    expect([seen.runs, report()?.figures]).toEqual([1, { cellsBad: 3, runs: 0 }]);
    await pass(1_000);
    expect(report()?.figures["runs"]).toBe(0);
    await pass(1_000);
    expect(report()?.figures["runs"]).toBe(1);
    await set({ bytesPerSecond: 5 });
    expect(seen.runs, "only a risen counter urges").toBe(1);
    await tracks[Symbol.asyncDispose]();
  });

  test("takes wishes from before it began for fulfilled", async () => {
    const { tracks, seen, set, pass } = startScrub();
    await set({ runs: 1 });
    await pass(5_000);
    await tracks[Symbol.asyncDispose]();
    const again = startScrub();
    await again.pass(0);
    expect([seen.runs, again.seen.runs]).toEqual([1, 0]);
    await again.tracks[Symbol.asyncDispose]();
  });

  test("listens to nobody once it is disposed", async () => {
    const { tracks, throttle, set } = startScrub();
    await tracks[Symbol.asyncDispose]();
    await set({ bytesPerSecond: 1 });
    expect(throttle.perSecond).toBe(1_000);
  });
});
