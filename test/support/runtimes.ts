/** Where the three runtimes are. All of them come from npm, so that everyone tests with the same versions. */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";

export const RUNTIMES = ["node", "bun", "deno"] as const;
export type Runtime = (typeof RUNTIMES)[number];

const INSTALLED = join(import.meta.dirname, "../node_modules");

/** The program itself, not a script around it: its process id is the one to measure and to kill. */
export function runtimeBinary(runtime: Runtime): string {
  const suffix = process.platform === "win32" ? ".exe" : "";
  switch (runtime) {
    case "node":
      return process.execPath;
    case "bun":
      return join(INSTALLED, "bun/bin/bun.exe");
    case "deno":
      return join(INSTALLED, `deno/deno${suffix}`);
  }
}

/** What comes before the path of a script on the command line. */
export function runtimeArgs(runtime: Runtime): readonly string[] {
  return runtime === "deno" ? ["run", "-A", "--no-prompt"] : [];
}

/** The version a runtime tells, or null when it does not run here. */
export function runtimeVersion(runtime: Runtime): string | null {
  const binary = runtimeBinary(runtime);
  if (!existsSync(binary)) return null;
  const result = spawnSync(binary, ["--version"], { encoding: "utf8" });
  return result.status === 0 ? (/\d+\.\d+\.\d+/.exec(result.stdout)?.[0] ?? null) : null;
}

/** Why a runtime cannot be used and what to do about it; null when it runs. */
export function runtimeProblem(runtime: Runtime): string | null {
  if (runtimeVersion(runtime) !== null) return null;
  return (
    `${runtime} does not run: its install script fetches the program and probably was not allowed to. ` +
    `Try "npm rebuild --prefix test --ignore-scripts=false ${runtime}", or delete test/node_modules and start again.`
  );
}
