/**
 * Lists what was skipped and why, at the end where people look, and hands the same list to `run-tests.ts` as a file:
 * vitest's own JSON report counts skipped tests but leaves out their reasons.
 */
import { writeFileSync } from "node:fs";
import type { Reporter, TestModule } from "vitest/node";

export type SkippedTest = { readonly file: string; readonly name: string; readonly reason: string };

const NO_REASON = "no reason given: skip with context.skip(reason)";

export default class SkipReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    const skipped = modules.flatMap(skippedIn);
    const path = process.env["KINTSUGI_TEST_SKIPPED"];
    if (path) writeFileSync(path, JSON.stringify(skipped));
    if (skipped.length === 0) return;
    console.log("\nSkipped:");
    for (const { file, name, reason } of skipped) console.log(`  ${file} > ${name}\n    ${reason}`);
  }
}

function skippedIn(module: TestModule): SkippedTest[] {
  return [...module.children.allTests("skipped")].map((test) => ({
    file: module.relativeModuleId,
    name: test.fullName,
    reason: skipNote(test.result()) ?? NO_REASON,
  }));
}

function skipNote(result: object): string | null {
  return "note" in result && typeof result.note === "string" ? result.note : null;
}
