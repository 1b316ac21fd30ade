/** Brings in what only the tests and the gate need: vitest, the linter, Bun and Deno. First step of `npm test`. */
import { join } from "node:path";
import { installFolder } from "./install-folder.ts";
import { installSystemTools } from "./system-tools.ts";
import { RUNTIMES, runtimeProblem } from "../support/runtimes.ts";

const TEST = join(import.meta.dirname, "..");

function main(): void {
  try {
    installFolder(TEST);
  } catch (cause) {
    console.error((cause as Error).message);
    process.exit(1);
  }
  const runtimeProblems = RUNTIMES.map(runtimeProblem).filter((problem) => problem !== null);
  const problems = [...runtimeProblems, ...installSystemTools()];
  if (problems.length === 0) return;
  for (const problem of problems) console.error(problem);
  if (process.env["CI"]) {
    console.error("CI is set, where nothing is skipped for a missing tool: giving up.");
    process.exit(1);
  }
  console.error("Going on without: the tests that need it are skipped and listed at the end.");
}

main();
