import type { HealingJob } from "../domain/healing.ts";
import { CliError, EXIT, type ExitCode } from "./exit.ts";
import { displayText, writeLine, type CliIo } from "./io.ts";
import type { OperatorClient } from "./operator.ts";
import { startWorkProgress } from "./work-progress.ts";

const POLL_MS = 500;
/** A leader that died has a successor within this time, which goes on with the job. */
const NOBODY_LEADS_MS_MAX = 60_000;

/** Watches a job to its end. Ctrl-C ends only the watching: the job goes on. */
export async function followJob(io: CliIo, client: OperatorClient, started: HealingJob): Promise<HealingJob> {
  const bar = startWorkProgress(io, labelOf(started));
  try {
    let job = started;
    let heardAtMs = io.clock.monotonicMs();
    while (job.state === "waiting" || job.state === "running") {
      await bar.show(job.done, job.total, job.unit);
      await io.clock.sleep(POLL_MS, io.signal);
      if (io.signal.aborted) throw new CliError(EXIT.interrupted, "interrupted", "Stopped watching; the job goes on");
      try {
        job = await client.job(job.id);
        heardAtMs = io.clock.monotonicMs();
      } catch (cause) {
        if (!isPassing(cause) || io.clock.monotonicMs() - heardAtMs > NOBODY_LEADS_MS_MAX) throw cause;
      }
    }
    return job;
  } finally {
    bar.stop();
  }
}

/** One line of what a job is or has come to; with `json` all of it. */
export async function tellJob(io: CliIo, job: HealingJob, json: boolean): Promise<ExitCode> {
  await writeLine(io.stdout, json ? JSON.stringify(job) : describeJob(job));
  return job.state === "failed" ? EXIT.failure : EXIT.ok;
}

export function describeJob(job: HealingJob): string {
  const result = Object.entries(job.result).map(([name, count]) => `${displayText(name)} ${count}`);
  const took = job.endedAtMs === null ? [] : [`took ${((job.endedAtMs - job.startedAtMs) / 1_000).toFixed(1)} s`];
  const isOpen = job.state === "waiting" || job.state === "running";
  const progress = isOpen && job.total !== null ? [`${job.done} of ${job.total} ${displayText(job.unit)}`] : [];
  const failure = job.failure === null ? [] : [displayText(job.failure)];
  const facts = [...progress, ...failure, ...result, ...took];
  return `${labelOf(job)}  ${job.state}${facts.length === 0 ? "" : `: ${facts.join(", ")}`}${isOpen ? `  (job ${displayText(job.id)})` : ""}`;
}

function labelOf({ kind, node }: HealingJob): string {
  const what = kind === "recover_node" ? "recovery" : kind;
  return node === null ? what : `${what} of ${displayText(node)}`;
}

function isPassing(cause: unknown): boolean {
  return cause instanceof CliError && cause.exitCode === EXIT.unavailable;
}
