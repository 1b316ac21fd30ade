/** What a run of the whole suite came to, kept in `.cache/` for the gate and for CI. */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { treeHash } from "./tree-hash.ts";

export const ROOT = join(import.meta.dirname, "../..");
const CACHE = join(ROOT, ".cache");
const PASSED = join(CACHE, "tests-passed.json");
const SUMMARY = join(CACHE, "tests-summary.txt");
export const REPORT = join(CACHE, "tests-report.json");

export type TestCounts = { readonly passed: number; readonly failed: number; readonly skipped: number };

/** The fields of vitest's JSON report that are used here. */
type Report = {
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly numPendingTests: number;
  readonly numTodoTests: number;
  readonly testResults: readonly {
    readonly status: string;
    readonly assertionResults: readonly { readonly status: string }[];
  }[];
};

/** Forgets the run before, so that nothing of it can be taken for the one that starts now. */
export function forgetOutcome(): void {
  mkdirSync(CACHE, { recursive: true });
  for (const path of [PASSED, SUMMARY, REPORT]) rmSync(path, { force: true });
}

/** Counts from vitest's own report. A file that failed before any of its tests ran counts as one failure. */
export function readCounts(): TestCounts {
  const report = JSON.parse(readFileSync(REPORT, "utf8")) as Report;
  const brokenFiles = report.testResults.filter(
    (file) => file.status === "failed" && !file.assertionResults.some((test) => test.status === "failed"),
  );
  return {
    passed: report.numPassedTests,
    failed: report.numFailedTests + brokenFiles.length,
    skipped: report.numPendingTests + report.numTodoTests,
  };
}

export function summaryLine(counts: TestCounts): string {
  return `tests: ${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`;
}

export function writeSummary(counts: TestCounts): void {
  writeFileSync(SUMMARY, `${summaryLine(counts)}\n`);
}

/** Notes that every test passed on the sources as they are now. */
export function writePassed(counts: TestCounts): void {
  writeFileSync(PASSED, JSON.stringify({ conditions: conditions(), counts }));
}

/** The counts of the last run of the whole suite if it passed on exactly these sources, else null. */
export function readPassed(): TestCounts | null {
  try {
    const passed = JSON.parse(readFileSync(PASSED, "utf8")) as { conditions: string; counts: TestCounts };
    return passed.conditions === conditions() ? passed.counts : null;
  } catch {
    return null; // never run, or cut off while writing
  }
}

/** Under CI more is demanded of the same sources. */
function conditions(): string {
  return `${treeHash(ROOT)} ${process.version} ${process.env["CI"] ? "ci" : "local"}`;
}
