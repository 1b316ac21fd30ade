import type { Registry } from "prom-client";
import { Counter, Gauge } from "prom-client";
import type { TrackReport } from "../domain/healing.ts";
import type { RunOptions } from "../lib/background-work.ts";

const STATES: readonly TrackReport["state"][] = ["busy", "idle", "throttled", "paused", "failing"];

/** What a process tells of its tracks. Registered once per process; `reports` is asked at every scrape. */
export function createTrackMetrics(registry: Registry, reports: () => readonly TrackReport[]) {
  const registers = [registry];
  const steps = new Counter({
    name: "kintsugi_track_steps_total",
    help: "Steps of background work, by track and how they ended",
    labelNames: ["track", "outcome"] as const,
    registers,
  });
  const busy = new Counter({
    name: "kintsugi_track_busy_seconds_total",
    help: "Time spent in steps of background work, waits for throttles included",
    labelNames: ["track"] as const,
    registers,
  });
  const state: Gauge<"track" | "state"> = new Gauge({
    name: "kintsugi_track_state",
    help: "1 for the state that a track of this process is in",
    labelNames: ["track", "state"] as const,
    registers,
    collect() {
      state.reset();
      for (const report of reports()) {
        for (const each of STATES) state.set({ track: report.track, state: each }, each === report.state ? 1 : 0);
      }
    },
  });
  const figure: Gauge<"track" | "figure"> = new Gauge({
    name: "kintsugi_track_figure",
    help: "Figures that a track of this process tells of itself",
    labelNames: ["track", "figure"] as const,
    registers,
    collect() {
      figure.reset();
      for (const { track, figures } of reports()) {
        for (const [name, value] of Object.entries(figures)) figure.set({ track, figure: name }, value);
      }
    },
  });
  const onStep: NonNullable<RunOptions["onStep"]> = (track, outcome, elapsedMs) => {
    steps.inc({ track, outcome });
    // A step that found nothing to do has mostly waited for it.
    if (outcome !== "idle") busy.inc({ track }, elapsedMs / 1_000);
  };
  return { onStep };
}
