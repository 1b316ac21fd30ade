/** More gateways or nodes of a running cluster; a test may have gateways killed or stopped at a step of a write. */
import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { startGuard, type Guard } from "../../cluster/guard.ts";
import { findFreePorts } from "../../cluster/ports.ts";
import { ClusterProcess, type Exit } from "../../cluster/process.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { Semaphore } from "../../src/lib/semaphore.ts";
import type { LocalCluster } from "./cluster.ts";
import { until } from "./cluster-load.ts";
import { cleanEnvironment, commandOf } from "./serve.ts";

export type ExtraMember = {
  readonly name: string;
  readonly url: string;
  /** Resolves when it has ended, however that came. */
  readonly exited: Promise<Exit>;
  /** Resolves when it has stopped: it keeps its connections and answers nothing. */
  untilPaused(): Promise<void>;
  resume(): void;
};

export type ExtraMembers = AsyncDisposable & {
  /**
   * Resolves when it is ready for work. `name` is like that of no other member that the cluster has had; `killAt` is a
   * step of a write, such as `put.cell-sent:2`, with `/stop` behind it where it is not to kill. Without it nothing
   * happens to it.
   */
  start(name: string, killAt?: string): Promise<ExtraMember>;
};

const HOST = "127.0.0.1";
const MAIN = join(import.meta.dirname, "../../src/main.ts");
const READY_MS_MAX = 60_000;
const STOP_MS_MAX = 15_000;
const PAUSED_MS_MAX = 60_000;
/** Programs that start side by side. More would take the processors from the cluster, whose clocks tick meanwhile. */
const STARTS_AT_ONCE = 3;

/** Disposing kills those that still run. */
export function openExtraMembers(cluster: LocalCluster, role: "gateway" | "node"): ExtraMembers {
  const guard = startGuard();
  const members: ClusterProcess[] = [];
  const starts = new Semaphore(STARTS_AT_ONCE, systemClock);
  return {
    async start(name, killAt = "") {
      const member = await planMember(cluster, { role, name, killAt }, guard);
      members.push(member);
      const permit = await starts.acquire(1, READY_MS_MAX);
      try {
        await member.start();
      } finally {
        permit?.release();
      }
      const { pid, exited } = member;
      return {
        ...{ name, exited, url: member.plan.url },
        untilPaused: () => until(`${name} to be stopped`, PAUSED_MS_MAX, () => isPaused(pid)),
        resume: () => member.resume(),
      };
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(members.map((member) => member.kill9()));
      await guard.close();
    },
  };
}

type Plan = { readonly role: "gateway" | "node"; readonly name: string; readonly killAt: string };

async function planMember(cluster: LocalCluster, { role, name, killAt }: Plan, guard: Guard): Promise<ClusterProcess> {
  const [port] = (await findFreePorts(1)) as [number];
  const dataDir = join(cluster.dir, name);
  const flags = ["--config", cluster.configFile, "--name", name, "--host", HOST, "--port", String(port)];
  const [command, ...prefix] = commandOf("node");
  return new ClusterProcess(
    {
      ...{ name, role, command, host: HOST, url: `http://${HOST}:${port}`, ports: [port], dataDir },
      args: [...prefix, MAIN, role, ...flags, "--data-dir", dataDir],
      cwd: cluster.dir,
      env: cleanEnvironment({ KINTSUGI_TEST_KILL_AT: killAt }),
      logFile: join(cluster.dir, "logs", `${name}.log`),
      readiness: { kind: "line", start: `Kintsugi ${role} ${name} is ready at ` },
      readyMsMax: READY_MS_MAX,
      ...{ stopSignal: "SIGTERM", stopMsMax: STOP_MS_MAX },
    },
    guard,
  );
}

async function isPaused(pid: number): Promise<boolean> {
  const { stdout } = await promisify(execFile)("ps", ["-o", "state=", "-p", String(pid)]);
  return stdout.trim().startsWith("T");
}
