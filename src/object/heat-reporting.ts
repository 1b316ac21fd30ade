import { HEAT_OBJECTS_MAX } from "../domain/heat.ts";
import type { HeatReporter } from "../heat/heat-reports.ts";
import { HEAT_REPORT_MS } from "../heat/heat-reports.ts";
import type { Clock } from "../lib/clock.ts";
import type { ReadHeat } from "./read-heat.ts";

export type HeatReportingDeps = {
  readonly clock: Clock;
  readonly heat: ReadHeat;
  readonly reporter: HeatReporter;
  /** Reads in the window below which an object is not worth a word, as the other processes read it too. */
  readonly readsMin: number;
};

/** Tells again and again, also that nothing is hot, until it is disposed. */
export function startHeatReporting({ clock, heat, reporter, readsMin }: HeatReportingDeps): Disposable {
  let timer = clock.startTimer(HEAT_REPORT_MS, tell);
  function tell(): void {
    reporter.report(heat.hottest(readsMin, HEAT_OBJECTS_MAX));
    timer = clock.startTimer(HEAT_REPORT_MS, tell);
  }
  return { [Symbol.dispose]: () => timer.cancel() };
}
