/** One campaign: a cluster, a workload and faults from one seed, and then the question whether every promise was kept. */
import { mkdir, rm, symlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { openClusterDir } from "../../cluster/cluster-dir.ts";
import { startCluster, type LocalCluster } from "../support/cluster.ts";
import { mountSmallDisk, type SmallDisk } from "../support/disk/small-disk.ts";
import { createSeeded } from "../support/load/seeded.ts";
import { startNetwork, type TestNetwork } from "../support/network.ts";
import { checkHistory, type Violation } from "./checkers/check-history.ts";
import { HistoryRecorder } from "./history/recorder.ts";
import { readEverything, type Snapshot } from "./invariants/final-reads.ts";
import { runHealingJob } from "./invariants/healing-jobs.ts";
import { FAILOVER_MS_MAX, findLongRefusals } from "./invariants/liveness.ts";
import { compareFootprints, footprints } from "./invariants/processes.ts";
import { untilMended, untilNone, type Lack } from "./invariants/wholeness.ts";
import {
  clusterShape,
  describeShape,
  membersOf,
  NATS_SERVERS,
  SITES,
  siteOf,
  SMALL_DISK_BYTES,
  SMALL_DISK_NODE,
  STREAMS,
  type ClusterShape,
} from "./cluster-shape.ts";
import { ExitWatch } from "./schedule/exit-watch.ts";
import { describeFault, planFaults, type Fault, type FaultKind, type ScheduleOptions } from "./schedule/plan-faults.ts";
import { runFaults, type FaultSpan } from "./schedule/run-faults.ts";
import type { World } from "./workload/client.ts";
import { KeySpace } from "./workload/keys.ts";
import { ByteBudget } from "./workload/sizes.ts";
import { underLoad } from "./workload/under-load.ts";

export type CampaignOptions = {
  readonly seed: number;
  /** Of faults; starting, checking and waiting come on top. */
  readonly seconds: number;
  readonly kinds: readonly FaultKind[];
  /** Where logs and data go; whatever is there is removed. */
  readonly dir: string;
  /** Environment of every process, such as a bug that is switched on. */
  readonly env: Readonly<Record<string, string>>;
  /** Whether to wait until all is mended; else every key is only read once, which finds what is lost. */
  readonly untilMended: boolean;
  say(text: string): void;
};

export type CampaignResult = {
  readonly schedule: readonly Fault[];
  readonly recorder: HistoryRecorder;
  readonly problems: readonly string[];
  readonly violations: readonly Violation[];
};

const CLIENTS = 10;
const BYTES_PER_SECOND = 3 * 1_048_576;
const BYTES_FIRST = 16 * 1_048_576;
/** The load goes on behind the last fault: by then everything has to be served again. */
const PEACE_MS = FAILOVER_MS_MAX + 5_000;
/** Recovery leaves writes of gateways that live alone for a while. */
const SETTLED_MS_MAX = 180_000;
const WHOLE_MS_MAX = 120_000;
const JOB_MS_MAX = 60_000;
const NOTHING_LOST: readonly Lack[] = ["dirty objects", "missing blobs", "damaged blobs"];
const WHOLE: readonly Lack[] = [
  "open intents",
  "dirty objects",
  "missing blobs",
  "orphans",
  "outdated records",
  "damaged blobs",
];

export async function runCampaign(options: CampaignOptions): Promise<CampaignResult> {
  await using stage = await openStage(options);
  const { cluster, schedule, faults, recorder, world } = stage;
  const before = footprints(cluster);
  const spans: FaultSpan[] = [];
  const problems: string[] = [];
  const say = (text: string) => options.say(`${(recorder.nowMs() / 1_000).toFixed(1).padStart(6)} s  ${text}`);
  const exits = new ExitWatch(cluster, say);
  const corrupted = new Set<string>();
  // Nobody but a scrub finds bytes that have changed and are not read.
  const jobs = () => ["audit", ...(corrupted.size === 0 ? [] : ["scrub"])].map((kind) => `/cluster/healing/${kind}`);
  const untilWhole = async () => {
    const left = [
      ...(await lookForDamage(cluster, jobs())),
      ...(await untilMended(cluster, NOTHING_LOST, WHOLE_MS_MAX)),
    ];
    for (const problem of left) say(problem);
    return left.length === 0;
  };
  const injection = { ...stage, exits, corrupted, untilWhole, say, random: createSeeded(options.seed * 7 + 3) };
  const nowMs = () => recorder.nowMs();
  const beganMs = nowMs();
  await underLoad(options.seed, world, async () => {
    await runFaults({ injection, options: schedule, nowMs, spans }, faults);
    say("no more faults");
    if (options.untilMended) await sleep(PEACE_MS);
  });
  problems.push(...findLongRefusals(recorder.operations, spans, { fromMs: beganMs, toMs: nowMs() }));
  say(describeLoad(recorder));
  const quiet = { cluster, jobs, recorder, keys: world.keys, say };
  problems.push(...(await (options.untilMended ? checkQuiet(quiet) : checkReads(quiet))));
  problems.push(...compareFootprints(before, footprints(cluster)));
  await exits.close();
  problems.push(...exits.unexpected.map(({ name, how, lastLines }) => `I7: ${name} ${how}:\n${lastLines}`));
  problems.push(...recorder.contradictions);
  const startedMs = performance.now();
  const violations = checkHistory(recorder, world.keys);
  say(`history of ${recorder.operations.length} requests judged in ${Math.round(performance.now() - startedMs)} ms`);
  return { schedule: faults, recorder, problems, violations };
}

type Stage = AsyncDisposable & {
  readonly cluster: LocalCluster;
  readonly network: TestNetwork | null;
  readonly smallDisk: SmallDisk | null;
  readonly schedule: ScheduleOptions;
  readonly faults: readonly Fault[];
  readonly recorder: HistoryRecorder;
  readonly world: World;
};

/** Everything that a campaign needs, running. */
async function openStage({ seed, seconds, kinds, dir, env, say }: CampaignOptions): Promise<Stage> {
  await using stack = new AsyncDisposableStack();
  await rm(dir, { recursive: true, force: true });
  await mkdir(dirname(dir), { recursive: true });
  const random = createSeeded(seed);
  const shape = clusterShape(random);
  say(describeShape(shape));
  const network = kinds.includes("partition") ? await startNetwork(SITES) : null;
  if (typeof network === "string") say(`no partitions: ${network}`);
  else if (network !== null) stack.use(network);
  const smallDisk = kinds.includes("full-disk") ? await mountSmallDisk(SMALL_DISK_BYTES) : null;
  if (typeof smallDisk === "string") say(`no full disks: ${smallDisk}`);
  else if (smallDisk !== null) stack.use(smallDisk);
  const parts = {
    network: typeof network === "string" ? null : network,
    smallDisk: typeof smallDisk === "string" ? null : smallDisk,
  };
  const cluster = stack.use(await openCluster(dir, shape, env, parts));
  const can = { hasNetwork: parts.network !== null, hasSmallDisk: parts.smallDisk !== null };
  const schedule = scheduleOptionsOf(shape, { kinds, spanMs: seconds * 1_000, ...can });
  const faults = planFaults(random, schedule);
  for (const fault of faults) say(describeFault(fault));
  const recorder = new HistoryRecorder();
  const budget = new ByteBudget(BYTES_PER_SECOND, BYTES_FIRST, () => recorder.nowMs());
  const world = { recorder, budget, keys: new KeySpace(), gateways: cluster.gateways, clients: CLIENTS };
  const opened = stack.move();
  return { cluster, ...parts, schedule, faults, recorder, world, [Symbol.asyncDispose]: () => opened.disposeAsync() };
}

type Parts = { readonly network: TestNetwork | null; readonly smallDisk: SmallDisk | null };

async function openCluster(
  dir: string,
  shape: ClusterShape,
  env: Readonly<Record<string, string>>,
  { network, smallDisk }: Parts,
): Promise<LocalCluster> {
  const { settings, ...counts } = shape;
  if (smallDisk !== null) {
    const folder = await openClusterDir(dir, { clean: false, natsServers: NATS_SERVERS, nodes: counts.nodes });
    await folder.release();
    await mkdir(join(smallDisk.path, "data"));
    await symlink(join(smallDisk.path, "data"), join(dir, SMALL_DISK_NODE));
  }
  const names = [
    ...membersOf("gateway", counts.gateways),
    ...membersOf("node", counts.nodes),
    ...membersOf("healer", counts.healers),
  ];
  return await startCluster({
    ...{ gateways: counts.gateways, nodes: counts.nodes, healers: counts.healers, nats: NATS_SERVERS, dir, settings },
    env: Object.fromEntries(names.map((name) => [name, env])),
    ...(network === null
      ? {}
      : {
          hostOf: (name: string) => network.addressOf(siteOf(name)),
          prefixOf: (name: string) => network.prefixOf(siteOf(name)),
        }),
  });
}

/** What the seed would do on a machine where everything is possible. */
export function listFaults({ seed, seconds, kinds }: Pick<CampaignOptions, "seed" | "seconds" | "kinds">): string[] {
  const random = createSeeded(seed);
  const shape = clusterShape(random);
  const everything = { hasNetwork: kinds.includes("partition"), hasSmallDisk: kinds.includes("full-disk") };
  const options = scheduleOptionsOf(shape, { kinds, spanMs: seconds * 1_000, ...everything });
  return [describeShape(shape), ...planFaults(random, options).map(describeFault)];
}

function scheduleOptionsOf(
  shape: ClusterShape,
  options: Pick<ScheduleOptions, "kinds" | "spanMs"> & { readonly hasNetwork: boolean; readonly hasSmallDisk: boolean },
): ScheduleOptions {
  const { kinds, spanMs, hasNetwork, hasSmallDisk } = options;
  return {
    ...{ kinds, spanMs },
    gateways: membersOf("gateway", shape.gateways),
    nodes: membersOf("node", shape.nodes),
    healers: membersOf("healer", shape.healers),
    nats: membersOf("nats", NATS_SERVERS),
    sites: hasNetwork ? SITES : [],
    streams: STREAMS,
    smallDiskNode: hasSmallDisk ? SMALL_DISK_NODE : "",
  };
}

type Quiet = {
  readonly cluster: LocalCluster;
  jobs(): readonly string[];
  readonly recorder: HistoryRecorder;
  readonly keys: KeySpace;
  say(text: string): void;
};

async function checkReads({ cluster, recorder, keys }: Quiet): Promise<string[]> {
  return (await readEverything(recorder, keys, cluster.gateways)).problems;
}

async function checkQuiet(quiet: Quiet): Promise<string[]> {
  const { cluster, jobs, recorder, keys, say } = quiet;
  const problems: string[] = [];
  problems.push(...(await untilNone(cluster, ["open intents"], SETTLED_MS_MAX)));
  say("no intent is open");
  const first = await readEverything(recorder, keys, cluster.gateways);
  problems.push(...first.problems);
  say(`${first.found.size} keys read through ${cluster.gateways.length} gateways`);
  const lack = [...(await lookForDamage(cluster, jobs())), ...(await untilNone(cluster, WHOLE, WHOLE_MS_MAX))];
  problems.push(...lack);
  say(lack.length === 0 ? "everything is whole" : `not everything is whole: ${lack.join("; ")}`);
  const second = await readEverything(recorder, keys, cluster.gateways);
  problems.push(...second.problems, ...compareSnapshots(first.found, second.found));
  return problems;
}

/** Has the cluster look for everything that is wrong with it. */
async function lookForDamage(cluster: LocalCluster, jobs: readonly string[]): Promise<string[]> {
  const failures = await Promise.all(jobs.map((path) => runHealingJob(cluster, path, JOB_MS_MAX)));
  return failures.filter((failure) => failure !== null).map((failure) => `I6: ${failure}`);
}

/** I3: what an unknown outcome came to stays so. */
function compareSnapshots(first: Snapshot, second: Snapshot): string[] {
  return [...first].flatMap(([key, state]) => {
    const later = second.get(key);
    return later === state ? [] : [`I3: ${key} was ${state} when all was quiet, and is ${later} later`];
  });
}

function describeLoad({ operations }: HistoryRecorder): string {
  const writes = operations.filter(({ isWrite }) => isWrite);
  const count = (outcome: string) => writes.filter((each) => each.outcome === outcome).length;
  return `${operations.length - writes.length} reads, ${writes.length} writes: ${count("ok")} answered, ${count("unknown")} unknown, ${count("failed")} refused`;
}
