import { spawnSync } from "node:child_process";

/** Why no process can be given a clock of its own here, in words; null when it can. */
export function fakeTimeProblem(): string | null {
  const { status } = spawnSync("faketime", ["-f", "+1h", "true"], { stdio: "ignore" });
  return status === 0 ? null : "faketime is missing: install the package faketime";
}
