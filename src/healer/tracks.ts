import type { ControlsWatch } from "../desk/controls-watch.ts";
import { controlOf } from "../desk/healing-ledger.ts";
import type { HealingControls, Track, TrackReport } from "../domain/healing.ts";
import type { BackgroundWork, RunningWork, RunOptions } from "../lib/background-work.ts";
import { runInBackground } from "../lib/background-work.ts";
import type { Throttle } from "../lib/throttle.ts";

type StepOutcome = Parameters<NonNullable<RunOptions["onStep"]>>[1];

/** One track as this process takes part in it. */
export type TrackWork = {
  readonly track: Track;
  /** More than one where several pieces are worked on side by side. */
  readonly works: readonly BackgroundWork[];
  /** What operators may set; null for a track that has nothing to bound. */
  readonly throttle: Throttle | null;
  figures?(): Readonly<Record<string, number>>;
  /** Somebody wants a run now, whatever its schedule says: the next step may not be idle before that run has ended. */
  runNow?(): void;
};

/** Disposing ends all works and waits for the steps under way. */
export type RunningTracks = AsyncDisposable & {
  /** Of each track, with `runs` among the figures: the last run asked for that has ended. */
  reports(): readonly TrackReport[];
  wake(track: Track): void;
};

export type TracksOptions = RunOptions & {
  readonly processName: string;
  readonly controls: Pick<ControlsWatch, "watch">;
};

/** Works on the tracks until disposed, as operators want it: they may pause, throttle and urge each at any time. */
export function runTracks(tracks: readonly TrackWork[], options: TracksOptions): RunningTracks {
  const running = tracks.map((track) => new RunningTrack(track, options));
  const unwatch = options.controls.watch((controls) => {
    for (const track of running) track.apply(controls);
  });
  return {
    reports: () => running.map((track) => track.report()),
    wake: (name) => running.filter((one) => one.track === name).forEach((one) => one.wake()),
    async [Symbol.asyncDispose]() {
      unwatch();
      await Promise.all(running.map((track) => track.end()));
    },
  };
}

class RunningTrack {
  readonly track: Track;
  readonly #of: TrackWork;
  readonly #options: TracksOptions;
  readonly #works: readonly RunningWork[];
  /** Bytes per second that hold where operators have set nothing. */
  readonly #configured: number | null;
  #isPaused = false;
  /** The last run that was asked for, and when; those from before this process began are not its own. */
  #runs: number | null = null;
  #askedAtMs = Number.NEGATIVE_INFINITY;
  #runsEnded = 0;

  constructor(of: TrackWork, options: TracksOptions) {
    this.track = of.track;
    this.#of = of;
    this.#options = options;
    this.#configured = of.throttle?.perSecond ?? null;
    this.#works = of.works.map((work) =>
      runInBackground(work, { ...options, onStep: (_, outcome, elapsedMs) => this.#onStep(outcome, elapsedMs) }),
    );
  }

  apply(controls: HealingControls): void {
    const { paused, bytesPerSecond, runs } = controlOf(controls, this.track);
    this.#isPaused = paused;
    this.#of.throttle?.setRate(bytesPerSecond ?? this.#configured);
    for (const work of this.#works) work.pause(paused);
    if (this.#runs === null) this.#runsEnded = runs;
    else if (runs > this.#runs) {
      this.#askedAtMs = this.#options.clock.monotonicMs();
      this.#of.runNow?.();
      this.wake();
    }
    this.#runs = runs;
  }

  wake(): void {
    for (const work of this.#works) work.wake();
  }

  report(): TrackReport {
    const statuses = this.#works.map((work) => work.status());
    // Of several that work side by side the busiest speaks for all.
    const [told] = statuses.toSorted((a, b) => STATE_ORDER.indexOf(a.state) - STATE_ORDER.indexOf(b.state));
    const sum = (of: "stepCount" | "failureCount") => statuses.reduce((total, status) => total + status[of], 0);
    return {
      ...(told ?? NOTHING),
      name: this.track,
      stepCount: sum("stepCount"),
      failureCount: sum("failureCount"),
      track: this.track,
      process: this.#options.processName,
      bytesPerSecondMax: this.#of.throttle?.perSecond ?? null,
      paused: this.#isPaused,
      figures: { ...this.#of.figures?.(), runs: this.#runsEnded },
    };
  }

  /** A run ends where a step that began after it was asked for finds nothing more to do. */
  #onStep(outcome: StepOutcome, elapsedMs: number): void {
    const { clock, onStep } = this.#options;
    if (outcome === "idle" && clock.monotonicMs() - elapsedMs >= this.#askedAtMs) this.#runsEnded = this.#runs ?? 0;
    onStep?.(this.track, outcome, elapsedMs);
  }

  async end(): Promise<void> {
    await Promise.all(this.#works.map((work) => work[Symbol.asyncDispose]()));
  }
}

const STATE_ORDER: readonly TrackReport["state"][] = ["failing", "busy", "throttled", "paused", "idle"];
const NOTHING: Pick<TrackReport, "state" | "progress" | "failure" | "lastStepAgoMs"> = {
  state: "idle",
  progress: null,
  failure: null,
  lastStepAgoMs: null,
};
