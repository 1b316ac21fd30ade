/**
 * The architecture as a table, read by the linter. What is not allowed here does not pass the gate; a folder that is
 * not named here does not pass either, so that every new one is given its place on purpose.
 */
const PORTS = ["blob", "coding", "desk", "heat", "lease", "membership", "metadata", "wal", "work"];
const DATA = ["lib", "limits.ts", "domain"];
const BELOW_PORTS = [...DATA, "placement", "nats"];
const BELOW_OBJECT = [...BELOW_PORTS, ...PORTS];
const BELOW_ROLE = [...BELOW_OBJECT, "object", "healer", "node", "gateway", "runtime"];
const CONFIG = ["config", "config.ts"];

/** What each part of `src/` may import beside itself: folders and single files of `src/`, types included. */
export const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  lib: [],
  "limits.ts": ["lib"],
  domain: DATA,
  placement: DATA,
  nats: DATA,
  ...Object.fromEntries(PORTS.map((port) => [port, BELOW_PORTS])),
  runtime: DATA,
  node: [...BELOW_PORTS, "blob", "runtime"],
  object: BELOW_OBJECT,
  healer: [...BELOW_OBJECT, "object"],
  gateway: [...BELOW_OBJECT, "object", "healer", "runtime"],
  config: [...DATA, "config.ts"],
  "config.ts": [...DATA, "config"],
  client: [...DATA, "nats"],
  cli: [...DATA, ...CONFIG, "nats", "client"],
  compose: [...BELOW_ROLE, ...CONFIG],
  role: [...BELOW_ROLE, ...CONFIG, "compose"],
  "main.ts": [...BELOW_ROLE, ...CONFIG, "role", "cli"],
  workers: [...BELOW_PORTS, "coding"],
};

/** Packages that only some files may import; the rest of the program talks to them through a port. */
export const PACKAGE_HOMES: readonly { readonly packages: RegExp; readonly files: RegExp; readonly home: string }[] = [
  { packages: /^lmdb$/, files: /\/lmdb-[^/]+\.ts$/, home: "files named lmdb-*.ts" },
  { packages: /^piscina$/, files: /^src\/coding\//, home: "src/coding/" },
  {
    packages: /^(?:hono|@hono\/.+)$/,
    files: /^src\/(?:gateway|node|runtime)\//,
    home: "src/gateway/, src/node/ and src/runtime/",
  },
  {
    packages: /^@nats-io\//,
    files: /\/nats-[^/]+\.ts$|^src\/(?:gateway\/nats|client)\//,
    home: "nats-*.ts, src/gateway/nats/ and src/client/",
  },
];

/** The few files that touch what is different on every run; everything else is handed a Clock, a Random or a Config. */
export const NONDETERMINISM_HOMES = {
  time: /^src\/lib\/clock\.ts$/,
  randomness: /^src\/lib\/random\.ts$/,
  environment: /^src\/config(?:\.ts$|\/)/,
} as const;

/** Names that say nothing about what is inside. */
export const EMPTY_NAMES = /(?:^|[/-])(?:utils?|helpers?|services?|managers?|common|misc)(?:[-./]|$)/;

/** The part of the program a file belongs to (`lib`, `limits.ts`, `workers`), or null when it is no source of ours. */
export function partOf(path: string): string | null {
  if (path.startsWith("workers/")) return "workers";
  return path.startsWith("src/") ? (path.split("/")[1] ?? null) : null;
}
