/**
 * Options → the processes of a cluster on one machine, with their folders, ports and settings files. Pure: nothing is
 * started, looked up or written here.
 */
import { join } from "node:path";
import { stringify } from "yaml";
import { natsServerConfig } from "./nats-config.ts";
import { nginxConfig } from "./nginx.ts";
import type { Counts, PortTable } from "./ports.ts";
import type { Readiness } from "./readiness.ts";

export const KINTSUGI_ROLES = ["gateway", "node", "healer"] as const;
export type KintsugiRole = (typeof KINTSUGI_ROLES)[number];
export type ProcessRole = KintsugiRole | "nats" | "nginx";

export type ProcessPlan = {
  readonly name: string;
  readonly role: ProcessRole;
  readonly command: string;
  readonly args: readonly string[];
  readonly cwd: string;
  readonly env: NodeJS.ProcessEnv;
  /** Where others reach it: `http://…`, for nats-servers `nats://…`. */
  readonly url: string;
  /** Every port it listens on. */
  readonly ports: readonly number[];
  readonly host: string;
  readonly dataDir: string;
  readonly logFile: string;
  readonly readiness: Readiness;
  readonly readyMsMax: number;
  readonly stopSignal: NodeJS.Signals;
  /** After that it is killed. */
  readonly stopMsMax: number;
};

export type PlannedFile = { readonly path: string; readonly text: string; readonly mode: number };

export type ClusterPlan = {
  readonly dir: string;
  /** Where clients go. */
  readonly url: string;
  /** In the order in which one reads about them. */
  readonly processes: readonly ProcessPlan[];
  readonly files: readonly PlannedFile[];
  readonly configFile: string;
  readonly natsUrls: readonly string[];
  readonly monitorUrls: readonly string[];
};

export type PlanInput = {
  /** Absolute. */
  readonly dir: string;
  readonly counts: Counts;
  /** How many nodes there were when the cluster was made: its erasure code is fixed since then. */
  readonly nodesFounded: number;
  readonly ports: PortTable;
  readonly programs: Programs;
  readonly natsPassword: string;
  /** Of this machine. */
  readonly cores: number;
  /** What all processes inherit. */
  readonly env: NodeJS.ProcessEnv;
  /** Added for one process. */
  readonly envOf?: (name: string) => Readonly<Record<string, string>>;
  /** Where clients are listened to: by nginx, or without one by the first gateway. */
  readonly frontHost?: string;
  /** Address that any other part listens on and is reached at; loopback where it is not given. */
  readonly hostOf?: (name: string) => string;
  /** Put before a command, such as `ip netns exec NAME`. */
  readonly prefixOf?: (name: string) => readonly string[];
  /** Laid over the settings file, section by section. */
  readonly settings?: SettingsTree;
};

export type SettingsTree = { readonly [name: string]: unknown };

export type Programs = {
  /** What runs `src/main.ts`, with that path: `node …/src/main.ts`. */
  readonly kintsugi: readonly string[];
  readonly natsServer: string;
  /** Null: clients talk to a gateway. */
  readonly nginx: string | null;
};

export const NATS_USER = "kintsugi";
export const SECRET_FILES = { cluster: "secrets/cluster-secret", natsPassword: "secrets/nats-password" } as const;

const LOOPBACK = "127.0.0.1";
const READY_MS_MAX = 60_000;
/** Longer than a gateway lets requests finish by itself. */
const STOP_MS_MAX = 15_000;
const NGINX_STOP_MS_MAX = 3_000;

export function planCluster(input: PlanInput): ClusterPlan {
  const hostOf = hostsOf(input);
  const names = namesOf(input.counts);
  const nats = names.nats.map((name, index) => ({ name, host: hostOf(name), ports: must(input.ports.nats[index]) }));
  const configFile = join(input.dir, "kintsugi.yaml");
  const members = {
    gateway: names.gateway.map((name, index) => ({ name, port: gatewayPort(input, index) })),
    node: names.node.map((name, index) => ({ name, port: must(input.ports.nodes[index]) })),
    healer: names.healer.map((name, index) => ({ name, port: must(input.ports.healers[index]) })),
  };
  const gatewayAddresses = members.gateway.map(({ name, port }) => `${hostOf(name)}:${port}`);
  const [firstGateway] = members.gateway as [{ name: string; port: number }];
  const front = input.programs.nginx === null ? null : planNginx(input, input.programs.nginx, gatewayAddresses);
  const natsUrls = nats.map(({ host, ports }) => `nats://${host}:${ports.client}`);
  const monitorUrls = nats.map(({ host, ports }) => `http://${host}:${ports.monitor}`);
  return {
    dir: input.dir,
    url: front?.process.url ?? urlOf(hostOf(firstGateway.name), firstGateway.port),
    processes: [
      ...(front === null ? [] : [front.process]),
      ...KINTSUGI_ROLES.flatMap((role) =>
        members[role].map((member) => planMember(input, { ...member, role, host: hostOf(member.name), configFile })),
      ),
      ...nats.map((server) => planNats(input, server)),
    ],
    files: [
      { path: configFile, text: settingsFile(input, natsUrls, monitorUrls), mode: 0o644 },
      ...nats.map((server) => natsFile(input, server, nats)),
      ...(front === null ? [] : [front.file]),
    ],
    configFile,
    natsUrls,
    monitorUrls,
  };
}

/** The erasure code that so many nodes can hold. */
export function codeFor(nodes: number): { readonly k: number; readonly m: number } {
  if (nodes >= 6) return { k: 4, m: 2 };
  return nodes === 3 ? { k: 2, m: 1 } : { k: nodes - 2, m: 2 };
}

function namesOf(counts: Counts) {
  const list = (kind: string, count: number) => Array.from({ length: count }, (_, index) => `${kind}-${index + 1}`);
  return {
    gateway: list("gateway", counts.gateways),
    node: list("node", counts.nodes),
    healer: list("healer", counts.healers),
    nats: list("nats", counts.natsServers),
  };
}

function hostsOf({ programs, frontHost = LOOPBACK, hostOf = () => LOOPBACK }: PlanInput): (name: string) => string {
  const front = programs.nginx === null ? "gateway-1" : "nginx";
  return (name) => (name === front && frontHost !== LOOPBACK ? frontHost : hostOf(name));
}

/** Without nginx the first gateway stands where clients look for the store. */
function gatewayPort({ ports, programs }: PlanInput, index: number): number {
  return index === 0 && programs.nginx === null ? ports.front : must(ports.gateways[index]);
}

type Member = {
  readonly role: KintsugiRole;
  readonly name: string;
  readonly host: string;
  readonly port: number;
  readonly configFile: string;
};

function planMember(input: PlanInput, { role, name, host, port, configFile }: Member): ProcessPlan {
  const dataDir = join(input.dir, name);
  const flags = [role, "--config", configFile, "--name", name, "--host", host, "--port", String(port)];
  return {
    ...planOf(input, name, [...input.programs.kintsugi, ...flags, "--data-dir", dataDir]),
    role,
    host,
    url: urlOf(host, port),
    ports: [port],
    dataDir,
    readiness: { kind: "line", start: `Kintsugi ${role} ${name} is ready at ` },
    readyMsMax: READY_MS_MAX,
    stopSignal: "SIGTERM",
    stopMsMax: STOP_MS_MAX,
  };
}

type NatsMember = { readonly name: string; readonly host: string; readonly ports: PortTable["nats"][number] };

function planNats(input: PlanInput, { name, host, ports }: NatsMember): ProcessPlan {
  const dataDir = join(input.dir, name);
  const command = planOf(input, name, [input.programs.natsServer, "-c", join(dataDir, "nats.conf")]);
  return {
    ...command,
    env: { ...shareOfCores(input.cores, input.counts.natsServers), ...command.env },
    role: "nats",
    host,
    url: `nats://${host}:${ports.client}`,
    ports: Object.values(ports),
    dataDir,
    readiness: { kind: "http", url: `http://${host}:${ports.monitor}/healthz?js-enabled-only=true` },
    readyMsMax: READY_MS_MAX,
    stopSignal: "SIGINT",
    stopMsMax: STOP_MS_MAX,
  };
}

/** A server takes all cores for its own, and several on one machine then spend a third of their time on taking turns. */
export function shareOfCores(cores: number, servers: number): Record<string, string> {
  return servers === 1 ? {} : { GOMAXPROCS: String(Math.ceil(cores / servers)) };
}

function natsFile(input: PlanInput, { name, host, ports }: NatsMember, all: readonly NatsMember[]): PlannedFile {
  const text = natsServerConfig({
    ...{ name, host, ports },
    clusterName: "kintsugi",
    storeDir: join(input.dir, name, "jetstream"),
    routes: all.map((server) => ({ host: server.host, port: server.ports.route })),
    login: { user: NATS_USER, password: input.natsPassword },
    syncInterval: "always",
    fileStoreMax: null,
  });
  return { path: join(input.dir, name, "nats.conf"), text, mode: 0o600 };
}

function planNginx(input: PlanInput, program: string, gateways: readonly string[]) {
  const name = "nginx";
  const host = hostsOf(input)(name);
  const dataDir = join(input.dir, name);
  const port = input.ports.front;
  const process: ProcessPlan = {
    ...planOf(input, name, [program, "-p", `${dataDir}/`, "-c", "nginx.conf", "-e", "stderr"]),
    role: "nginx",
    host,
    url: urlOf(host, port),
    ports: [port],
    dataDir,
    readiness: { kind: "port", host: host === "0.0.0.0" ? LOOPBACK : host, port },
    readyMsMax: READY_MS_MAX,
    // Lets requests under way finish.
    stopSignal: "SIGQUIT",
    stopMsMax: NGINX_STOP_MS_MAX,
  };
  const text = nginxConfig({
    listen: `${host}:${port}`,
    gateways,
    temporaryDir: "temporary",
    pidFile: "nginx.pid",
    workers: 2,
    resolver: null,
  });
  return { process, file: { path: join(dataDir, "nginx.conf"), text, mode: 0o644 } };
}

function planOf(input: PlanInput, name: string, words: readonly string[]) {
  const [command, ...args] = [...(input.prefixOf?.(name) ?? []), ...words] as [string, ...string[]];
  const env = { ...input.env, ...input.envOf?.(name) };
  return { name, command, args, env, cwd: input.dir, logFile: join(input.dir, "logs", `${name}.log`) };
}

function settingsFile(input: PlanInput, natsUrls: readonly string[], monitorUrls: readonly string[]): string {
  const { k, m } = codeFor(input.nodesFounded);
  const settings = {
    nats: { servers: natsUrls, user: NATS_USER, monitorUrls },
    secrets: {
      clusterSecretFile: join(input.dir, SECRET_FILES.cluster),
      natsPasswordFile: join(input.dir, SECRET_FILES.natsPassword),
    },
    http: { trustedProxies: input.programs.nginx === null ? [] : [LOOPBACK] },
    cluster: {
      // Here all streams share one disk and its cores: more of them would only make smaller batches.
      metadataStreams: 1,
      streamReplicas: input.counts.natsServers,
      nodes: input.nodesFounded,
      bucketDefaults: { k, m },
    },
  };
  return `# Settings of every process of this cluster; what is its own alone stands on its command line.\n${stringify(
    mergeSettings(settings, input.settings ?? {}),
  )}`;
}

/** Sections are merged, everything else is replaced. */
function mergeSettings(base: SettingsTree, over: SettingsTree): SettingsTree {
  const merged: Record<string, unknown> = { ...base };
  for (const [name, value] of Object.entries(over)) {
    const own = merged[name];
    merged[name] = isSection(own) && isSection(value) ? mergeSettings(own, value) : value;
  }
  return merged;
}

function isSection(value: unknown): value is SettingsTree {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Nobody can connect to the address that stands for all of them. */
function urlOf(host: string, port: number): string {
  return `http://${host === "0.0.0.0" ? LOOPBACK : host}:${port}`;
}

function must<T>(value: T | undefined): T {
  if (value === undefined) throw new Error("There are fewer ports than processes");
  return value;
}
