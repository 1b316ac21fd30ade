import type { Config } from "../config.ts";
import type { LeadingStatus } from "../healer/healing.ts";
import type { ProcessInfo } from "../domain/node-info.ts";
import type { ClusterView, Coordination, HealingFigures, StreamReport } from "../gateway/cluster-view.ts";
import type { Lease } from "../lease/lease.ts";
import { deadlineIn, withDeadline } from "../lib/deadline.ts";
import type { NatsLink } from "../nats/nats-link.ts";
import { readStreamReports, storeStreamNames } from "../nats/nats-stream-report.ts";
import type { ObjectDeps } from "../object/deps.ts";
import { quorumOf } from "../placement/strategies.ts";

/** The page shows how many intents are open; beyond this many the exact number says no more. */
const OPEN_INTENTS_COUNTED_MAX = 10_000;
/** What the leading healer holds. */
export const HEALER_LEASE = "healer";
/** How long a page waits for NATS before it says that it does not answer. */
const COORDINATION_MS = 1_500;

/** What the embedded store shows of itself. */
export function createEmbeddedView(deps: ObjectDeps, config: Config, healing: () => LeadingStatus): ClusterView {
  const soon = () => deadlineIn(deps.clock, deps.timeouts.metadataMs);
  return {
    ...viewOfProcess(deps, config),
    processes: () => [],
    coordination: () => Promise.resolve(null),
    healing: () => healing(),
    async snapshot() {
      const [parts, open] = await Promise.all([
        snapshotParts(deps),
        deps.wal.readOpen(0, OPEN_INTENTS_COUNTED_MAX, soon()),
      ]);
      const nobody = { processes: [], coordination: null, streams: [] };
      return { ...parts, ...nobody, openIntents: open.length, healing: healing() };
    },
  };
}

export type ClusterViewParts = {
  readonly link: NatsLink;
  readonly lease: Lease;
  readonly indexLag: () => number;
  readonly metadataStreams: number;
};

/** What a gateway shows of its cluster. */
export function createClusterView(deps: ObjectDeps, config: Config, parts: ClusterViewParts): ClusterView {
  const { link, lease, indexLag, metadataStreams } = parts;
  const processes = () => deps.membership.processes();
  const names = storeStreamNames(link, metadataStreams);
  const askNats = async () => {
    const soon = deadlineIn(deps.clock, COORDINATION_MS);
    const inTime = <T>(asked: Promise<T>) =>
      withDeadline(deps.clock, soon, asked, () => new Error("no answer in time")).catch(() => null);
    const [holder, reports] = await Promise.all([
      inTime(lease.holderOf(HEALER_LEASE).then((leader) => ({ leader }))),
      inTime(readStreamReports(link, names)),
    ]);
    const streams: readonly StreamReport[] = reports ?? [];
    const led = new Set(streams.filter(isLed).map(({ name }) => name));
    const coordination: Coordination = {
      // Each stream has a leader of its own, and so has the lease: one that is silent does not speak for the others.
      reachable: led.size > 0,
      leader: holder?.leader ?? null,
      leaderKnown: holder !== null,
      serversAway: [...new Set(streams.flatMap(({ serversAway }) => serversAway))].sort(),
      streamsWaiting: names.filter((name) => !led.has(name)),
      server: link.connection.getServer(),
      indexLag: indexLag(),
    };
    return { coordination, streams };
  };
  return {
    ...viewOfProcess(deps, config),
    processes,
    // Only the leader tells of healing.
    healing: () => healingOf(processes().find(isLeading)?.load ?? {}),
    coordination: async () => (await askNats()).coordination,
    async snapshot() {
      const [snapshot, { coordination, streams }] = await Promise.all([snapshotParts(deps), askNats()]);
      const { load } =
        processes().find(({ role, name }) => role === "healer" && name === coordination.leader) ?? NOBODY;
      const openIntents = load["openIntents"] ?? null;
      return { ...snapshot, openIntents, processes: processes(), coordination, streams, healing: healingOf(load) };
    },
  };
}

const NOBODY: Pick<ProcessInfo, "load"> = { load: {} };

/** Nobody else tells of jobs. Whoever led until now tells so for as long as it is heard. */
function isLeading({ role, state, load }: ProcessInfo): boolean {
  return role === "healer" && state === "live" && load["jobsOpen"] !== undefined;
}

/** As the leader's heartbeat tells it. */
function healingOf(load: ProcessInfo["load"]): HealingFigures {
  const { replicationLag = null, jobsOpen = 0, meanRepairMs = null } = load;
  return { replicationLag, jobsOpen, meanRepairMs };
}

/** A leader that hears no majority does not know yet that it leads no more. */
function isLed({ leader, replicasTotal, serversAway }: StreamReport): boolean {
  return leader !== null && serversAway.length * 2 < replicasTotal;
}

function viewOfProcess(
  deps: ObjectDeps,
  config: Config,
): Pick<ClusterView, "nodes" | "watch" | "cache" | "writeNodesMin"> {
  const { k, m, consistency } = config.cluster.bucketDefaults;
  return {
    nodes: () => deps.membership.snapshot(),
    watch: (listener) => deps.membership.watch(listener),
    cache: () => deps.cache.figures(),
    writeNodesMin: quorumOf({ scheme: "ec", k, m }, consistency),
  };
}

async function snapshotParts(deps: ObjectDeps) {
  const nodes = deps.membership.snapshot().map(async (info) => {
    const usage = await deps.nodes
      .get(info.name)
      ?.usage()
      .catch(() => null);
    return { info, usage: usage ?? null };
  });
  return {
    nodes: await Promise.all(nodes),
    buckets: await deps.metadata.summarize(deadlineIn(deps.clock, deps.timeouts.metadataMs)),
    inFlightBytes: deps.memory.used,
    inFlightBytesMax: deps.memory.limit,
  };
}
