/** The quick half of the gate: formatting, lint and types. Each step is a command of a tool in `test/node_modules`. */
import { spawnSync } from "node:child_process";
import { join } from "node:path";

export type GateStep = { readonly name: string; readonly script: string; readonly args: readonly string[] };

const TOOLS = join(import.meta.dirname, "../node_modules");
/** The linter looks for its type-aware half in the working directory's own node_modules, which is not where it is. */
const TYPE_AWARE_LINTER = join(TOOLS, ".bin/tsgolint");

export const SOURCE_STEPS: readonly GateStep[] = [
  { name: "format", script: "oxfmt/bin/oxfmt", args: ["--check", "."] },
  { name: "lint", script: "oxlint/bin/oxlint", args: ["--type-aware", "--deny-warnings", "."] },
  { name: "types", script: "typescript/bin/tsc", args: ["-p", "."] },
];

/** Runs one tool of `test/node_modules` in `directory`; its output goes to the terminal. Answers whether it was content. */
export function runStep(step: GateStep, directory: string): boolean {
  const result = spawnSync(process.execPath, [join(TOOLS, step.script), ...step.args], {
    cwd: directory,
    stdio: ["ignore", "inherit", "inherit"],
    env: { ...process.env, OXLINT_TSGOLINT_PATH: TYPE_AWARE_LINTER },
  });
  return result.status === 0;
}
