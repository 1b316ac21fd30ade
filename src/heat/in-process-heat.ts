import type { Clock } from "../lib/clock.ts";
import type { HeatReporter, HeatReports } from "./heat-reports.ts";
import { ReceivedHeat } from "./heat-reports.ts";

/** Where the process that counts is the one that decides. */
export function createInProcessHeat(clock: Clock, processName: string): HeatReporter & HeatReports {
  const received = new ReceivedHeat(clock);
  return {
    report: (objects) => received.receive({ process: processName, objects }),
    collect: () => received.collect(),
  };
}
