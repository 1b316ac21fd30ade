/** Asks the cluster to look at itself, as an operator would, and waits until it has. */
import { setTimeout as sleep } from "node:timers/promises";
import type { HealingJob } from "../../../src/domain/healing.ts";
import type { LocalCluster } from "../../support/cluster.ts";

const POLL_MS = 500;

/** `path`: where it is asked for. Resolves when the job is done; answers what went wrong otherwise, in words. A leader that dies is no failure: the job survives it. */
export async function runHealingJob(cluster: LocalCluster, path: string, msMax: number): Promise<string | null> {
  const overdueAt = performance.now() + msMax;
  let job: HealingJob | null = null;
  while (performance.now() < overdueAt) {
    const found: HealingJob | null =
      job === null ? await ask(cluster, "POST", path) : await ask(cluster, "GET", `/cluster/healing/jobs/${job.id}`);
    job = found ?? job;
    if (job?.state === "done") return null;
    if (job?.state === "failed") return `${path} failed: ${job.failure}`;
    await sleep(POLL_MS);
  }
  return job === null ? `nobody takes the job ${path}` : `${path} is ${job.state} after ${msMax / 1_000} s`;
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
