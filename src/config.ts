/**
 * The only reader of environment and settings files. Everything else gets a frozen `Config` passed down.
 *
 * Sources in rising order: defaults, `kintsugi.yaml`, `KINTSUGI_*` environment, flags. All problems of all sources are
 * found in one go. Nothing unknown is skipped over: a misspelt setting is an error, not a default.
 */
import { readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { findContradictions } from "./config/contradictions.ts";
import { nearestName } from "./config/nearest.ts";
import {
  DEFAULTS,
  exactSourceOf,
  formatConfigProblems,
  problemsOf,
  sourceOf,
  type ConfigProblem,
  type Override,
  type Path,
} from "./config/problems.ts";
import { listSettings, settingsSchema, type LOG_FORMATS, type LOG_LEVELS, type Settings } from "./config/schema.ts";
import { parseSettingsFile, type SettingsFile } from "./config/settings-file.ts";
import { showValue } from "./config/values.ts";
import { StoreError } from "./domain/errors.ts";
import type { BucketName, NodeName } from "./domain/ids.ts";
import type { ProcessRole } from "./domain/node-info.ts";
import type { BucketSettings } from "./domain/settings.ts";
import type { FaultPoint } from "./lib/fault-points.ts";

export type NodeConfig = {
  readonly name: NodeName;
  readonly region: string;
  readonly zone: string;
  /** Relative capacity, above 0. */
  readonly weight: number;
};

export type Credentials = {
  readonly clusterSecret: string | null;
  readonly natsPassword: string | null;
  readonly natsToken: string | null;
};

/** What must be equal in every process of a cluster; `nodes` are those of the embedded store alone. */
export type ClusterConfig = {
  readonly name: string;
  readonly metadataStreams: number;
  readonly streamReplicas: number;
  readonly nodes: readonly NodeConfig[];
  readonly bucketDefaults: BucketSettings;
  /** Only buckets with settings of their own, complete; ask `bucketSettings`. */
  readonly buckets: Readonly<Record<string, BucketSettings>>;
};

/** How much is done behind the scenes, and when. Rates are per process; null: no bound. */
export type HealingConfig = {
  readonly rebuildAfterMs: number;
  readonly auditEveryMs: number;
  readonly orphanGraceMs: number;
  readonly undeleteMs: number;
  readonly keepRecordsMs: number;
  readonly repairBytesPerSecond: number | null;
  readonly repairBytesInFlight: number;
  readonly scrubBytesPerSecond: number | null;
  readonly scrubEveryMs: number;
  readonly compactBelow: number;
  readonly compactBytesPerSecond: number | null;
  readonly balanceEveryMs: number;
  readonly balanceSpread: number;
  readonly balanceBytesMin: number;
  readonly heatReadsMin: number;
  readonly heatCopiesMax: number;
  readonly heatBytesMax: number;
  readonly heatCoolMs: number;
};

/** Everything an operator decided. Each setting is explained in `config/schema.ts`. */
export type Config = {
  readonly host: string;
  /** Null: the usual one of the role. */
  readonly port: number | null;
  /** Null: the role and the host name. */
  readonly name: string | null;
  /** `host:port`; null: where it listens. */
  readonly advertise: string | null;
  readonly region: string;
  readonly zone: string;
  readonly weight: number;
  readonly dataDir: string;
  readonly logLevel: (typeof LOG_LEVELS)[number];
  readonly logFormat: (typeof LOG_FORMATS)[number];
  readonly threads: number;
  readonly memory: { readonly inFlightBytesMax: number };
  readonly storage: { readonly volumeBytesMax: number; readonly freeBytesMin: number };
  readonly cache: { readonly bytesMax: number; readonly entryBytesMax: number; readonly ttlMs: number };
  readonly healing: HealingConfig;
  readonly timeouts: {
    readonly metadataMs: number;
    readonly nodeMs: number;
    readonly stragglerMs: number;
    readonly memoryMs: number;
    readonly drainMs: number;
  };
  readonly http: {
    readonly objectBytesMax: number;
    readonly connectionsMax: number;
    /** 0: no minimum. */
    readonly bodyBytesPerSecondMin: number;
    /** Per client address; null: no limit. */
    readonly writesPerSecondMax: number | null;
    /** Addresses or CIDR networks. */
    readonly trustedProxies: readonly string[];
  };
  readonly nats: {
    readonly servers: readonly string[];
    readonly user: string | null;
    readonly credsFile: string | null;
    readonly tlsCaFile: string | null;
    readonly tlsCertFile: string | null;
    readonly tlsKeyFile: string | null;
    readonly monitorUrls: readonly string[];
    readonly allowUnsafe: boolean;
    readonly requestsMax: number;
  };
  /** Where secrets are kept. */
  readonly secrets: {
    readonly clusterSecretFile: string | null;
    readonly natsPasswordFile: string | null;
    readonly natsTokenFile: string | null;
  };
  /** The secrets themselves: never shown, never logged. */
  readonly credentials: Credentials;
  readonly events: { readonly ageMsMax: number; readonly bytesMax: number };
  readonly cluster: ClusterConfig;
  /** A fault point, optionally `name:n` for the n-th time it is reached, where a test wants this process killed; `/stop` behind it: stopped. */
  readonly testKillAt: string | null;
  /** A bug that a test wants in this process, to see that it is found. */
  readonly testBug: TestBug | null;
};

/** A setting given on the command line: where it belongs, its text, and what the user typed. */
export type FlagSetting = { readonly path: string; readonly value: string; readonly flag: string };

export type ConfigSources = {
  /** File named by a flag; it must exist. Null: `KINTSUGI_CONFIG`, else `kintsugi.yaml` if there is one. */
  readonly configFile: string | null;
  readonly flags: readonly FlagSetting[];
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Null when there is no such file; throws when it cannot be read. */
  readonly readFile: (path: string) => string | null;
  /** How many threads the machine runs at once. */
  readonly cores: number;
};

export type ConfigResult =
  | { readonly ok: true; readonly config: Config }
  | { readonly ok: false; readonly problems: readonly ConfigProblem[] };

export const CONFIG_FILE_DEFAULT = "kintsugi.yaml";
const ENV_PREFIX = "KINTSUGI_";
/** Variables that are not settings of the store: where the file is, which store clients talk to, and the test hooks. */
const ENV_CONFIG = "KINTSUGI_CONFIG";
const ENV_URL = "KINTSUGI_URL";
const ENV_NATS = "KINTSUGI_NATS";
const ENV_TEST_KILL_AT = "KINTSUGI_TEST_KILL_AT";
const ENV_TEST_BUG = "KINTSUGI_TEST_BUG";
/** Secrets and the settings that name a file for them. A secret is no setting: it never stands in a file with others. */
const SECRETS = [
  { name: "clusterSecret", variable: "KINTSUGI_CLUSTER_SECRET", fileSetting: "clusterSecretFile" },
  { name: "natsPassword", variable: "KINTSUGI_NATS_PASSWORD", fileSetting: "natsPasswordFile" },
  { name: "natsToken", variable: "KINTSUGI_NATS_TOKEN", fileSetting: "natsTokenFile" },
] as const satisfies readonly { name: keyof Credentials; variable: string; fileSetting: keyof Config["secrets"] }[];
const CLUSTER_SECRET_CHARACTERS_MIN = 16;
const NOT_SETTINGS: ReadonlySet<string> = new Set([
  ...[ENV_CONFIG, ENV_URL, ENV_NATS, ENV_TEST_KILL_AT, ENV_TEST_BUG],
  ...SECRETS.map(({ variable }) => variable),
]);

const FAULT_POINTS = {
  "put.parsed": true,
  "put.intent-durable": true,
  "put.encoded": true,
  "put.cell-sent": true,
  "put.quorum-durable": true,
  "put.committed": true,
  "put.settled": true,
  "patch.parsed": true,
  "patch.committed": true,
  "delete.parsed": true,
  "delete.committed": true,
  "undelete.parsed": true,
  "undelete.committed": true,
} satisfies Record<FaultPoint, true>;

/** ack-early: a node acknowledges what it has not stored yet. stale-reads: a gateway answers what it knew a moment ago. */
export const TEST_BUGS = ["ack-early", "stale-reads"] as const;
export type TestBug = (typeof TEST_BUGS)[number];

const PORTS = { all: 8_000, gateway: 8_000, node: 8_100, healer: 8_200 } as const satisfies Record<
  ProcessRole | "all",
  number
>;

/** The port that a process of this role listens on. */
export function portOf(config: Pick<Config, "port">, role: ProcessRole | "all"): number {
  return config.port ?? PORTS[role];
}

/** @throws {StoreError} `config_invalid` with every problem, one per line */
export function loadConfig(sources: ConfigSources): Config {
  const result = readConfig(sources);
  if (result.ok) return result.config;
  throw new StoreError("config_invalid", formatConfigProblems(result.problems), {
    details: { problems: result.problems.length },
  });
}

/** Like `loadConfig`, with the problems as data. */
export function readConfig(sources: ConfigSources): ConfigResult {
  const problems: ConfigProblem[] = [];
  const file = openSettingsFile(sources, problems);
  const fileBroken = problems.length > 0;
  const environment = overridesOfEnvironment(sources.env, problems);
  const flags = sources.flags.map((flag) => ({ path: flag.path.split("."), value: flag.value, source: flag.flag }));
  const overrides = [...environment, ...flags];

  const parsed = settingsSchema.safeParse(mergeOverrides(file?.data ?? {}, overrides));
  const blame = (path: Path) => sourceOf(path, file, overrides);
  if (!parsed.success) problems.push(...parsed.error.issues.flatMap((issue) => problemsOf(issue, blame)));
  const killAt = sources.env[ENV_TEST_KILL_AT] || null;
  if (killAt !== null && !isFaultPoint(killAt)) {
    problems.push({ source: ENV_TEST_KILL_AT, path: "", message: `${showValue(killAt)} is no fault point` });
  }
  const bugName = sources.env[ENV_TEST_BUG] || null;
  const testBug = TEST_BUGS.find((bug) => bug === bugName) ?? null;
  if (bugName !== testBug) {
    problems.push({ source: ENV_TEST_BUG, path: "", message: `${showValue(bugName)} is no bug of ours` });
  }
  if (!parsed.success || fileBroken) return { ok: false, problems };

  const credentials = readCredentials(parsed.data, sources, problems);
  const config = configOf(parsed.data, sources.cores, { credentials, testKillAt: killAt, testBug });
  for (const { path, against, message } of findContradictions(config.cluster)) {
    const source = exactSourceOf(path, file, overrides) ?? exactSourceOf(against, file, overrides) ?? DEFAULTS;
    problems.push({ source, path: path.join("."), message });
  }
  return problems.length === 0 ? { ok: true, config: deepFreeze(config) } : { ok: false, problems };
}

/** What a bucket decides: its own settings, else the defaults. */
export function bucketSettings(config: Config, bucket: BucketName): BucketSettings {
  const own = Object.hasOwn(config.cluster.buckets, bucket) ? config.cluster.buckets[bucket] : undefined;
  return own ?? config.cluster.bucketDefaults;
}

/** The environment variable of a setting: `timeouts.drainMs` is `KINTSUGI_TIMEOUTS_DRAIN_MS`. */
export function environmentName(path: readonly string[]): string {
  const words = path.map((step) => step.replace(/[A-Z]/g, (letter) => `_${letter}`));
  return `${ENV_PREFIX}${words.join("_").toUpperCase()}`;
}

/** What the running process offers as sources. */
export function systemConfigSources(): Pick<ConfigSources, "env" | "readFile" | "cores"> {
  return { env: process.env, readFile: readFileIfPresent, cores: availableParallelism() };
}

function readFileIfPresent(path: string): string | null {
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw cause;
  }
}

function openSettingsFile(sources: ConfigSources, problems: ConfigProblem[]): SettingsFile | null {
  const named = sources.configFile ?? (sources.env[ENV_CONFIG] || null);
  const name = named ?? CONFIG_FILE_DEFAULT;
  const refuse = (message: string, line?: number) =>
    void problems.push({ source: line === undefined ? name : `${name}:${line}`, path: "", message });
  let yaml: string | null;
  try {
    yaml = sources.readFile(name);
  } catch (cause) {
    refuse(`the file cannot be read: ${cause instanceof Error ? cause.message : String(cause)}`);
    return null;
  }
  if (yaml === null) {
    if (named !== null) refuse("there is no such file");
    return null;
  }
  const result = parseSettingsFile(name, yaml);
  if (result.ok) return result.file;
  for (const problem of result.problems) refuse(problem.message, problem.line);
  return null;
}

function overridesOfEnvironment(env: ConfigSources["env"], problems: ConfigProblem[]): Override[] {
  const paths = new Map(listSettings().map((entry) => [environmentName(entry.path), entry.path]));
  const overrides: Override[] = [];
  for (const [name, value] of Object.entries(env)) {
    // An empty variable counts as unset: that is how shells and compose files clear one.
    if (!name.startsWith(ENV_PREFIX) || value === undefined || value === "") continue;
    if (NOT_SETTINGS.has(name)) continue;
    const path = paths.get(name);
    if (path === undefined) {
      const nearest = nearestName(name, [...paths.keys(), ...NOT_SETTINGS]);
      problems.push({ source: name, path: "", message: `unknown variable, did you mean ${nearest?.name}?` });
    } else {
      overrides.push({ path, value, source: name });
    }
  }
  return overrides;
}

/** Sets each override in a copy of the file's tree; a later one wins. */
function mergeOverrides(data: unknown, overrides: readonly Override[]): unknown {
  const root = structuredClone(data) as Record<string, unknown>;
  for (const { path, value } of overrides) {
    let parent = root;
    for (const step of path.slice(0, -1)) {
      const child = Object.hasOwn(parent, step) ? parent[step] : undefined;
      const section = typeof child === "object" && child !== null && !Array.isArray(child) ? child : {};
      setOwn(parent, step, section);
      parent = section as Record<string, unknown>;
    }
    setOwn(parent, path.at(-1) as string, value);
  }
  return root;
}

function setOwn(target: Record<string, unknown>, name: string, value: unknown): void {
  Object.defineProperty(target, name, { value, enumerable: true, writable: true, configurable: true });
}

function configOf(
  settings: Settings,
  cores: number,
  apart: Pick<Config, "credentials" | "testKillAt" | "testBug">,
): Config {
  const { cluster, threads, ...process } = settings;
  const buckets: Record<string, BucketSettings> = Object.create(null) as Record<string, BucketSettings>;
  for (const [name, own] of Object.entries(cluster.buckets)) {
    const given = Object.fromEntries(Object.entries(own).filter(([, value]) => value !== undefined));
    buckets[name] = { ...cluster.bucketDefaults, ...given };
  }
  const nodes = cluster.nodes.map((node) => ({ ...node, name: node.name as NodeName }));
  return {
    ...process,
    threads: threads ?? Math.max(1, cores),
    cluster: { ...cluster, nodes, buckets },
    ...apart,
  };
}

/** A variable wins over a file. A file's last line end is not part of the secret. */
function readCredentials(settings: Settings, sources: ConfigSources, problems: ConfigProblem[]): Credentials {
  const credentials: Record<keyof Credentials, string | null> = {
    clusterSecret: null,
    natsPassword: null,
    natsToken: null,
  };
  for (const { name, variable, fileSetting } of SECRETS) {
    const file = settings.secrets[fileSetting];
    const source = sources.env[variable] ? variable : `secrets.${fileSetting}`;
    const refuse = (message: string) => problems.push({ source, path: "", message });
    try {
      const text = sources.env[variable] || (file === null ? null : sources.readFile(file));
      if (text === null && file !== null) refuse(`there is no file ${file}`);
      credentials[name] = text === null ? null : text.replace(/\r?\n$/, "");
    } catch (cause) {
      refuse(`the file cannot be read: ${cause instanceof Error ? cause.message : String(cause)}`);
    }
    if (name === "clusterSecret" && (credentials[name]?.length ?? Infinity) < CLUSTER_SECRET_CHARACTERS_MIN) {
      refuse(`the secret is too short: give at least ${CLUSTER_SECRET_CHARACTERS_MIN} characters`);
    }
  }
  return credentials;
}

function isFaultPoint(text: string): boolean {
  const [point = "", occurrence, ...rest] = text.replace(/\/stop$/, "").split(":");
  return Object.hasOwn(FAULT_POINTS, point) && rest.length === 0 && /^[1-9]\d*$/.test(occurrence ?? "1");
}

function deepFreeze<T>(value: T): T {
  if (typeof value === "object" && value !== null) {
    for (const child of Object.values(value)) deepFreeze(child);
    Object.freeze(value);
  }
  return value;
}
