/** `npm run cluster`: a whole cluster on this machine, from start to Ctrl-C. */
import { availableParallelism } from "node:os";
import { join, relative, resolve } from "node:path";
import { rename } from "node:fs/promises";
import { openClusterDir, type ClusterDir } from "./cluster-dir.ts";
import { startGuard } from "./guard.ts";
import { launchCluster, type LaunchedCluster } from "./launch.ts";
import { findNatsServer } from "./nats-server.ts";
import { findNginx } from "./nginx-server.ts";
import { HELP, parseClusterOptions, type ClusterOptions } from "./options.ts";
import { planCluster, type ClusterPlan } from "./plan.ts";
import { portsFromBase } from "./ports.ts";
import type { ProcessEvents } from "./process.ts";
import { clusterMap } from "./print-map.ts";
import { createRestarter } from "./restarts.ts";
import { createWarningFilter, warningOf } from "./warnings.ts";

const MAIN = join(import.meta.dirname, "../src/main.ts");
const EXIT = { ok: 0, failure: 1, usage: 2, killed: 130 } as const;
/** npm passes a Ctrl-C on that the terminal has sent already: what follows so soon is not a second wish. */
const SAME_SIGNAL_MS = 750;

async function main(args: readonly string[]): Promise<number> {
  const parsed = parseClusterOptions(args);
  if (parsed.kind === "help") say(HELP);
  if (parsed.kind === "wrong") complain(`${parsed.message}\nSee npm run cluster -- --help`);
  if (parsed.kind !== "run") return parsed.kind === "help" ? EXIT.ok : EXIT.usage;
  const stop = listenForStop();
  const dir = resolve(parsed.options.dir);
  let folder: ClusterDir | null = null;
  try {
    folder = await openClusterDir(dir, parsed.options);
    const plan = planOf(parsed.options, dir, folder);
    await Promise.all(plan.processes.map(({ logFile }) => rename(logFile, `${logFile}.1`).catch(() => {})));
    return await runCluster(plan, parsed.options, stop);
  } catch (cause) {
    if (stop.asked.aborted) return EXIT.ok;
    complain((cause as Error).message);
    return EXIT.failure;
  } finally {
    await folder?.release();
  }
}

async function runCluster(plan: ClusterPlan, options: ClusterOptions, stop: StopWish): Promise<number> {
  const startedAt = performance.now();
  const shownLogs = shownPath(join(plan.dir, "logs"));
  say(`Starting ${countsOf(plan)}; logs in ${shownLogs} ...`);
  let running: LaunchedCluster | null = null;
  const kill = () => void (running?.kill() ?? Promise.resolve()).then(() => process.exit(EXIT.killed));
  stop.onSecond(kill);
  const guard = startGuard();
  try {
    running = await launchCluster(plan, { guard, signal: stop.asked, events: eventsOf(options, stop) });
    const pids = new Map(running.processes.map(({ name, pid }) => [name, pid]));
    const pidOf = (name: string) => pids.get(name) ?? 0;
    const { problems } = running;
    const startedInMs = performance.now() - startedAt;
    say(`\n${clusterMap({ plan, pidOf, startedInMs, problems, restart: options.restart, cwd: process.cwd() })}\n`);
    await stop.wished;
    say("\nStopping; press Ctrl-C again to kill ...");
    await running.stop();
  } finally {
    await guard.close();
  }
  say("Everything has stopped.");
  return EXIT.ok;
}

function planOf(options: ClusterOptions, dir: string, folder: ClusterDir): ClusterPlan {
  return planCluster({
    dir,
    counts: options,
    nodesFounded: folder.nodesFounded,
    ports: portsFromBase(options.basePort, options.port, options),
    programs: {
      kintsugi: [process.execPath, MAIN],
      natsServer: findNatsServer(),
      nginx: options.nginx ? nginxIfAny() : null,
    },
    natsPassword: folder.natsPassword,
    cores: availableParallelism(),
    env: environmentOf(dir),
    frontHost: options.host,
  });
}

/** The settings of a single store that this shell may have are not meant for a cluster's processes. */
function environmentOf(dir: string): NodeJS.ProcessEnv {
  const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith("KINTSUGI_"));
  // A dozen processes load the same modules at once: with what Node made of them the last time, in half the time.
  return { ...Object.fromEntries(inherited), NODE_COMPILE_CACHE: join(dir, "compile-cache") };
}

function nginxIfAny(): string | null {
  try {
    return findNginx();
  } catch (cause) {
    say(`${(cause as Error).message}: going on without, clients talk to the first gateway.`);
    return null;
  }
}

function eventsOf(options: ClusterOptions, stop: StopWish): ProcessEvents {
  const signal = stop.asked;
  const onDied = createRestarter({ restart: options.restart, say: (line) => say(`${timeOfDay()} ${line}`), signal });
  const filter = createWarningFilter();
  return {
    onDied: (died, exit) => void onDied(died, exit),
    onLine({ name, plan }, line) {
      const warning = signal.aborted ? null : warningOf(plan.role, line);
      const shown = warning === null ? null : filter(name, warning, shownPath(plan.logFile));
      if (shown !== null) say(`${timeOfDay()} ${shown}`);
    },
  };
}

type StopWish = {
  /** Aborted by the first Ctrl-C. */
  readonly asked: AbortSignal;
  readonly wished: Promise<void>;
  onSecond(kill: () => void): void;
};

function listenForStop(): StopWish {
  const asked = new AbortController();
  const { promise: wished, resolve: wish } = Promise.withResolvers<void>();
  let firstAt = 0;
  let kill = () => {};
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(signal, () => {
      if (!asked.signal.aborted) {
        firstAt = performance.now();
        asked.abort(new Error("stopped while it started"));
        wish();
      } else if (performance.now() - firstAt > SAME_SIGNAL_MS) kill();
    });
  }
  return { asked: asked.signal, wished, onSecond: (act) => void (kill = act) };
}

function countsOf({ processes }: ClusterPlan): string {
  const count = (role: string, one: string, many: string) => {
    const number = processes.filter((process) => process.role === role).length;
    return number === 0 ? [] : [`${number} ${number === 1 ? one : many}`];
  };
  return [
    ...count("nats", "nats-server", "nats-servers"),
    ...count("node", "node", "nodes"),
    ...count("gateway", "gateway", "gateways"),
    ...count("healer", "healer", "healers"),
    ...(processes.some(({ role }) => role === "nginx") ? ["nginx"] : []),
  ].join(", ");
}

/** As seen from here, unless that would be a climb. */
function shownPath(path: string): string {
  const fromHere = relative(process.cwd(), path);
  return fromHere.startsWith("..") ? path : fromHere;
}

function timeOfDay(): string {
  return new Date().toISOString().slice(11, 19);
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

function complain(text: string): void {
  process.stderr.write(`${text}\n`);
}

// A reader that went away, as `head` does, must not end the cluster half-way through a stop.
for (const output of [process.stdout, process.stderr]) output.on("error", () => {});
process.exitCode = await main(process.argv.slice(2));
process.stdout.write("", () => process.exit());
