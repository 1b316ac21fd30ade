/**
 * Runs the tests: `npm test` all of them, `npm test -- test/unit/placement` some. Besides vitest's verdict a run of all
 * fails when a process is left behind, and under CI when anything was skipped. Whatever the tests put into the
 * temporary directory goes with it.
 */
import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { endLeftovers } from "./leftovers.ts";
import type { SkippedTest } from "./skip-reporter.ts";
import { forgetOutcome, readCounts, REPORT, ROOT, summaryLine, writePassed, writeSummary } from "./test-outcome.ts";

const CI_MINUTES_MAX = 30;

async function main(args: readonly string[]): Promise<number> {
  forgetOutcome();
  const directory = mkdtempSync(join(tmpdir(), "kintsugi-test-"));
  const run = randomUUID();
  try {
    const skippedPath = join(directory, "skipped.json");
    const exitCode = await runVitest(args, {
      TEST_RUN_MARK: run,
      TEST_SKIPPED_FILE: skippedPath,
      TMPDIR: directory,
      DENO_DIR: join(ROOT, ".cache/deno"),
    });
    const leftovers = await endLeftovers(`TEST_RUN_MARK=${run}`);
    for (const { pid, command } of leftovers) console.error(`Left behind by a test, killed now: ${pid} ${command}`);
    if (!existsSync(REPORT)) {
      console.error(`The test runner ended with ${exitCode} and wrote no report`);
      return 1;
    }
    const counts = readCounts();
    const wholeSuite = args.length === 0;
    const skippedInCi = wholeSuite && process.env["CI"] ? readSkipped(skippedPath) : [];
    if (skippedInCi.length > 0) console.error("Nothing may be skipped in CI: install what the reasons above name.");
    const passed = exitCode === 0 && counts.failed === 0 && leftovers.length === 0 && skippedInCi.length === 0;
    console.log(summaryLine(counts));
    writeSummary(counts);
    if (passed && wholeSuite) writePassed(counts);
    return passed ? 0 : 1;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** Resolves with the exit code of vitest, 1 when a signal ended it. */
function runVitest(args: readonly string[], env: Readonly<Record<string, string>>): Promise<number> {
  const vitest = join(ROOT, "test/node_modules/vitest/vitest.mjs");
  const reporters = ["--reporter=default", "--reporter=./test/setup/skip-reporter.ts", "--reporter=json"];
  const child = spawn(
    process.execPath,
    [vitest, "run", "--config=test/vitest.config.ts", ...reporters, `--outputFile.json=${REPORT}`, ...args],
    { cwd: ROOT, stdio: ["ignore", "inherit", "inherit"], env: { ...process.env, ...env } },
  );
  // Ctrl-C reaches vitest by itself; this process stays to clean up behind it.
  process.on("SIGINT", () => {});
  process.on("SIGTERM", () => child.kill("SIGTERM"));
  const stopLate = setTimeout(() => {
    console.error(`The tests took more than ${CI_MINUTES_MAX} minutes: stopping them`);
    child.kill("SIGKILL");
  }, CI_MINUTES_MAX * 60_000);
  if (!process.env["CI"]) clearTimeout(stopLate);
  return new Promise((resolve) => {
    child.on("exit", (code) => {
      clearTimeout(stopLate);
      resolve(code ?? 1);
    });
  });
}

function readSkipped(path: string): SkippedTest[] {
  return existsSync(path) ? (JSON.parse(readFileSync(path, "utf8")) as SkippedTest[]) : [];
}

process.exitCode = await main(process.argv.slice(2));
