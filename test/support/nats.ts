/** Real nats-servers with JetStream on loopback, alone or as a cluster of three, as disposables. */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { findNatsServer } from "../../cluster/nats-server.ts";

export type NatsServer = {
  readonly name: string;
  readonly url: string;
  /** Where `/varz` and the others are. */
  readonly monitorUrl: string;
  readonly pid: number;
  readonly storeDir: string;
  kill9(): Promise<void>;
  pause(): void;
  resume(): void;
  /** Starts it again on the same ports and store, after `kill9`. */
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
};

export type NatsOptions = {
  readonly servers?: 1 | 3;
  /** Kept afterwards; without it a temporary one is made and removed. */
  readonly dir?: string;
  /** `always` unless a test wants an unsafe server. */
  readonly syncInterval?: string;
};

const READY_MS_MAX = 30_000;

/** Resolves when the servers have a meta leader, so that streams can be made. */
export async function startNats(options: NatsOptions = {}): Promise<NatsCluster> {
  const count = options.servers ?? 1;
  const dir = options.dir ?? (await mkdtemp(join(tmpdir(), "kintsugi-nats-")));
  const ports = await freePorts(count * 3);
  const plans = Array.from({ length: count }, (_, index) => {
    const [client, route, monitor] = ports.slice(index * 3, index * 3 + 3) as [number, number, number];
    return { name: `nats-${index + 1}`, client, route, monitor };
  });
  const routes = plans.map((plan) => `nats-route://127.0.0.1:${plan.route}`);
  const servers: RunningServer[] = [];
  const dispose = async () => {
    await Promise.all(servers.map((server) => server.kill9()));
    if (options.dir === undefined) await rm(dir, { recursive: true, force: true });
  };
  try {
    for (const plan of plans) {
      const storeDir = join(dir, plan.name);
      await mkdir(storeDir, { recursive: true });
      const config = join(dir, `${plan.name}.conf`);
      await writeFile(config, configOf(plan, storeDir, count === 1 ? [] : routes, options.syncInterval ?? "always"));
      servers.push(new RunningServer(plan, storeDir, config));
    }
    await Promise.all(servers.map((server) => server.restart()));
    await waitForMetaLeader(servers, count);
  } catch (cause) {
    await dispose();
    throw cause;
  }
  return {
    servers,
    urls: servers.map((server) => server.url),
    monitorUrls: servers.map((server) => server.monitorUrl),
    replicas: count,
    dir,
    [Symbol.asyncDispose]: dispose,
  };
}

type Plan = { readonly name: string; readonly client: number; readonly route: number; readonly monitor: number };

function configOf(plan: Plan, storeDir: string, routes: readonly string[], syncInterval: string): string {
  const cluster =
    routes.length === 0
      ? ""
      : `cluster { name: test, listen: "127.0.0.1:${plan.route}", routes: [${routes.map((url) => `"${url}"`).join(", ")}] }\n`;
  return [
    `server_name: ${plan.name}`,
    `listen: "127.0.0.1:${plan.client}"`,
    `http: "127.0.0.1:${plan.monitor}"`,
    `jetstream { store_dir: "${storeDir}", sync_interval: ${syncInterval}, max_file_store: 8GB, max_memory_store: 256MB }`,
    cluster,
  ].join("\n");
}

class RunningServer implements NatsServer {
  readonly name: string;
  readonly url: string;
  readonly monitorUrl: string;
  readonly storeDir: string;
  readonly #config: string;
  #child: ChildProcess | null = null;
  #log = "";

  constructor(plan: Plan, storeDir: string, config: string) {
    this.name = plan.name;
    this.url = `nats://127.0.0.1:${plan.client}`;
    this.monitorUrl = `http://127.0.0.1:${plan.monitor}`;
    this.storeDir = storeDir;
    this.#config = config;
  }

  get pid(): number {
    return this.#child?.pid ?? 0;
  }

  /** What it wrote last. */
  get log(): string {
    return this.#log;
  }

  async restart(): Promise<void> {
    const child = spawn(findNatsServer(), ["-c", this.#config], { stdio: ["ignore", "pipe", "pipe"] });
    this.#child = child;
    const keep = (text: string) => (this.#log = (this.#log + text).slice(-16_384));
    child.stdout.setEncoding("utf8").on("data", keep);
    child.stderr.setEncoding("utf8").on("data", keep);
    await once(child, "spawn");
  }

  async kill9(): Promise<void> {
    const child = this.#child;
    if (child === null || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, "exit");
    child.kill("SIGKILL");
    await ended;
  }

  pause(): void {
    this.#child?.kill("SIGSTOP");
  }

  resume(): void {
    this.#child?.kill("SIGCONT");
  }
}

/** Streams cannot be made, and fail oddly, before the servers have elected who places them. */
async function waitForMetaLeader(servers: readonly RunningServer[], count: number): Promise<void> {
  const overdueAt = performance.now() + READY_MS_MAX;
  for (const server of servers) {
    for (;;) {
      if (await isReady(server.monitorUrl, count)) break;
      if (performance.now() > overdueAt)
        throw new Error(`nats-server is not ready after ${READY_MS_MAX} ms; it wrote:\n${server.log}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

async function isReady(monitorUrl: string, count: number): Promise<boolean> {
  try {
    const response = await fetch(`${monitorUrl}/jsz`);
    const { meta_cluster: meta } = (await response.json()) as {
      meta_cluster?: { leader?: string; cluster_size?: number };
    };
    return count === 1 ? response.ok : (meta?.leader ?? "") !== "" && meta?.cluster_size === count;
  } catch {
    return false;
  }
}

async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer().listen(0, "127.0.0.1");
      await once(server, "listening");
      return server;
    }),
  );
  const ports = servers.map((server) => (server.address() as { port: number }).port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}
