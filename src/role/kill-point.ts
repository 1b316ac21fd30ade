import type { FaultPoint, FaultPoints } from "../lib/fault-points.ts";
import { noFaultPoints } from "../lib/fault-points.ts";

/**
 * A test may have this process killed, for real and without a chance to tidy up, when a write reaches a named step:
 * `put.committed`, or `put.cell-sent:4` for the fourth time. With `/stop` behind it the process is stopped instead, as
 * one that hangs: the test makes it go on.
 */
export function killingFaultPoints(killAt: string | null): FaultPoints {
  if (killAt === null) return noFaultPoints;
  const [place = "", action] = killAt.split("/");
  const [wanted, times] = place.split(":") as [FaultPoint, string | undefined];
  const signal = action === "stop" ? "SIGSTOP" : "SIGKILL";
  let left = Number(times ?? 1);
  return {
    reach(point) {
      if (point !== wanted) return;
      left -= 1;
      if (left === 0) process.kill(process.pid, signal);
    },
  };
}
