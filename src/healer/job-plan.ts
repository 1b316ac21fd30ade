/**
 * What a job does next. Pure: the job, what this term has learnt for it, what is seen now. A new leader has learnt
 * nothing yet, so it begins a job anew; nothing that was done is done twice, because an audit looks first.
 *
 * | job | asks for | is done when |
 * |---|---|---|
 * | audit | an audit | it has ended |
 * | collect | an audit, which queues what may go | it has ended and nothing waits in the queue |
 * | recover_node | an audit of the node, again whenever the queue is empty; then the verification of its blobs | nothing lacks on it and all of its blobs were verified |
 * | balance | a run of the track | the run has ended and nothing waits in the queue |
 * | scrub, compact | a run of the nodes' tracks | every node concerned has ended the run |
 */
import type { HealingJob, Track, TrackReport } from "../domain/healing.ts";

/** What an audit found for one job: on its node, or everywhere. */
export type JobFinding = {
  readonly lacking: number;
  readonly lackingBytes: number;
  readonly orphans: number;
  /** Pieces of work that it added to the queue. */
  readonly queued: number;
  /** False: what it did not find may lack all the same. */
  readonly isWhole: boolean;
};

/** What a term has learnt for one job. */
export type JobMemory = {
  /** Of the last audit that began after the job did. */
  readonly finding: JobFinding | null;
  readonly auditCount: number;
  /** Blobs that lacked at first. */
  readonly lackedAtFirst: number;
  readonly lackedBytesAtFirst: number;
  /** The verification of the node's blobs. */
  readonly verified: { readonly count: number; readonly total: number; readonly bad: number; readonly isDone: boolean };
  /** The run that was asked for, by the counter of the track. */
  readonly run: number | null;
};

export const NOTHING_LEARNT: JobMemory = {
  ...{ finding: null, auditCount: 0, lackedAtFirst: 0, lackedBytesAtFirst: 0, run: null },
  verified: { count: 0, total: 0, bad: 0, isDone: false },
};

export type JobSight = {
  /** Pieces of work in the queue, those of `urgent` endanger something. */
  readonly waiting: number;
  readonly urgent: number;
  /** Whether the job's node is there, or its blobs have been given up; true for a job of all nodes. */
  readonly isNodeSettled: boolean;
  /** Of the track that the job urges, by the nodes concerned (or the leader). */
  readonly reports: readonly TrackReport[];
};

export type JobStep =
  | { readonly next: "audit" | "verify" }
  | { readonly next: "urge"; readonly track: Track }
  | { readonly next: "wait" }
  | { readonly next: "end"; readonly failure: string | null };

export type JobPlan = {
  readonly step: JobStep;
  readonly progress: Pick<HealingJob, "done" | "total" | "unit" | "result">;
};

/** Rounds of verification that found bad blobs, after which a person has to look. */
const BAD_ROUNDS_MAX = 5;

export function planJob(job: HealingJob, memory: JobMemory, sight: JobSight): JobPlan {
  switch (job.kind) {
    case "audit":
      return planAudit(memory);
    case "collect":
      return planCollect(memory, sight);
    case "recover_node":
      return planRecovery(memory, sight);
    case "balance":
    case "scrub":
    case "compact":
      return planRun(job.kind, memory, sight);
  }
}

function planAudit({ finding }: JobMemory): JobPlan {
  const progress = { done: finding === null ? 0 : 1, total: 1, unit: "audits", result: resultOf(finding) };
  return { step: finding === null ? { next: "audit" } : END, progress };
}

function planCollect({ finding }: JobMemory, { waiting }: JobSight): JobPlan {
  if (finding === null) {
    return { step: { next: "audit" }, progress: { done: 0, total: null, unit: "pieces of work", result: {} } };
  }
  const total = Math.max(finding.queued, waiting);
  const progress = { done: total - waiting, total, unit: "pieces of work", result: resultOf(finding) };
  return { step: waiting > 0 ? { next: "wait" } : END, progress };
}

function planRecovery(memory: JobMemory, { urgent, isNodeSettled }: JobSight): JobPlan {
  const { finding, lackedAtFirst, lackedBytesAtFirst, verified } = memory;
  const mended = finding === null ? 0 : lackedAtFirst - Math.min(lackedAtFirst, finding.lacking);
  const mendedBytes = finding === null ? 0 : Math.max(0, lackedBytesAtFirst - finding.lackingBytes);
  const result = { ...resultOf(finding), mended, mendedBytes, verified: verified.count, damaged: verified.bad };
  const mending = {
    ...{ done: mended, total: finding === null ? null : lackedAtFirst, unit: "blobs mended" },
    result,
  };
  if (!isNodeSettled) {
    return {
      step: { next: "end", failure: "the node is away: it is looked after when it returns" },
      progress: mending,
    };
  }
  if (finding === null) return { step: { next: "audit" }, progress: mending };
  if (finding.lacking > 0 || !finding.isWhole) {
    // The queue tells sooner than the next audit how far it has come.
    const done = urgent > 0 ? Math.max(mended, lackedAtFirst - Math.min(lackedAtFirst, urgent)) : mended;
    return { step: { next: urgent > 0 ? "wait" : "audit" }, progress: { ...mending, done } };
  }
  if (verified.isDone && verified.bad > 0) {
    if (memory.auditCount > BAD_ROUNDS_MAX) {
      return { step: { next: "end", failure: "blobs stay damaged: see the log of the healers" }, progress: mending };
    }
    return { step: { next: urgent > 0 ? "wait" : "audit" }, progress: mending };
  }
  const { count, total } = verified;
  const progress = { done: count, total, unit: "blobs verified", result };
  return { step: verified.isDone ? END : { next: "verify" }, progress };
}

function planRun(track: "balance" | "scrub" | "compact", { run }: JobMemory, { waiting, reports }: JobSight): JobPlan {
  if (run === null) {
    return { step: { next: "urge", track }, progress: { done: 0, total: null, unit: "runs", result: {} } };
  }
  const ended = reports.filter((report) => (report.figures["runs"] ?? 0) >= run);
  const left = reports.filter((report) => !ended.includes(report));
  const isDone = reports.length > 0 && left.length === 0 && (track !== "balance" || waiting === 0);
  const progress = { ...sumOf(reports, ended), result: sumOfFigures(reports) };
  return { step: isDone ? END : { next: "wait" }, progress };
}

const END: JobStep = { next: "end", failure: null };

function resultOf(finding: JobFinding | null): Readonly<Record<string, number>> {
  if (finding === null) return {};
  const { lacking, orphans, queued } = finding;
  return { lacking, orphans, queued };
}

/** The progress of all together where each knows how far it has to go, else how many of them have ended. */
function sumOf(
  reports: readonly TrackReport[],
  ended: readonly TrackReport[],
): Pick<HealingJob, "done" | "total" | "unit"> {
  const known = reports.flatMap(({ progress }) => (progress === null || progress.total === null ? [] : [progress]));
  const [first] = known;
  if (first === undefined || known.length < reports.length - ended.length) {
    return { done: ended.length, total: reports.length, unit: "runs" };
  }
  const sum = (of: "done" | "total") => known.reduce((all, progress) => all + (progress[of] ?? 0), 0);
  return { done: sum("done"), total: sum("total"), unit: first.unit };
}

function sumOfFigures(reports: readonly TrackReport[]): Readonly<Record<string, number>> {
  const sums: Record<string, number> = {};
  for (const { figures } of reports) {
    for (const [name, value] of Object.entries(figures)) {
      if (name !== "runs") sums[name] = (sums[name] ?? 0) + value;
    }
  }
  return sums;
}
