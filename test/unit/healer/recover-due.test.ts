import { describe, expect, it } from "vitest";
import type { ProcessInfo } from "../../../src/domain/node-info.ts";
import { isDue } from "../../../src/healer/recover-due.ts";
import { sampleIntent } from "../../support/sample-records.ts";

const BOUNDS = { writerGoneMs: 5_000, writerThereMs: 120_000 };

function process(name: string, state: ProcessInfo["state"], uptimeMs: number, silentMs = 0): ProcessInfo {
  const place = { instance: "1", address: null, region: "r", zone: "z", version: "1", load: {} };
  return { name, role: "gateway", state, uptimeMs, silentMs, ...place };
}

/** From which age on an intent of g1 is looked at. */
function dueFrom(processes: readonly ProcessInfo[], writer = "g1"): number {
  const intent = sampleIntent(1, { writer });
  const due = [0, 4_999, 5_000, 30_000, 119_999, 120_000].filter((ageMs) =>
    isDue({ sequence: 1, intent, ageMs }, processes, BOUNDS),
  );
  return due[0] as number;
}

describe("isDue()", () => {
  const long = 1_000_000;
  const cases = [
    ["waits long for a writer that runs", [process("g1", "live", long)], 120_000],
    ["waits long for a writer that is silent for a moment", [process("g1", "suspect", long, 4_000)], 120_000],
    ["waits a little for a writer that is down", [process("g1", "down", long, 9_000)], 5_000],
    ["waits a little for a writer that nobody knows", [process("g2", "live", long)], 5_000],
    ["takes a process that began after the intent for another one", [process("g1", "live", 3_000)], 5_000],
    ["counts the silence of a process to its time", [process("g1", "live", 3_000, 26_500)], 119_999],
  ] as const;
  for (const [name, processes, ageMs] of cases) {
    it(name, () => expect(dueFrom(processes)).toBe(ageMs));
  }

  it("waits a little for an intent of no writer", () => {
    expect(dueFrom([process("g1", "live", long)], "")).toBe(5_000);
  });
});
