/**
 * Lists what was skipped and why, at the end where people look, and hands the same list to `run-tests.ts` as a file:
 * vitest's own JSON report counts skipped tests but leaves out their reasons.
 */
import { writeFileSync } from "node:fs";
import type { Reporter, TestCase, TestModule, Vitest } from "vitest/node";

export type SkippedTest = { readonly file: string; readonly name: string; readonly reason: string };

const NO_REASON = "no reason given: skip with context.skip(reason)";
const SET_UP_FAILED = "the set-up of its suite failed";

export default class SkipReporter implements Reporter {
  #filtered = false;

  onInit(vitest: Vitest): void {
    this.#filtered = vitest.config.testNamePattern !== undefined;
  }

  onTestRunEnd(modules: readonly TestModule[]): void {
    // Tests that a name on the command line did not choose count as skipped too; nobody needs to hear of those.
    const skipped = modules.flatMap(skippedIn).filter(({ reason }) => !this.#filtered || reason !== NO_REASON);
    const path = process.env["TEST_SKIPPED_FILE"];
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
    reason: reasonOf(test),
  }));
}

function reasonOf(test: TestCase): string {
  const result = test.result();
  if ("note" in result && typeof result.note === "string") return result.note;
  for (let suite = test.parent; ; suite = suite.parent) {
    if (suite.errors().length > 0) return SET_UP_FAILED;
    if (suite.type === "module") return NO_REASON;
  }
}
