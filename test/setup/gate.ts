/**
 * The gate, `npm run ok`: format, lint, types, unused exports, tests; the same locally and in CI. When every test has
 * already passed on exactly these sources, that result stands and the tests are not run a second time.
 */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { runStep, SOURCE_STEPS } from "./check-sources.ts";
import { installFolder } from "./install-folder.ts";
import { findUnusedExports } from "./unused-exports.ts";
import { readPassed, ROOT, summaryLine } from "./test-outcome.ts";

function main(): number {
  // The benchmark is checked like everything else, and its types come with its packages.
  installFolder(join(ROOT, "bench"));
  const failed = SOURCE_STEPS.filter((step) => {
    console.log(`— ${step.name}`);
    return !runStep(step, ROOT);
  }).map((step) => step.name);
  console.log("— unused exports");
  const unused = findUnusedExports(ROOT);
  for (const { file, name } of unused) console.error(`${file}: nothing imports "${name}": drop the export`);
  if (unused.length > 0) failed.push("unused exports");
  console.log("— tests");
  if (!testsPass()) failed.push("tests");
  console.log(failed.length === 0 ? "ok" : `not ok: ${failed.join(", ")}`);
  return failed.length === 0 ? 0 : 1;
}

function testsPass(): boolean {
  const passed = readPassed();
  if (passed) {
    console.log(`These very sources have passed already; ${summaryLine(passed)}`);
    return true;
  }
  const result = spawnSync(process.execPath, [join(ROOT, "test/setup/run-tests.ts")], {
    stdio: ["ignore", "inherit", "inherit"],
  });
  return result.status === 0;
}

process.exitCode = main();
