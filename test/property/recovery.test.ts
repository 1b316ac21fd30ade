/**
 * Random interleavings of writers, healers, outages, sleeps and deaths. Every call between processes is a message that
 * arrives when the tape says so, perhaps long after its sender has given up. The tape is one fast-check value.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { isCleanUp } from "../../src/healer/recover-plan.ts";
import type { ModelReport } from "../support/model-writer.ts";
import type { RecoveryWorld } from "../support/recovery-world.ts";
import { RecoveryRun, Tape } from "../support/recovery-run.ts";

const RUNS = 400;
const tapes = fc.array(fc.nat({ max: 2 ** 16 }), { minLength: 200, maxLength: 900, size: "max" });

describe("recovery", () => {
  it("keeps every promise, whoever sleeps, dies or is late", async () => {
    const met = new Set<string>();
    let trace: readonly string[] = [];
    const property = fc.asyncProperty(tapes, async (values) => {
      const tape = new Tape(values);
      const run = new RecoveryRun(tape);
      const { world, reports } = run;
      trace = world.network.trace;
      while (!tape.ended && world.broken.length === 0) await run.step();
      await run.mendButOneNode();
      expect(unsettled(await world.openIntents()), "open although one node is away").toEqual([]);
      await run.mendAll();

      expect(world.broken).toEqual([]);
      for (const report of reports) checkAnswer(world, report, report.write.onConflict);
      expect(await world.openIntents(), "open intents").toEqual([]);
      expect(await world.orphans(), "orphans").toEqual([]);
      for (const outcome of [...reports.map((report) => report.outcome), ...run.recovered()]) met.add(outcome);
    });
    await fc.assert(property, { numRuns: RUNS, endOnFailure: true }).catch((cause: unknown) => {
      throw new Error(`${String(cause)}\n\nWhat happened:\n${trace.join("\n")}`, { cause });
    });
    const all = ["acknowledged", "failed", "unknown", "finished", "resurrected", "rolledBack"];
    expect([...met].sort(), "the tapes lead everywhere").toEqual(all.sort());
  });
});

function unsettled(open: Awaited<ReturnType<RecoveryWorld["openIntents"]>>) {
  return open.filter((intent) => !isCleanUp(intent));
}

/** What a client was told is what became of its write, and a write on condition met what it was derived from. */
function checkAnswer(world: RecoveryWorld, { txid, outcome, before }: ModelReport, onConflict: string): void {
  const version = world.history.find((entry) => entry.version === txid);
  if (outcome === "acknowledged") expect(version, `${txid} was acknowledged`).toBeDefined();
  if (outcome === "failed") expect(version, `${txid} had failed`).toBeUndefined();
  if (version !== undefined && onConflict === "exact") expect(version.before, `${txid} was exact`).toBe(before);
}
