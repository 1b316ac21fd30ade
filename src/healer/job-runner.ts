/** Goes through the open jobs of a term, again and again: `job-plan.ts` says what each does next, this does it. */
import type { OpenLedger } from "../desk/open-ledger.ts";
import { isOver, withJob } from "../desk/healing-ledger.ts";
import { StoreError } from "../domain/errors.ts";
import type { HealingJob, JobKind, Track, TrackReport } from "../domain/healing.ts";
import type { NodeName } from "../domain/ids.ts";
import { runInBackground } from "../lib/background-work.ts";
import type { Clock } from "../lib/clock.ts";
import type { Logger } from "../lib/logger.ts";
import type { WorkDepth } from "../work/work-queue.ts";
import type { JobFinding, JobMemory, JobPlan, JobSight } from "./job-plan.ts";
import { NOTHING_LEARNT, planJob } from "./job-plan.ts";
import type { NodeVerification } from "./verify-node.ts";

export type JobDeps = {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly ledger: OpenLedger;
  readonly nextId: () => string;
  /** Raises the run counter of a track; answers it. */
  readonly urge: (track: Track) => Promise<number>;
  readonly reports: () => Promise<readonly TrackReport[]>;
  /** Null for a node that nobody knows. */
  readonly verificationOf: (node: NodeName) => NodeVerification | null;
  /** The node is there, or its blobs have been given up. */
  readonly isNodeSettled: (node: NodeName) => boolean;
};

/** An audit that jobs wait for. */
export type AuditWish = { readonly node: NodeName | null; readonly jobs: ReadonlySet<string> };

type Learnt = { memory: JobMemory; verifying: Verifying | null; notBeforeMs: number; savedAtMs: number };

/** A verification that goes on by itself: it may wait for its throttle for long, and nothing else may. */
type Verifying = AsyncDisposable & { readonly status: () => JobMemory["verified"] };

const AUDIT_AGAIN_MS_MIN = 500;
const AUDIT_AGAIN_MS_MAX = 30_000;
/** Progress is durable so often; who asks this leader is told the newest. */
const SAVE_MS = 5_000;

export class JobRunner implements AsyncDisposable {
  readonly #deps: JobDeps;
  readonly #learnt = new Map<string, Learnt>();
  /** Newer than the ledger. */
  readonly #progress = new Map<string, HealingJob>();
  readonly #ending = new Set<Promise<void>>();

  constructor(deps: JobDeps) {
    this.#deps = deps;
  }

  /** The newest last. */
  jobs(): readonly HealingJob[] {
    return this.#deps.ledger.current().jobs.map((job) => (isOver(job) ? job : (this.#progress.get(job.id) ?? job)));
  }

  open(): readonly HealingJob[] {
    return this.jobs().filter((job) => !isOver(job));
  }

  /** @throws {StoreError} `job_unknown` */
  find(id: string): HealingJob {
    const job = this.jobs().find((one) => one.id === id);
    if (job === undefined) throw new StoreError("job_unknown", "There is no such job, or it is long over");
    return job;
  }

  /** The one of this kind and node that has not ended, else a new one. Durable when resolved. */
  async start(kind: JobKind, node: NodeName | null): Promise<HealingJob> {
    const id = this.#deps.nextId();
    const isSame = (job: HealingJob) => job.kind === kind && job.node === node && !isOver(job);
    const ledger = await this.#deps.ledger.change((found) =>
      found.jobs.some(isSame) ? found : withJob(found, newJob(id, kind, node, this.#deps.clock.wallMs())),
    );
    const job = ledger.jobs.find(isSame);
    if (job === undefined) throw new StoreError("overloaded", "Too many jobs are open", { retriable: true });
    return this.#progress.get(job.id) ?? job;
  }

  /** Takes every open job as far as it goes without waiting. The audit that some of them need, if any. */
  async advance(readDepth: () => Promise<WorkDepth>, signal: AbortSignal): Promise<AuditWish | null> {
    const jobs = this.open();
    for (const id of this.#learnt.keys()) if (!jobs.some((job) => job.id === id)) this.#forget(id);
    const wantsReports = jobs.some(({ kind }) => kind === "balance" || kind === "scrub" || kind === "compact");
    const reports = wantsReports ? await this.#deps.reports() : [];
    // Last, so that it counts what audits and runs that have ended had queued.
    const depth = await readDepth();
    const wishes = new Map<string, NodeName | null>();
    for (const job of jobs) {
      if (signal.aborted) return null;
      if ((await this.#advanceJob(job, depth, reports)) === "audit") wishes.set(job.id, job.node);
    }
    if (wishes.size === 0) return null;
    const nodes = new Set(wishes.values());
    const [only = null] = nodes;
    return { node: nodes.size === 1 ? only : null, jobs: new Set(wishes.keys()) };
  }

  /** What an audit found, for the jobs that waited for it. */
  learn(wish: AuditWish, findingOf: (node: NodeName | null) => JobFinding): void {
    for (const id of wish.jobs) {
      const job = this.open().find((one) => one.id === id);
      const learnt = this.#learnt.get(id);
      if (job === undefined || learnt === undefined) continue;
      const finding = findingOf(job.node);
      const { auditCount, lackedAtFirst, lackedBytesAtFirst } = learnt.memory;
      learnt.memory = {
        ...learnt.memory,
        finding,
        auditCount: auditCount + 1,
        lackedAtFirst: Math.max(lackedAtFirst, finding.lacking),
        lackedBytesAtFirst: Math.max(lackedBytesAtFirst, finding.lackingBytes),
        // Whatever was verified before may have been mended since.
        verified: NOTHING_LEARNT.verified,
      };
      this.#endVerifying(learnt);
      const waitMs = Math.min(AUDIT_AGAIN_MS_MAX, AUDIT_AGAIN_MS_MIN * 2 ** auditCount);
      learnt.notBeforeMs = this.#deps.clock.monotonicMs() + waitMs;
    }
  }

  async #advanceJob(job: HealingJob, depth: WorkDepth, reports: readonly TrackReport[]): Promise<"audit" | null> {
    const learnt = this.#learntOf(job);
    const plan = planJob(job, learnt.memory, this.#sightOf(job, depth, reports));
    const { step } = plan;
    await this.#record(job, learnt, plan);
    switch (step.next) {
      case "audit":
        return this.#deps.clock.monotonicMs() >= learnt.notBeforeMs ? "audit" : null;
      case "urge":
        learnt.memory = { ...learnt.memory, run: await this.#deps.urge(step.track) };
        return null;
      case "verify":
        learnt.verifying ??= this.#beginVerifying(job);
        learnt.memory = { ...learnt.memory, verified: learnt.verifying.status() };
        return null;
      case "wait":
      case "end":
        return null;
    }
  }

  /** Durable at once where the state changes, else now and then. */
  async #record(job: HealingJob, learnt: Learnt, { step, progress }: JobPlan): Promise<void> {
    const { clock, ledger, logger } = this.#deps;
    const ended = step.next === "end";
    const next: HealingJob = {
      ...{ ...job, ...progress },
      state: ended ? (step.failure === null ? "done" : "failed") : "running",
      endedAtMs: ended ? clock.wallMs() : null,
      failure: ended ? step.failure : null,
    };
    this.#progress.set(job.id, next);
    const nowMs = clock.monotonicMs();
    if (next.state === job.state && nowMs - learnt.savedAtMs < SAVE_MS) return;
    await ledger.change((found) => withJob(found, next));
    learnt.savedAtMs = nowMs;
    if (!ended) return;
    logger.info(
      { job: job.id, kind: job.kind, node: job.node, ...next.result, failure: next.failure },
      "a job has ended",
    );
    this.#forget(job.id);
  }

  #sightOf(job: HealingJob, { byUrgency }: WorkDepth, reports: readonly TrackReport[]): JobSight {
    const { node } = job;
    const ofTrack = reports.filter(({ track }) => track === job.kind);
    return {
      waiting: byUrgency.reduce((sum, count) => sum + count, 0),
      urgent: (byUrgency[0] ?? 0) + (byUrgency[1] ?? 0),
      isNodeSettled: node === null || this.#deps.isNodeSettled(node),
      reports: node === null ? ofTrack : ofTrack.filter(({ process }) => process === node),
    };
  }

  #learntOf({ id }: HealingJob): Learnt {
    const known = this.#learnt.get(id);
    if (known !== undefined) return known;
    const learnt: Learnt = { memory: NOTHING_LEARNT, verifying: null, notBeforeMs: 0, savedAtMs: 0 };
    this.#learnt.set(id, learnt);
    return learnt;
  }

  #forget(id: string): void {
    const learnt = this.#learnt.get(id);
    if (learnt !== undefined) this.#endVerifying(learnt);
    this.#learnt.delete(id);
    this.#progress.delete(id);
  }

  #beginVerifying({ node }: HealingJob): Verifying {
    const verification = node === null ? null : this.#deps.verificationOf(node);
    if (verification === null) return NOTHING_TO_VERIFY;
    const { clock, logger } = this.#deps;
    const running = runInBackground(verification, { clock, logger });
    return { status: () => verification.status(), [Symbol.asyncDispose]: () => running[Symbol.asyncDispose]() };
  }

  #endVerifying(learnt: Learnt): void {
    if (learnt.verifying === null) return;
    const ending = Promise.resolve(learnt.verifying[Symbol.asyncDispose]()).finally(() => this.#ending.delete(ending));
    this.#ending.add(ending);
    learnt.verifying = null;
  }

  /** Waits for what goes on by itself. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const learnt of this.#learnt.values()) this.#endVerifying(learnt);
    await Promise.all(this.#ending);
  }
}

const NOTHING_TO_VERIFY: Verifying = {
  status: () => ({ ...NOTHING_LEARNT.verified, isDone: true }),
  [Symbol.asyncDispose]: () => Promise.resolve(),
};

function newJob(id: string, kind: JobKind, node: NodeName | null, startedAtMs: number): HealingJob {
  const nothing = { done: 0, total: null, unit: "", result: {}, failure: null } as const;
  return { id, kind, node, state: "waiting", startedAtMs, endedAtMs: null, ...nothing };
}
