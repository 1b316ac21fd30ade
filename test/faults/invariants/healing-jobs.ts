/** Asks the cluster to look at itself, as an operator would, and waits until it has. */
import { setTimeout as sleep } from "node:timers/promises";
import type { HealingJob, JobKind } from "../../../src/domain/healing.ts";
import type { LocalCluster } from "../../support/cluster.ts";

const POLL_MS = 500;

/** Resolves when the job is done; answers what went wrong otherwise, in words. A leader that dies is no failure: the job survives it. */
export async function runHealingJob(cluster: LocalCluster, kind: JobKind, msMax: number): Promise<string | null> {
  const overdueAt = performance.now() + msMax;
  let job: HealingJob | null = null;
  while (performance.now() < overdueAt) {
    const path: string = job === null ? `/cluster/healing/${kind}` : `/cluster/healing/jobs/${job.id}`;
    job = (await ask(cluster, job === null ? "POST" : "GET", path)) ?? job;
    if (job?.state === "done") return null;
    if (job?.state === "failed") return `${kind} failed: ${job.failure}`;
    await sleep(POLL_MS);
  }
  return job === null ? `nobody takes the job ${kind}` : `${kind} is ${job.state} after ${msMax / 1_000} s`;
}

/** Through whichever gateway answers; null when none does. */
async function ask({ gateways }: LocalCluster, method: string, path: string): Promise<HealingJob | null> {
  for (const { url } of gateways.filter(({ isRunning }) => isRunning)) {
    try {
      const response = await fetch(url + path, { method, signal: AbortSignal.timeout(10_000) });
      if (response.ok) return (await response.json()) as HealingJob;
    } catch {
      // Another one may.
    }
  }
  return null;
}
