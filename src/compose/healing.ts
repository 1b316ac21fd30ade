/**
 * Who works on which track. Every healer does what waits in the queue; the one that leads finds out what there is to do;
 * nodes look after their own volumes. A store in one process does all of it.
 */
import { join } from "node:path";
import type { Registry } from "prom-client";
import type { LocalBlobStore } from "../blob/lmdb-blob-store.ts";
import type { Config } from "../config.ts";
import type { ControlsWatch } from "../desk/controls-watch.ts";
import { watchControls } from "../desk/controls-watch.ts";
import { drainingCodec } from "../desk/healing-codec.ts";
import { openFileHealingStore } from "../desk/file-healing-store.ts";
import type { HealingDesk } from "../desk/healing-desk.ts";
import { controlOf } from "../desk/healing-ledger.ts";
import type { HealingStore } from "../desk/healing-store.ts";
import { WholeFile } from "../desk/whole-file.ts";
import { serveDesk } from "../desk/nats-desk-server.ts";
import { openNatsHealingStore } from "../desk/nats-healing-store.ts";
import { askTracks, tellTracks } from "../desk/nats-track-reports.ts";
import { StoreError } from "../domain/errors.ts";
import type { Track, TrackReport } from "../domain/healing.ts";
import type { NodeName } from "../domain/ids.ts";
import type { WorkKind } from "../domain/work.ts";
import type { Audit } from "../healer/audit.ts";
import { createAudit } from "../healer/audit.ts";
import { createBalance } from "../healer/balance.ts";
import { createBuryExecutor } from "../healer/bury.ts";
import { createCollectMetrics } from "../healer/collect-metrics.ts";
import { createCollectExecutor } from "../healer/collect.ts";
import { countNamedBlobs } from "../healer/count-named.ts";
import { createDrain } from "../healer/drain.ts";
import type { Leading, LeadingStatus, Term } from "../healer/healing.ts";
import { createHeat } from "../healer/heat.ts";
import { createHeatExecutor } from "../healer/hot-copies.ts";
import type { HeatReports } from "../heat/heat-reports.ts";
import { openNatsHeatReports } from "../heat/nats-heat-channel.ts";
import { startLeading } from "../healer/healing.ts";
import { createIncidentMetrics } from "../healer/healing-metrics.ts";
import { createIdentifyExecutor } from "../healer/identify.ts";
import { createKeepExecutor } from "../healer/keep-record.ts";
import type { HealerMetrics } from "../healer/metrics.ts";
import type { OverseerBounds } from "../healer/overseer.ts";
import { createRecordKeeper } from "../healer/record-keeper.ts";
import type { RecoveryMode, RecoveryStatus } from "../healer/recovery-loop.ts";
import { createRecovery } from "../healer/recovery-loop.ts";
import { createMendExecutor } from "../healer/mend.ts";
import { createMendMetrics } from "../healer/mend-metrics.ts";
import { createMoveExecutor } from "../healer/move.ts";
import { createTrackMetrics } from "../healer/track-metrics.ts";
import type { RunningTracks, TrackWork } from "../healer/tracks.ts";
import { runTracks } from "../healer/tracks.ts";
import type { Executor, Executors } from "../healer/work-executor.ts";
import { createWorkLoop } from "../healer/work-loop.ts";
import { createWorkLoopMetrics } from "../healer/work-metrics.ts";
import type { LeaseGrant } from "../lease/lease.ts";
import { Throttle } from "../lib/throttle.ts";
import type { Membership } from "../membership/membership.ts";
import type { NatsMembership } from "../membership/nats-membership.ts";
import type { StaticMembership } from "../membership/static-membership.ts";
import type { NatsLink } from "../nats/nats-link.ts";
import type { ObjectDeps } from "../object/deps.ts";
import type { NatsWal } from "../wal/nats-wal.ts";
import type { WorkQueue } from "../work/work-queue.ts";
import { startNodeTracks } from "./node-tracks.ts";

/** How long the leader waits for what other processes tell of their tracks. */
const REPORTS_MS = 700;
/** A leader that has just begun lets processes that started with it find their feet. */
const FIRST_AUDIT_MS = 60_000;
/** Pieces of work that a process does side by side, as far as their memory allows. */
const PIECES_AT_ONCE = 4;
/** Paused work is looked at again after this. */
const PAUSED_MS = 5_000;
/** Threads of a healer, which decodes and hashes now and then. */
export const HEALER_THREADS_MAX = 2;

/** The part of this process in healing, whoever leads. */
type Shared = {
  readonly config: Config;
  readonly deps: ObjectDeps;
  readonly registry: Registry;
  readonly store: HealingStore;
  readonly controls: ControlsWatch;
  readonly queue: WorkQueue;
  readonly tracks: RunningTracks;
  readonly repairThrottle: Throttle;
  readonly keep: Executors["keep_record"];
  readonly mendedCount: () => number;
  readonly isLost: (node: NodeName) => boolean;
  readonly metrics: ReturnType<typeof createTrackMetrics>;
  readonly incidents: ReturnType<typeof createIncidentMetrics>;
};

export type ClusterHealing = {
  /** Pieces of mending that this process has done, for its heartbeat. */
  readonly mendedCount: () => number;
  /** Leads for as long as the lease is held; what it answers ends that. */
  lead(grant: LeaseGrant, healerMetrics: HealerMetrics): Promise<ClusterTerm>;
};

export type ClusterTerm = AsyncDisposable & {
  readonly recovery: () => RecoveryStatus;
  readonly status: () => LeadingStatus;
};

export type ClusterHealerParts = {
  readonly config: Config;
  readonly registry: Registry;
  readonly link: NatsLink;
  readonly wal: NatsWal;
  readonly membership: NatsMembership;
  readonly queue: WorkQueue;
  readonly deps: ObjectDeps;
};

/** Takes part in the healing of a cluster until `open` is disposed. @throws {StoreError} `nats_unavailable` (retriable) */
export async function openClusterHealing(
  { link, ...parts }: ClusterHealerParts,
  open: AsyncDisposableStack,
): Promise<ClusterHealing> {
  const store = await openNatsHealingStore(link);
  open.defer(() => store.close());
  let leading: Leading | null = null;
  const own = () => [...shared.tracks.reports(), ...(leading?.reports() ?? [])];
  const { rebuildAfterMs } = parts.config.healing;
  const isLost = (node: NodeName) =>
    leading?.isLost(node) === true || isAwayFor(parts.membership, node, rebuildAfterMs);
  const shared = await openShared({ ...parts, store, isLost, reports: own }, open);
  open.use(tellTracks(link, own));
  // Whoever comes to lead knows what is hot already.
  const heat = open.use(openNatsHeatReports(link));
  const { membership } = parts;
  const reportsOfOthers = async () => {
    const others = membership.processes().filter(({ role, state }) => role !== "gateway" && state === "live");
    const { processName } = parts.deps;
    const reports = await askTracks(link, others.length, REPORTS_MS);
    // Its own leader's tracks are at hand.
    const isOwn = ({ process, track }: TrackReport) =>
      process === processName && leading?.reports().some((one) => one.track === track) === true;
    return reports.filter((report) => !isOwn(report));
  };
  return {
    mendedCount: () => shared.mendedCount(),
    async lead(grant, healerMetrics) {
      const recovery = createRecovery(
        { ...parts.deps, wal: parts.wal, healerMetrics, waitMs: parts.config.timeouts.nodeMs },
        { kind: "leading", grant },
      );
      const term = await startTerm(shared, grant, {
        heat,
        recovery: { track: "recover", works: [recovery], throttle: null },
        reportsOfOthers,
        mendedCount: () => shared.mendedCount() + mendedByOthers(membership, parts.deps.processName),
        setDraining: (node, draining) => membership.setDraining(node, draining),
        removeNode: (node) => membership.removeNode(node),
      });
      leading = term;
      const server = serveDesk(link, { desk: term.desk, isHeld: () => grant.isHeld() });
      return {
        recovery: () => recovery.status(),
        status: () => term.status(),
        async [Symbol.asyncDispose]() {
          await server[Symbol.asyncDispose]();
          leading = null;
          await term[Symbol.asyncDispose]();
        },
      };
    },
  };
}

/** As their heartbeats tell. Falls when one of them starts again. */
function mendedByOthers(membership: NatsMembership, self: string): number {
  return membership
    .processes()
    .filter(({ role, name }) => role === "healer" && name !== self)
    .reduce((sum, { load }) => sum + (load["mendedCount"] ?? 0), 0);
}

export type EmbeddedHealing = {
  readonly desk: HealingDesk;
  readonly status: () => LeadingStatus;
};

type EmbeddedParts = Pick<Shared, "deps" | "queue" | "registry"> & {
  readonly membership: StaticMembership;
  readonly heat: HeatReports;
  readonly stores: readonly LocalBlobStore[];
};

/** All of healing in this process, until `open` is disposed. @throws {StoreError} `format_unknown` */
export async function openEmbeddedHealing(
  config: Config,
  { deps, queue, registry, membership, heat, stores }: EmbeddedParts,
  open: AsyncDisposableStack,
): Promise<EmbeddedHealing> {
  const draining = new WholeFile<readonly NodeName[]>(join(config.dataDir, "healing"), "draining", drainingCodec, []);
  for (const node of await draining.read()) membership.setDraining(node, true);
  const store = openFileHealingStore(join(config.dataDir, "healing"));
  open.defer(() => store.close());
  let leading: Leading | null = null;
  const ofNodes = () => nodes.flatMap((node) => node.reports());
  const reports = () => [...shared.tracks.reports(), ...ofNodes(), ...(leading?.reports() ?? [])];
  const isLost = (node: NodeName) => leading?.isLost(node) === true;
  const shared = await openShared({ config, deps, registry, store, queue, isLost, reports }, open);
  const { controls, metrics } = shared;
  const system = { clock: deps.clock, logger: deps.logger };
  const nodes: readonly RunningTracks[] = stores.map((blobs) => {
    const { compaction } = blobs;
    return open.use(
      startNodeTracks({ config, system, store: blobs, compaction, queue, controls, onStep: metrics.onStep }),
    );
  });
  // Nobody else could lead.
  const forever: Term = { token: 1, isHeld: () => true };
  const mode: RecoveryMode = { kind: "alone" };
  const recovery = createRecovery({ ...deps, waitMs: config.timeouts.nodeMs }, mode);
  const term = await startTerm(shared, forever, {
    heat,
    recovery: { track: "recover", works: [recovery], throttle: null },
    reportsOfOthers: () => Promise.resolve([...shared.tracks.reports(), ...ofNodes()]),
    mendedCount: () => shared.mendedCount(),
    async setDraining(node, isDraining) {
      const others = (found: readonly NodeName[]) => found.filter((name) => name !== node);
      await draining.change((found) => (isDraining ? [...others(found), node] : others(found)));
      membership.setDraining(node, isDraining);
    },
    removeNode: (node) =>
      Promise.reject(
        new StoreError("node_in_use", `Node ${node} is empty: take it out of cluster.nodes and start the store again`),
      ),
  });
  leading = term;
  open.use(term);
  return { status: () => term.status(), desk: { ...term.desk, close: () => Promise.resolve() } };
}

type SharedParts = Pick<Shared, "config" | "deps" | "registry" | "store" | "queue"> & {
  readonly reports: () => readonly TrackReport[];
  /** What the leader knows of nodes that were given up, where it is this process. */
  readonly isLost: (node: NodeName) => boolean;
};

type WorkParts = Pick<SharedParts, "config" | "deps" | "queue" | "registry" | "isLost">;

/** What every process with a queue does, whether it leads or not. */
async function openShared({ reports, ...parts }: SharedParts, open: AsyncDisposableStack): Promise<Shared> {
  const { deps, registry, store } = parts;
  const controls = watchControls(store, deps);
  open.use(controls);
  // A track that operators have paused must not begin before that is known.
  await controls.refresh();
  const metrics = createTrackMetrics(registry, reports);
  const work = openWork(parts, controls);
  const tracks = runTracks(work.tracks, {
    clock: deps.clock,
    logger: deps.logger,
    processName: deps.processName,
    controls,
    onStep: metrics.onStep,
  });
  open.use(tracks);
  const { keep, mendedCount, throttle: repairThrottle } = work;
  const incidents = createIncidentMetrics(registry);
  return { ...parts, controls, tracks, metrics, keep, repairThrottle, mendedCount, incidents };
}

/** What waits in the queue, several pieces side by side. */
function openWork({ config, deps, queue, registry, isLost }: WorkParts, controls: ControlsWatch) {
  const { clock, logger } = deps;
  const { repairBytesPerSecond, undeleteMs } = config.healing;
  const throttle = new Throttle(clock, repairBytesPerSecond);
  const mend = createMendExecutor({ ...deps, throttle, isLost, mendMetrics: createMendMetrics(registry) });
  const collectMetrics = createCollectMetrics(registry);
  const keep = createKeepExecutor(deps);
  const unless = unlessPaused(controls);
  const executors: Executors = {
    mend,
    identify: createIdentifyExecutor({ ...deps, queue }),
    move: unless("balance", createMoveExecutor({ ...deps, throttle, isLost })),
    collect: unless("collect", createCollectExecutor({ ...deps, collectMetrics })),
    bury: unless("collect", createBuryExecutor({ ...deps, collectMetrics, undeleteMs })),
    keep_record: unless("keep", keep),
    heat: unless("heat", createHeatExecutor({ ...deps, throttle, isLost, bytesMax: config.healing.heatBytesMax })),
  };
  const loop = createWorkLoop(
    { clock, logger, queue, executors, metrics: createWorkLoopMetrics(registry) },
    PIECES_AT_ONCE,
  );
  const repair: TrackWork = { track: "repair", works: loop.works, throttle, figures: () => loop.figures() };
  return { tracks: [repair], throttle, keep, mendedCount: () => loop.mendedCount() };
}

/** Work of a track that operators have paused waits in the queue; the loop that takes it goes on with other work. */
function unlessPaused(controls: ControlsWatch) {
  return <Kind extends WorkKind>(track: Track, execute: Executor<Kind>): Executor<Kind> =>
    async (work, context) =>
      controlOf(controls.current(), track).paused
        ? { outcome: "later", inMs: PAUSED_MS, reason: `${track} is paused` }
        : await execute(work, context);
}

/** By silence alone, as this process has heard it; a node that nobody knows is away for good. */
function isAwayFor(membership: Membership, node: NodeName, awayMs: number): boolean {
  const process = membership.processes().find(({ role, name }) => role === "node" && name === node);
  if (process !== undefined) return process.state === "down" && process.silentMs >= awayMs;
  return !membership.snapshot().some(({ name }) => name === node);
}

type TermParts = {
  readonly heat: HeatReports;
  readonly recovery: TrackWork;
  readonly reportsOfOthers: () => Promise<readonly TrackReport[]>;
  readonly setDraining: (node: NodeName, draining: boolean) => Promise<void>;
  readonly removeNode: (node: NodeName) => Promise<void>;
  readonly mendedCount: () => number;
};

/** A term of a leader, which ends when what it answers is disposed. */
async function startTerm(
  shared: Shared,
  term: Term,
  { recovery, heat, mendedCount, ...parts }: TermParts,
): Promise<Leading> {
  const { config, deps, metrics, incidents } = shared;
  const { healing } = config;
  const { audit, tracks, end } = openLeaderTracks(shared, heat);
  const bounds: OverseerBounds = {
    rebuildAfterMs: healing.rebuildAfterMs,
    auditEveryMs: healing.auditEveryMs,
    firstAuditMs: Math.min(FIRST_AUDIT_MS, healing.auditEveryMs),
  };
  const leading = await startLeading(
    {
      ...{ deps, bounds, queue: shared.queue, store: shared.store, controls: shared.controls },
      ...parts,
      tracks: [recovery, ...tracks],
      audit: (scope) => audit.request(scope),
      mendedCount,
      verifyThrottle: shared.repairThrottle,
      countNamed: (node) => countNamedBlobs(deps, node),
      onStep: metrics.onStep,
      onIncidentEnded: (incident) => incidents.ended(incident),
    },
    term,
  );
  return {
    ...leading,
    async [Symbol.asyncDispose]() {
      await leading[Symbol.asyncDispose]();
      await end();
    },
  };
}

/** What a leader alone works on, anew in each term. */
function openLeaderTracks({ config, deps, queue, isLost, keep }: Shared, reports: HeatReports) {
  const { orphanGraceMs, undeleteMs, keepRecordsMs, balanceEveryMs } = config.healing;
  const scratchPath = join(config.dataDir, "audit");
  const audit = createAudit({ ...deps, queue, isLost, orphanGraceMs, undeleteMs, scratchPath });
  const keeper = createRecordKeeper({ ...deps, queue, keepRecordsMs, keep });
  const { balanceSpread: spread, balanceBytesMin: bytesMin } = config.healing;
  const drain = createDrain({ ...deps, queue });
  const balance = createBalance({ ...deps, queue, drain, bounds: { spread, bytesMin }, everyMs: balanceEveryMs });
  const { heatReadsMin: readsMin, heatCopiesMax: copiesMax, heatCoolMs: coolMs } = config.healing;
  const bounds = { readsMin, copiesMax, coolMs };
  const heat = createHeat({ ...deps, queue, reports, bounds, scanEveryMs: balanceEveryMs });
  const tracks: readonly TrackWork[] = [
    auditTrack(audit),
    {
      track: "balance",
      works: [balance],
      throttle: null,
      figures: () => balance.figures(),
      runNow: () => balance.runNow(),
    },
    { track: "heat", works: [heat], throttle: null, figures: () => heat.figures() },
    { track: "keep", works: [keeper], throttle: null, figures: () => keeper.figures() },
  ];
  const end = async () => {
    await Promise.all([audit[Symbol.asyncDispose](), keeper[Symbol.asyncDispose]()]);
  };
  return { audit, tracks, end };
}

function auditTrack(audit: Audit): TrackWork {
  const figures = () => {
    const last = audit.last();
    const watched = { orphansWatched: audit.watchedOrphans() };
    if (last === null) return watched;
    const { records, blobs, awayBlobs, orphans, elapsedMs } = last;
    const lacking = last.lossOf(null).blobs;
    return { ...watched, records, blobs, lacking, awayBlobs, orphans, elapsedMs };
  };
  return { track: "audit", works: [audit], throttle: null, figures };
}
