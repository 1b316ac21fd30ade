import type { HeatReport, ObjectHeat } from "../domain/heat.ts";
import type { Clock } from "../lib/clock.ts";

/** What a process that counts reads tells with. */
export type HeatReporter = {
  /**
   * Tells which objects this process finds hot; replaces what it told before, and is forgotten when it is not told again
   * for a while. Sent in passing: it may be lost, and never fails.
   */
  report(objects: readonly ObjectHeat[]): void;
};

/** What those who decide about copies know. */
export type HeatReports = {
  /** The latest report of every process that has told lately. Each counts its own reads: they add up. */
  collect(): readonly HeatReport[];
};

/** How often a process tells. */
export const HEAT_REPORT_MS = 5_000;
/** How long its word stands: it may miss two. */
const REPORT_AGE_MS_MAX = 3 * HEAT_REPORT_MS;

/** The reports that have arrived, each for as long as it stands. */
export class ReceivedHeat implements HeatReports {
  readonly #clock: Clock;
  readonly #latest = new Map<string, { readonly report: HeatReport; readonly atMs: number }>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  receive(report: HeatReport): void {
    this.#latest.set(report.process, { report, atMs: this.#clock.monotonicMs() });
  }

  collect(): readonly HeatReport[] {
    const sinceMs = this.#clock.monotonicMs() - REPORT_AGE_MS_MAX;
    for (const [process, { atMs }] of this.#latest) if (atMs < sinceMs) this.#latest.delete(process);
    return [...this.#latest.values()].map(({ report }) => report);
  }
}
