/** Asks a store to heal something, over the routes that operators use, and waits for it. */
import type { HealingJob, HealingStatus } from "../src/domain/healing.ts";

const POLL_MS = 200;

/** `path` is what starts it, such as `/cluster/healing/audit` or `/cluster/recovery/node-1`. */
export async function startJob(url: string, path: string): Promise<HealingJob> {
  return (await call(url, path, "POST")) as HealingJob;
}

/** Resolves when the job has ended. @throws {Error} it failed, or took longer */
export async function jobDone(url: string, { id }: HealingJob, msMax: number): Promise<HealingJob> {
  const until = performance.now() + msMax;
  for (;;) {
    const job = (await call(url, `/cluster/healing/jobs/${id}`)) as HealingJob;
    if (job.state === "done") return job;
    if (job.state === "failed") throw new Error(`Job ${job.kind} failed: ${job.failure}`);
    if (performance.now() > until)
      throw new Error(`Job ${job.kind} takes longer than ${msMax} ms: ${JSON.stringify(job)}`);
    await pause();
  }
}

export async function readHealing(url: string): Promise<HealingStatus> {
  return (await call(url, "/cluster/healing")) as HealingStatus;
}

/** Takes off the bound of a track until it is set again. */
export async function unboundTrack(url: string, track: string): Promise<void> {
  await call(url, `/cluster/healing/tracks/${track}`, "PATCH", { bytesPerSecond: Number.MAX_SAFE_INTEGER });
}

/** Looks again and again until `isSo`. @throws {Error} it does not become so in time */
export async function untilSo(what: string, msMax: number, isSo: () => Promise<boolean>): Promise<void> {
  const until = performance.now() + msMax;
  while (!(await isSo())) {
    if (performance.now() > until) throw new Error(`Waited ${msMax} ms in vain for ${what}`);
    await pause();
  }
}

function pause(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, POLL_MS));
}

async function call(url: string, path: string, method = "GET", body?: unknown): Promise<unknown> {
  const init =
    body === undefined ? {} : { body: JSON.stringify(body), headers: { "content-type": "application/json" } };
  const response = await fetch(new URL(path, url), { method, ...init });
  const text = await response.text();
  if (!response.ok) throw new Error(`${method} ${path} was answered ${response.status}: ${text}`);
  return JSON.parse(text);
}
