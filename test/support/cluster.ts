/** A whole cluster of real processes on loopback, as a disposable: what `npm run cluster` starts, on free ports. */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { openClusterDir, type ClusterDir } from "../../cluster/cluster-dir.ts";
import { startGuard } from "../../cluster/guard.ts";
import { launchCluster, type LaunchedCluster } from "../../cluster/launch.ts";
import { findNatsServer } from "../../cluster/nats-server.ts";
import { findNginx } from "../../cluster/nginx-server.ts";
import {
  NATS_USER,
  planCluster,
  SECRET_FILES,
  type ClusterPlan,
  type PlanInput,
  type ProcessRole,
  type SettingsTree,
} from "../../cluster/plan.ts";
import { freePortTable } from "../../cluster/ports.ts";
import type { ClusterProcess, Exit } from "../../cluster/process.ts";
import { findStreamLeader, type NatsServer } from "./nats.ts";
import { cleanEnvironment, commandOf, type Runtime } from "./serve.ts";

export type ClusterTestOptions = {
  readonly gateways?: number;
  readonly nodes?: number;
  readonly healers?: number;
  readonly nats?: 1 | 3;
  /** In front of the gateways; without it `url` is the first gateway's. */
  readonly nginx?: boolean;
  /** What runs gateways, nodes and healers. */
  readonly runtime?: Runtime;
  /** Laid over the settings file of all processes. */
  readonly settings?: SettingsTree;
  /** Added to the environment of single processes, by name: `{ "gateway-1": { KINTSUGI_TEST_KILL_AT: … } }`. */
  readonly env?: Readonly<Record<string, Readonly<Record<string, string>>>>;
  /** Kept afterwards, with what an earlier cluster left in it; without it a temporary one is made and removed. */
  readonly dir?: string;
  /** Address of a part, where it has a network of its own. */
  readonly hostOf?: (name: string) => string;
  /** Put before the command of a part, such as `ip netns exec NAME`. */
  readonly prefixOf?: (name: string) => readonly string[];
};

export type ClusterMember = {
  readonly name: string;
  readonly role: ProcessRole;
  readonly url: string;
  /** 0 while it does not run. */
  readonly pid: number;
  readonly isRunning: boolean;
  readonly dataDir: string;
  /** What it has written so far, in all its lives. */
  logs(): string;
  /** Resolves when its present life has ended. */
  readonly exited: Promise<Exit>;
  /** Ends it as a crash would, and waits for its end. */
  kill9(): Promise<void>;
  /** Asks for a clean end and waits for it. */
  stop(): Promise<Exit>;
  /** SIGSTOP: it keeps its connections and answers nothing. */
  pause(): void;
  resume(): void;
  /** Starts it again on the same port and data after its end; resolves when it is ready. */
  restart(): Promise<void>;
};

export type LocalCluster = AsyncDisposable & {
  /** Where clients go. */
  readonly url: string;
  readonly gateways: readonly ClusterMember[];
  readonly nodes: readonly ClusterMember[];
  readonly healers: readonly ClusterMember[];
  readonly nginx: ClusterMember | null;
  readonly nats: readonly NatsServer[];
  /** Everything, nats-servers and nginx too. */
  readonly members: readonly ClusterMember[];
  readonly dir: string;
  /** Settings file of all processes. */
  readonly configFile: string;
  readonly natsUrls: readonly string[];
  readonly monitorUrls: readonly string[];
  /** For clients on NATS. */
  readonly natsLogin: { readonly user: string; readonly pass: string };
  readonly clusterSecret: string;
  /** @throws {Error} when there is no member of that name */
  member(name: string): ClusterMember;
  /** The nats-server that leads a stream; waits until there is one. */
  leaderOf(stream: string): Promise<NatsServer>;
  /** Ends every process at once with SIGKILL. */
  killAll(): Promise<void>;
  /** Starts again whatever does not run; resolves when the gateways see every node and a leading healer. */
  startAll(): Promise<void>;
  /** Ends everything cleanly and in order. */
  stopAll(): Promise<void>;
};

const MAIN = join(import.meta.dirname, "../../src/main.ts");
const TRIES_MAX = 3;

/** Resolves when every process is ready and the gateways see all nodes. Nothing that ends is started again. */
export async function startCluster(options: ClusterTestOptions = {}): Promise<LocalCluster> {
  const temporary = options.dir === undefined ? await mkdtemp(join(tmpdir(), "kintsugi-cluster-")) : null;
  const dir = options.dir ?? (temporary as string);
  const removeTemporary = async () => {
    if (temporary !== null) await rm(temporary, { recursive: true, force: true, maxRetries: 3 });
  };
  for (let tries = 1; ; tries += 1) {
    try {
      return await startIn(dir, options, removeTemporary);
    } catch (cause) {
      // Somebody else may take a port between the moment when it was found free and the one when it is wanted.
      if (tries < TRIES_MAX && /address already in use|EADDRINUSE|it is in use/.test(String(cause))) continue;
      await removeTemporary();
      throw cause;
    }
  }
}

async function startIn(
  dir: string,
  options: ClusterTestOptions,
  removeTemporary: () => Promise<void>,
): Promise<LocalCluster> {
  const { gateways = 2, nodes = 6, healers = 1, nats: natsServers = 3 } = options;
  const counts = { gateways, nodes, healers, natsServers };
  const folder = await openClusterDir(dir, { clean: false, ...counts });
  const guard = startGuard();
  let launched: LaunchedCluster | null = null;
  const end = async () => {
    await launched?.kill();
    await guard.close();
    await folder.release();
  };
  try {
    const plan = planTestCluster({ dir, counts, ports: await freePortTable(counts) }, folder, options);
    launched = await launchCluster(plan, { guard });
    requireHealth(launched.problems, launched);
    const clusterSecret = (await readFile(join(dir, SECRET_FILES.cluster), "utf8")).trim();
    const natsLogin = { user: NATS_USER, pass: folder.natsPassword };
    const dispose = async () => {
      await end();
      await removeTemporary();
    };
    return { ...clusterOf(plan, launched), clusterSecret, natsLogin, [Symbol.asyncDispose]: dispose };
  } catch (cause) {
    await end();
    throw cause;
  }
}

function planTestCluster(
  place: Pick<PlanInput, "dir" | "counts" | "ports">,
  { natsPassword, nodesFounded }: ClusterDir,
  { env = {}, settings, hostOf, prefixOf, runtime = "node", nginx = false }: ClusterTestOptions,
): ClusterPlan {
  return planCluster({
    ...{ ...place, natsPassword, nodesFounded },
    programs: {
      kintsugi: [...commandOf(runtime), MAIN],
      natsServer: findNatsServer(),
      nginx: nginx ? findNginx() : null,
    },
    cores: availableParallelism(),
    env: cleanEnvironment(),
    envOf: (name) => env[name] ?? {},
    // What is read is to show what the nodes hold.
    settings: { cache: { bytesMax: 0 }, ...settings },
    ...(hostOf === undefined ? {} : { hostOf }),
    ...(prefixOf === undefined ? {} : { prefixOf }),
  });
}

function clusterOf(plan: ClusterPlan, launched: LaunchedCluster) {
  const members = launched.processes.map(memberOf);
  const ofRole = (role: ProcessRole) => members.filter((member) => member.role === role);
  const nats = ofRole("nats").map((server, index) => ({
    ...{ name: server.name, url: server.url, storeDir: join(server.dataDir, "jetstream") },
    monitorUrl: plan.monitorUrls[index] as string,
    get pid() {
      return server.pid;
    },
    ...{ logs: server.logs, kill9: server.kill9, pause: server.pause, resume: server.resume, restart: server.restart },
  }));
  return {
    url: plan.url,
    gateways: ofRole("gateway"),
    nodes: ofRole("node"),
    healers: ofRole("healer"),
    nginx: ofRole("nginx")[0] ?? null,
    ...{ nats, members },
    dir: plan.dir,
    configFile: plan.configFile,
    natsUrls: plan.natsUrls,
    monitorUrls: plan.monitorUrls,
    member(name: string) {
      const found = members.find((member) => member.name === name);
      if (found === undefined)
        throw new Error(`There is no ${name}, only ${members.map((one) => one.name).join(", ")}`);
      return found;
    },
    leaderOf: (stream: string) => findStreamLeader(nats, stream),
    killAll: () => launched.kill(),
    startAll: async () => requireHealth(await launched.startAgain(), launched),
    stopAll: () => launched.stop(),
  };
}

function memberOf(process: ClusterProcess): ClusterMember {
  const { name, role, url, dataDir } = process.plan;
  return {
    ...{ name, role, url, dataDir },
    get pid() {
      return process.pid;
    },
    get isRunning() {
      return process.isRunning;
    },
    get exited() {
      return process.exited;
    },
    logs: () => process.logs(),
    kill9: () => process.kill9(),
    stop: () => process.stop(),
    pause: () => process.pause(),
    resume: () => process.resume(),
    restart: () => process.start(),
  };
}

function requireHealth(problems: readonly string[], { processes }: LaunchedCluster): void {
  if (problems.length === 0) return;
  const logs = processes.map((process) => `${process.name} wrote last:\n${process.logs().slice(-2_000)}`);
  throw new Error(`The cluster is not well: ${problems.join("; ")}\n${logs.join("\n")}`);
}
