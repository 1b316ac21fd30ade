import { describe, expect, test } from "vitest";
import type { JobKind } from "../../../src/domain/healing.ts";
import type { JobFinding, JobMemory, JobSight } from "../../../src/healer/job-plan.ts";
import { NOTHING_LEARNT, planJob } from "../../../src/healer/job-plan.ts";
import { sampleJob, sampleReport } from "../../support/test-desk.ts";

const QUIET: JobSight = { waiting: 0, urgent: 0, isNodeSettled: true, reports: [] };
const found = (changes: Partial<JobFinding> = {}): JobFinding => ({
  ...{ lacking: 0, lackingBytes: 0, orphans: 0, queued: 0, isWhole: true },
  ...changes,
});

/** What a job does next, in a few words. */
function next(kind: JobKind, memory: Partial<JobMemory>, sight: Partial<JobSight> = {}): string {
  const plan = planJob(sampleJob({ kind }), { ...NOTHING_LEARNT, ...memory }, { ...QUIET, ...sight });
  const { step, progress } = plan;
  const what = step.next === "end" ? (step.failure ?? "done") : step.next === "urge" ? `urge ${step.track}` : step.next;
  return `${what}, ${progress.done} of ${progress.total ?? "?"} ${progress.unit}`;
}

describe("planJob()", () => {
  test("audit: asks for one and is done with it", () => {
    expect(next("audit", {})).toBe("audit, 0 of 1 audits");
    expect(next("audit", { finding: found({ lacking: 3 }) })).toBe("done, 1 of 1 audits");
  });

  test("collect: waits for what its audit has queued", () => {
    expect(next("collect", {})).toBe("audit, 0 of ? pieces of work");
    const finding = found({ queued: 4 });
    expect(next("collect", { finding }, { waiting: 3 })).toBe("wait, 1 of 4 pieces of work");
    expect(next("collect", { finding })).toBe("done, 4 of 4 pieces of work");
  });

  describe("recover_node", () => {
    const lacked = { lackedAtFirst: 9, auditCount: 1 };
    const verified = { count: 70, total: 70, bad: 0, isDone: true };

    test("audits, waits for the mending, audits again, verifies, is done", () => {
      expect(next("recover_node", {})).toBe("audit, 0 of ? blobs mended");
      const finding = found({ lacking: 9 });
      expect(next("recover_node", { ...lacked, finding }, { urgent: 9 })).toBe("wait, 0 of 9 blobs mended");
      expect(next("recover_node", { ...lacked, finding }, { urgent: 2 })).toBe("wait, 7 of 9 blobs mended");
      expect(next("recover_node", { ...lacked, finding }, { urgent: 0 })).toBe("audit, 0 of 9 blobs mended");
      const after = { ...lacked, finding: found({ lacking: 1 }) };
      expect(next("recover_node", after)).toBe("audit, 8 of 9 blobs mended");
      const whole = { ...lacked, finding: found() };
      expect(next("recover_node", whole)).toBe("verify, 0 of 0 blobs verified");
      const half = { ...verified, count: 64, isDone: false };
      expect(next("recover_node", { ...whole, verified: half })).toBe("verify, 64 of 70 blobs verified");
      expect(next("recover_node", { ...whole, verified })).toBe("done, 70 of 70 blobs verified");
    });

    test("does not believe an audit that has not seen everything", () => {
      expect(next("recover_node", { finding: found({ isWhole: false }), auditCount: 1 })).toMatch(/^audit/);
    });

    test("begins anew after blobs were found bad, until a person has to look", () => {
      const bad = { finding: found(), verified: { ...verified, bad: 2 } };
      expect(next("recover_node", { ...bad, auditCount: 1 }, { urgent: 2 })).toMatch(/^wait/);
      expect(next("recover_node", { ...bad, auditCount: 1 })).toMatch(/^audit/);
      expect(next("recover_node", { ...bad, auditCount: 6 })).toMatch(/^blobs stay damaged/);
    });

    test("ends when its node goes away again", () => {
      expect(next("recover_node", { finding: found() }, { isNodeSettled: false })).toMatch(/^the node is away/);
    });
  });

  describe("scrub, compact, balance", () => {
    const report = (process: string, runs: number, done: number | null) =>
      sampleReport({
        process,
        progress: done === null ? null : { done, total: 100, unit: "bytes" },
        figures: { runs, cellsBad: 1 },
      });

    test("ask for a run and wait until every node has ended it", () => {
      expect(next("scrub", {})).toBe("urge scrub, 0 of ? runs");
      const reports = [report("n1", 2, 40), report("n2", 2, 60)];
      expect(next("scrub", { run: 3 }, { reports })).toBe("wait, 100 of 200 bytes");
      expect(next("scrub", { run: 3 }, { reports: [report("n1", 3, null), report("n2", 2, null)] })).toBe(
        "wait, 1 of 2 runs",
      );
      expect(next("compact", { run: 3 }, { reports: [report("n1", 3, null), report("n2", 4, null)] })).toBe(
        "done, 2 of 2 runs",
      );
    });

    test("do not take silence for the end", () => {
      expect(next("scrub", { run: 3 })).toMatch(/^wait/);
    });

    test("add up what the nodes have found", () => {
      const reports = [report("n1", 3, null), report("n2", 3, null)];
      const plan = planJob(sampleJob({ kind: "scrub" }), { ...NOTHING_LEARNT, run: 3 }, { ...QUIET, reports });
      expect(plan.progress.result).toEqual({ cellsBad: 2 });
    });

    test("balance waits for its moves", () => {
      const reports = [report("healer-1", 3, null)];
      expect(next("balance", { run: 3 }, { reports, waiting: 2 })).toMatch(/^wait/);
      expect(next("balance", { run: 3 }, { reports })).toMatch(/^done/);
    });
  });
});
