/** The command line of `npm run cluster`. */
import { parseArgs } from "node:util";

export type ClusterOptions = {
  /** Where everything is kept, as given. */
  readonly dir: string;
  /** Removes what an earlier run left there before starting. */
  readonly clean: boolean;
  /** Where nginx listens, or the first gateway where there is no nginx; everything else is on loopback. */
  readonly host: string;
  readonly port: number;
  /** All other ports follow from it, see `ports.ts`. */
  readonly basePort: number;
  readonly natsServers: 1 | 3 | 5;
  readonly nodes: number;
  readonly gateways: number;
  readonly healers: number;
  readonly nginx: boolean;
  /** Starts again what ends by itself. */
  readonly restart: boolean;
};

export type ParsedOptions =
  | { readonly kind: "run"; readonly options: ClusterOptions }
  | { readonly kind: "help" }
  | { readonly kind: "wrong"; readonly message: string };

/** Fewer could not hold three replicas, or two data shards and one of parity. */
const NODES_MIN = 3;
const NODES_MAX = 64;
const PORT_DEFAULT = 8_000;

export const HELP = `Usage: npm run cluster -- [options]

Starts a whole Kintsugi cluster on this machine: nats-servers, storage nodes, gateways, healers and nginx.
Ctrl-C stops all of it in order; a second one kills.

  --dir PATH        where data, logs and secrets are kept between runs (default: data/cluster)
  --clean           forget what an earlier run stored there
  --port N          where nginx listens (default: the base port)
  --base-port N     first of the ports that all parts get (default: ${PORT_DEFAULT}): gateways from N+1,
                    nodes from N+101, healers from N+201, NATS from N+301
  --host ADDRESS    address that nginx listens on (default: 127.0.0.1); there is no authentication yet
  --gateways N      1 to 20 (default: 3)
  --nodes N         ${NODES_MIN} to ${NODES_MAX} (default: 6)
  --healers N       1 to 20 (default: 2)
  --nats N          1, 3 or 5 nats-servers (default: 3); cannot change later but with --clean
  --no-nginx        clients go to a gateway directly; the first one listens on --port
  --no-restart      what ends stays down
  --help            show this`;

const COUNTS = {
  gateways: { fallback: 3, min: 1, max: 20 },
  nodes: { fallback: 6, min: NODES_MIN, max: NODES_MAX },
  healers: { fallback: 2, min: 1, max: 20 },
} as const;

/** Nothing unknown is skipped over: a misspelt option is an error. */
export function parseClusterOptions(args: readonly string[]): ParsedOptions {
  let values: ReturnType<typeof readArgs>;
  try {
    values = readArgs(args);
  } catch (cause) {
    return { kind: "wrong", message: (cause as Error).message.split(". ")[0] ?? "unknown option" };
  }
  if (values.help === true) return { kind: "help" };
  const problems: string[] = [];
  const number = (name: keyof typeof values, { fallback, min, max }: Bounded) => {
    const text = values[name];
    if (text === undefined) return fallback;
    const value = /^\d+$/.test(String(text)) ? Number(text) : Number.NaN;
    if (value >= min && value <= max) return value;
    problems.push(`--${name} ${String(text)} is not allowed: give a number from ${min} to ${max}`);
    return fallback;
  };
  const basePort = number("base-port", { fallback: PORT_DEFAULT, min: 1_024, max: 65_535 - PORTS_SPAN });
  const natsServers = number("nats", { fallback: 3, min: 1, max: 5 });
  if (natsServers % 2 === 0) problems.push(`--nats ${natsServers} is not allowed: give 1, 3 or 5`);
  const options: ClusterOptions = {
    dir: values.dir ?? "data/cluster",
    clean: values.clean === true,
    host: values.host ?? "127.0.0.1",
    port: number("port", { fallback: basePort, min: 1, max: 65_535 }),
    basePort,
    natsServers: natsServers as 1 | 3 | 5,
    nodes: number("nodes", COUNTS.nodes),
    gateways: number("gateways", COUNTS.gateways),
    healers: number("healers", COUNTS.healers),
    nginx: values["no-nginx"] !== true,
    restart: values["no-restart"] !== true,
  };
  if (options.dir === "") problems.push("--dir is empty: give a folder");
  return problems.length === 0 ? { kind: "run", options } : { kind: "wrong", message: problems.join("\n") };
}

type Bounded = { readonly fallback: number; readonly min: number; readonly max: number };

/** How far above the base port the last port of a part may be. */
const PORTS_SPAN = 600;

function readArgs(args: readonly string[]) {
  const { values } = parseArgs({
    args: [...args],
    strict: true,
    allowPositionals: false,
    options: {
      dir: { type: "string" },
      clean: { type: "boolean" },
      port: { type: "string" },
      "base-port": { type: "string" },
      host: { type: "string" },
      gateways: { type: "string" },
      nodes: { type: "string" },
      healers: { type: "string" },
      nats: { type: "string" },
      "no-nginx": { type: "boolean" },
      "no-restart": { type: "boolean" },
      help: { type: "boolean", short: "h" },
    },
  });
  return values;
}
