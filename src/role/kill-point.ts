import type { FaultPoint, FaultPoints } from "../lib/fault-points.ts";
import { noFaultPoints } from "../lib/fault-points.ts";

/**
 * A test may have this process killed, for real and without a chance to tidy up, when a write reaches a named step:
 * `put.committed`, or `put.cell-sent:4` for the fourth time.
 */
export function killingFaultPoints(killAt: string | null): FaultPoints {
  if (killAt === null) return noFaultPoints;
  const [wanted, times] = killAt.split(":") as [FaultPoint, string | undefined];
  let left = Number(times ?? 1);
  return {
    reach(point) {
      if (point !== wanted) return;
      left -= 1;
      if (left === 0) process.kill(process.pid, "SIGKILL");
    },
  };
}
