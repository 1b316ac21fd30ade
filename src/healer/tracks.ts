import type { ControlsWatch } from "../desk/controls-watch.ts";
import { controlOf } from "../desk/healing-ledger.ts";
import type { HealingControls, Track, TrackReport } from "../domain/healing.ts";
import type { BackgroundWork, RunningWork, RunOptions } from "../lib/background-work.ts";
import { runInBackground } from "../lib/background-work.ts";
import type { Throttle } from "../lib/throttle.ts";

/** One track as this process takes part in it. */
export type TrackWork = {
  readonly track: Track;
  /** More than one where several pieces are worked on side by side. */
  readonly works: readonly BackgroundWork[];
  /** What operators may set; null for a track that has nothing to bound. */
  readonly throttle: Throttle | null;
  figures?(): Readonly<Record<string, number>>;
  /** Somebody wants a run now; `runs` counts such wishes. */
  runNow?(runs: number): void;
};

/** Disposing ends all works and waits for the steps under way. */
export type RunningTracks = AsyncDisposable & {
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
  /** Runs asked for before this process began are not its own. */
  #runs: number | null = null;

  constructor(of: TrackWork, options: TracksOptions) {
    this.track = of.track;
    this.#of = of;
    this.#options = options;
    this.#configured = of.throttle?.perSecond ?? null;
    this.#works = of.works.map((work) =>
      runInBackground(work, { ...options, onStep: (_, ...told) => options.onStep?.(of.track, ...told) }),
    );
  }

  apply(controls: HealingControls): void {
    const { paused, bytesPerSecond, runs } = controlOf(controls, this.track);
    this.#isPaused = paused;
    this.#of.throttle?.setRate(bytesPerSecond ?? this.#configured);
    for (const work of this.#works) work.pause(paused);
    if (this.#runs !== null && runs > this.#runs) {
      this.#of.runNow?.(runs);
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
      figures: this.#of.figures?.() ?? {},
    };
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
