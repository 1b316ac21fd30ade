/** Real nats-servers with JetStream on loopback, alone or as a cluster of three, as disposables. */
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { startGuard } from "../../cluster/guard.ts";
import { natsServerConfig } from "../../cluster/nats-config.ts";
import { findNatsServer } from "../../cluster/nats-server.ts";
import { freePortTable, type NatsPorts } from "../../cluster/ports.ts";
import { shareOfCores, type ProcessPlan } from "../../cluster/plan.ts";
import { ClusterProcess } from "../../cluster/process.ts";
import { haveMetaLeader, readJson } from "../../cluster/readiness.ts";

export type NatsServer = {
  readonly name: string;
  readonly url: string;
  /** Where `/varz` and the others are. */
  readonly monitorUrl: string;
  /** 0 while it does not run. */
  readonly pid: number;
  readonly storeDir: string;
  /** What it wrote last. */
  logs(): string;
  kill9(): Promise<void>;
  pause(): void;
  resume(): void;
  /** Starts it again on the same ports and store, after `kill9`; resolves when it takes connections. */
  restart(): Promise<void>;
};

export type NatsCluster = AsyncDisposable & {
  readonly servers: readonly NatsServer[];
  /** Of all servers, for a client. */
  readonly urls: readonly string[];
  readonly monitorUrls: readonly string[];
  /** How many copies streams can have: 1 or 3. */
  readonly replicas: number;
  readonly dir: string;
  /** The server that leads a stream; resolves when there is one. */
  leaderOf(stream: string): Promise<NatsServer>;
};

export type NatsOptions = {
  readonly servers?: 1 | 3;
  /** Kept afterwards; without it a temporary one is made and removed. */
  readonly dir?: string;
  /** `always` unless a test wants an unsafe server. */
  readonly syncInterval?: string;
  /** More lines of the servers' configuration, such as accounts; without logins of theirs anyone is let in. */
  readonly config?: string;
};

const READY_MS_MAX = 30_000;
const LEADER_MS_MAX = 20_000;
const POLL_MS = 40;
/** Somebody else may take a port between the moment when it was found free and the one when the server wants it. */
const TRIES_MAX = 3;

/** Resolves when the servers have a meta leader, so that streams can be made. */
export async function startNats(options: NatsOptions = {}): Promise<NatsCluster> {
  const dir = options.dir ?? (await mkdtemp(join(tmpdir(), "kintsugi-nats-")));
  const removeTemporary = async () => {
    if (options.dir === undefined) await rm(dir, { recursive: true, force: true, maxRetries: 3 });
  };
  for (let tries = 1; ; tries += 1) {
    try {
      return await startServers(dir, options, removeTemporary);
    } catch (cause) {
      if (tries < TRIES_MAX && String(cause).includes("address already in use")) continue;
      await removeTemporary();
      throw cause;
    }
  }
}

async function startServers(
  dir: string,
  { servers: count = 1, syncInterval = "always", config = "" }: NatsOptions,
  removeTemporary: () => Promise<void>,
): Promise<NatsCluster> {
  const { nats } = await freePortTable({ gateways: 0, nodes: 0, healers: 0, natsServers: count });
  const routes = nats.map(({ route }) => ({ host: HOST, port: route }));
  const guard = startGuard();
  const command = findNatsServer();
  const servers = nats.map((ports, index) =>
    serverOf(new ClusterProcess(planOf({ command, dir, index, ports, count }), guard), ports),
  );
  const end = async () => {
    await Promise.all(servers.map((server) => server.kill9()));
    await guard.close();
  };
  try {
    for (const [index, { name, storeDir }] of servers.entries()) {
      const ports = nats[index] as NatsPorts;
      const text = natsServerConfig({
        ...{ name, ports, storeDir, routes, syncInterval },
        ...{ clusterName: "test", host: HOST, login: null, fileStoreMax: "8GB" },
      });
      await mkdir(storeDir, { recursive: true });
      await writeFile(configOf(dir, name), `${text}${config}`);
    }
    await Promise.all(servers.map((server) => server.restart()));
    await untilMetaLeader(servers);
  } catch (cause) {
    await end();
    throw cause;
  }
  return {
    servers,
    urls: servers.map((server) => server.url),
    monitorUrls: servers.map((server) => server.monitorUrl),
    replicas: count,
    dir,
    leaderOf: (stream) => findStreamLeader(servers, stream),
    async [Symbol.asyncDispose]() {
      await end();
      await removeTemporary();
    },
  };
}

const HOST = "127.0.0.1";

function configOf(dir: string, name: string): string {
  return join(dir, `${name}.conf`);
}

type ServerInput = {
  readonly command: string;
  readonly dir: string;
  readonly index: number;
  readonly ports: NatsPorts;
  readonly count: number;
};

function planOf({ command, dir, index, ports, count }: ServerInput): ProcessPlan {
  const name = `nats-${index + 1}`;
  return {
    name,
    role: "nats",
    command,
    args: ["-c", configOf(dir, name)],
    cwd: dir,
    env: { ...shareOfCores(availableParallelism(), count), ...process.env },
    host: HOST,
    url: `nats://${HOST}:${ports.client}`,
    ports: Object.values(ports),
    dataDir: join(dir, name),
    logFile: join(dir, `${name}.log`),
    readiness: { kind: "http", url: `http://${HOST}:${ports.monitor}/healthz?js-enabled-only=true` },
    readyMsMax: READY_MS_MAX,
    stopSignal: "SIGINT",
    stopMsMax: READY_MS_MAX,
  };
}

function serverOf(server: ClusterProcess, ports: NatsPorts): NatsServer {
  return {
    name: server.name,
    url: server.plan.url,
    monitorUrl: `http://${HOST}:${ports.monitor}`,
    storeDir: server.plan.dataDir,
    get pid() {
      return server.pid;
    },
    logs: () => server.logs(),
    kill9: () => server.kill9(),
    pause: () => server.pause(),
    resume: () => server.resume(),
    restart: () => server.start(),
  };
}

/** Streams cannot be made, and fail oddly, before the servers have elected who places them. */
async function untilMetaLeader(servers: readonly NatsServer[]): Promise<void> {
  const overdueAt = performance.now() + READY_MS_MAX;
  while (!(await haveMetaLeader(servers.map((server) => server.monitorUrl)))) {
    if (performance.now() > overdueAt) {
      const logs = servers.map((server) => `${server.name} wrote:\n${server.logs()}`).join("\n");
      throw new Error(`The nats-servers have no meta leader after ${READY_MS_MAX} ms\n${logs}`);
    }
    await sleep(POLL_MS);
  }
}

type Monitored = { readonly name: string; readonly monitorUrl: string; readonly pid: number };

/** Asks the servers that run which of them leads a stream, until one does. */
export async function findStreamLeader<Server extends Monitored>(
  servers: readonly Server[],
  stream: string,
): Promise<Server> {
  const overdueAt = performance.now() + LEADER_MS_MAX;
  for (;;) {
    for (const { monitorUrl } of servers.filter(({ pid }) => pid !== 0)) {
      const answer = (await readJson(`${monitorUrl}/jsz?streams=true`)) as StreamsAnswer | null;
      const details = (answer?.account_details ?? []).flatMap((account) => account.stream_detail ?? []);
      const found = details.find(({ name }) => name === stream);
      const leader = servers.find(({ name }) => name === found?.cluster?.leader);
      // A server alone leads everything; one that is dead may still be named by others.
      if (found !== undefined && servers.length === 1) return servers[0] as Server;
      if (leader !== undefined && leader.pid !== 0) return leader;
    }
    if (performance.now() > overdueAt) throw new Error(`No server leads ${stream} after ${LEADER_MS_MAX} ms`);
    await sleep(POLL_MS);
  }
}

type StreamsAnswer = {
  readonly account_details?: readonly {
    readonly stream_detail?: readonly { readonly name: string; readonly cluster?: { readonly leader?: string } }[];
  }[];
};
