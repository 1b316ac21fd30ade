/** Starts the processes of a plan in the order in which they need each other, and stops them in the reverse one. */
import { setTimeout as sleep } from "node:timers/promises";
import { writePlannedFile } from "./cluster-dir.ts";
import type { Guard } from "./guard.ts";
import { KINTSUGI_ROLES, type ClusterPlan, type ProcessPlan, type ProcessRole } from "./plan.ts";
import { findPortProblem } from "./ports.ts";
import { ClusterProcess, type ProcessEvents } from "./process.ts";
import { haveMetaLeader, readJson } from "./readiness.ts";

export type LaunchedCluster = {
  readonly processes: readonly ClusterProcess[];
  /** What is not as it should be although everything runs, in the gateways' words; none when all is well. */
  readonly problems: readonly string[];
  /** Starts again whatever does not run, like the first time; answers the problems that remain. */
  startAgain(): Promise<readonly string[]>;
  /** Ends everything in order: whoever takes requests first, what the others stand on last. */
  stop(): Promise<void>;
  /** Ends everything at once, as a power cut would. */
  kill(): Promise<void>;
};

export type LaunchOptions = {
  readonly guard: Guard;
  readonly events?: ProcessEvents;
  /** Gives up starting. */
  readonly signal?: AbortSignal;
};

const STOP_ORDER: readonly ProcessRole[] = ["nginx", "gateway", "healer", "node", "nats"];
const HEALTHY_MS_MAX = 30_000;
const META_LEADER_MS_MAX = 30_000;
const POLL_MS = 50;

/**
 * Resolves when all of it is ready and the gateways see every node.
 * @throws {Error} that names the part which failed, with its last lines; nothing is left running then
 */
export async function launchCluster(plan: ClusterPlan, options: LaunchOptions): Promise<LaunchedCluster> {
  await requireFreePorts(plan.processes);
  await Promise.all(plan.files.map(writePlannedFile));
  const processes = plan.processes.map((process) => new ClusterProcess(process, options.guard, options.events));
  const ofRoles = (roles: readonly ProcessRole[]) => processes.filter(({ plan: { role } }) => roles.includes(role));
  const kill = async () => {
    await Promise.all(processes.map((process) => process.kill9()));
  };
  const stop = async () => {
    for (const role of STOP_ORDER) await Promise.all(ofRoles([role]).map((process) => process.stop()));
  };
  const start = async () => {
    await startTogether(ofRoles(["nats"]), options.signal);
    await untilMetaLeader(plan.monitorUrls, options.signal);
    // A process that joins waits for what it needs, so these can all begin at once.
    await startTogether(ofRoles([...KINTSUGI_ROLES, "nginx"]), options.signal);
    return await untilHealthy(plan, options.signal);
  };
  try {
    return { processes, problems: await start(), startAgain: start, stop, kill };
  } catch (cause) {
    await kill();
    throw cause;
  }
}

async function requireFreePorts(processes: readonly ProcessPlan[]): Promise<void> {
  const wanted = processes.flatMap(({ name, host, ports }) => ports.map((port) => ({ name, host, port })));
  const problems = await Promise.all(wanted.map(({ host, port }) => findPortProblem(host, port)));
  const index = problems.findIndex((problem) => problem !== null && !NOT_OURS_TO_ASK.has(problem));
  const { name, host, port } = wanted[index] ?? {};
  if (name === undefined) return;
  const inUse = "it is in use; end what listens there, or choose other ports with --base-port";
  const reason = problems[index] === "EADDRINUSE" ? inUse : problems[index];
  throw new Error(`Cannot start ${name} on ${host}:${port}: ${reason}`);
}

/** A part may live in a network of its own, whose addresses this process has not. */
const NOT_OURS_TO_ASK: ReadonlySet<string> = new Set(["EADDRNOTAVAIL"]);

/** One that fails ends the start of the others. */
async function startTogether(processes: readonly ClusterProcess[], signal?: AbortSignal): Promise<void> {
  const failed = new AbortController();
  const either = signal === undefined ? failed.signal : AbortSignal.any([signal, failed.signal]);
  let first: unknown = null;
  await Promise.all(
    processes
      .filter((process) => !process.isRunning)
      .map((process) =>
        process.start(either).catch((cause: unknown) => {
          first ??= cause;
          failed.abort();
        }),
      ),
  );
  if (first !== null) throw first;
}

async function untilMetaLeader(monitorUrls: readonly string[], signal?: AbortSignal): Promise<void> {
  const overdueAt = performance.now() + META_LEADER_MS_MAX;
  while (!(await haveMetaLeader(monitorUrls))) {
    signal?.throwIfAborted();
    if (performance.now() > overdueAt) {
      throw new Error(`The nats-servers have not elected a leader in ${META_LEADER_MS_MAX / 1_000} s`);
    }
    await sleep(POLL_MS);
  }
}

/** Answers what is still wrong when it has waited long enough: a cluster that limps can be used and looked at. */
async function untilHealthy(plan: ClusterPlan, signal?: AbortSignal): Promise<readonly string[]> {
  const gateways = plan.processes.filter(({ role }) => role === "gateway");
  const nodes = plan.processes.filter(({ role }) => role === "node").length;
  const isWhole = plan.processes.some(({ role }) => role === "healer");
  const overdueAt = performance.now() + HEALTHY_MS_MAX;
  for (;;) {
    signal?.throwIfAborted();
    const problems = (await Promise.all(gateways.map((gateway) => problemsSeenBy(gateway, nodes, isWhole)))).flat();
    if (problems.length === 0 || performance.now() > overdueAt) return problems;
    await sleep(POLL_MS);
  }
}

/** `isWhole`: without a healer a cluster is never well, which is no news then. */
async function problemsSeenBy({ name, url }: ProcessPlan, nodes: number, isWhole: boolean): Promise<string[]> {
  const health = (await readJson(`${url}/cluster/health`)) as {
    status: string;
    nodesLive: number;
    problems: readonly string[];
  } | null;
  if (health === null) return [`${name} does not tell how the cluster is`];
  if (health.nodesLive < nodes) return [`${name} sees ${health.nodesLive} of ${nodes} nodes`];
  return !isWhole || health.status === "ok" ? [] : health.problems.map((problem) => `${name}: ${problem}`);
}
