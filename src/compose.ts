import { join } from "node:path";
import { Registry } from "prom-client";
import { openLmdbBlobStore } from "./blob/lmdb-blob-store.ts";
import type { BlobStore } from "./blob/blob-store.ts";
import { createCoder } from "./coding/adaptive-coder.ts";
import { StripePool } from "./coding/stripe-pool.ts";
import type { Config } from "./config.ts";
import { bucketSettings } from "./config.ts";
import { StoreError } from "./domain/errors.ts";
import type { NodeName } from "./domain/ids.ts";
import { createTxidSource } from "./domain/ids.ts";
import type { ClusterView } from "./gateway/cluster-view.ts";
import { registerCodingMetrics, registerProcessMetrics } from "./gateway/metrics.ts";
import type { ObjectApi } from "./gateway/rest/object-api.ts";
import { recoverIntents } from "./healer/recover.ts";
import type { RecoverSummary } from "./healer/recover.ts";
import { startRecovery } from "./healer/recovery-loop.ts";
import type { Clock } from "./lib/clock.ts";
import { deadlineIn } from "./lib/deadline.ts";
import { lockDataDir } from "./lib/dir-lock.ts";
import type { FaultPoints } from "./lib/fault-points.ts";
import type { Logger } from "./lib/logger.ts";
import type { Random } from "./lib/random.ts";
import { Semaphore } from "./lib/semaphore.ts";
import { createStaticMembership } from "./membership/static-membership.ts";
import type { Membership } from "./membership/membership.ts";
import { openMetadataEnvironment } from "./metadata/lmdb-metadata-environment.ts";
import { openLmdbMetadataStore } from "./metadata/lmdb-metadata-store.ts";
import { ActiveWrites } from "./object/active-writes.ts";
import { deleteObject } from "./object/delete.ts";
import type { ObjectDeps } from "./object/deps.ts";
import { readFields } from "./object/fields.ts";
import { getObject } from "./object/get.ts";
import { headObject } from "./object/head.ts";
import { listObjects } from "./object/list.ts";
import { createObjectMetrics } from "./object/metrics.ts";
import { ObjectPatcher } from "./object/patch.ts";
import { putObject } from "./object/put.ts";
import { ReadPins } from "./object/read-pins.ts";
import { Releaser } from "./object/release.ts";
import { reserveMemory } from "./object/reserve-memory.ts";
import { quorumOf } from "./placement/strategies.ts";
import { openLmdbWal } from "./wal/lmdb-wal.ts";

/** The runtime's own faculties; a test brings its own. */
export type System = {
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly faults: FaultPoints;
};

export type EmbeddedStore = {
  readonly deps: ObjectDeps;
  readonly api: ObjectApi;
  readonly cluster: ClusterView;
  readonly registry: Registry;
  /** What start-up found unfinished and settled. */
  readonly recovered: RecoverSummary;
  /** Settles when a storage error makes going on impossible. */
  readonly failed: Promise<StoreError>;
  close(): Promise<void>;
};

/** How long the blobs of a replaced version stay for readers that have its record but not yet its first bytes. */
const RELEASE_DELAY_MS = 5_000;
const NODE_STATE_POLL_MS = 500;
/** The page shows how many intents are open; beyond this many the exact number says no more. */
const OPEN_INTENTS_COUNTED_MAX = 10_000;

/**
 * Builds the embedded store: every part in this process, on LMDB. What is opened first is closed last.
 * @throws {StoreError} `data_dir_locked`, `storage_error`, `format_unknown`
 */
export async function openEmbeddedStore(config: Config, system: System): Promise<EmbeddedStore> {
  const open = new AsyncDisposableStack();
  try {
    const lock = await lockDataDir(config.dataDir, system.random);
    if (lock === null) {
      throw new StoreError(
        "data_dir_locked",
        `Cannot open ${config.dataDir}: another process has it open, end it first`,
      );
    }
    open.defer(() => lock.release());
    const { metadata, wal, failed } = await openMetadata(config, system, open);
    const { membership, nodes } = await openNodes(config, system, open);
    const coder = createCoder({ threads: config.threads, ...system });
    open.defer(() => coder.close());

    const registry = new Registry();
    registerProcessMetrics(registry);
    registerCodingMetrics(registry, coder);
    const deps = createObjectDeps(config, system, { metadata, wal, membership, nodes, coder, registry });
    // The lock on the data directory proves that whoever wrote the intents found now is gone.
    const recoverDeps = { ...deps, waitMs: config.timeouts.nodeMs };
    const recovered = await recoverIntents(recoverDeps, { writerDead: true, ageMsMin: Number.NEGATIVE_INFINITY });
    open.use(startRecovery(recoverDeps));
    open.defer(() => deps.releaser.close());
    const parts = open.move();
    return {
      ...{ deps, registry, recovered, failed },
      api: bindObjectApi(deps),
      cluster: createClusterView(deps, config),
      close: () => parts.disposeAsync(),
    };
  } catch (cause) {
    await open.disposeAsync();
    throw cause;
  }
}

/** Records and intents share one LMDB environment, and so one fsync. */
async function openMetadata(config: Config, { clock, logger }: System, open: AsyncDisposableStack) {
  const { promise: failed, resolve: fail } = Promise.withResolvers<StoreError>();
  const environment = await openMetadataEnvironment({
    path: join(config.dataDir, "metadata"),
    clock,
    logger,
    onFenced: (cause) =>
      fail(new StoreError("metadata_unavailable", "The metadata store met a storage error", { cause })),
  });
  open.defer(() => environment.close());
  const metadata = openLmdbMetadataStore({ environment, clock });
  open.defer(() => metadata.close());
  const wal = openLmdbWal({ environment, clock });
  open.defer(() => wal.close());
  return { metadata, wal, failed };
}

type Parts = Pick<ObjectDeps, "metadata" | "wal" | "membership" | "nodes" | "coder"> & { readonly registry: Registry };

function createObjectDeps(config: Config, { clock, random, logger, faults }: System, parts: Parts): ObjectDeps {
  const { timeouts } = config;
  const { registry, ...ports } = parts;
  const { wal, nodes } = ports;
  const pins = new ReadPins();
  const active = new ActiveWrites();
  const waits = { releaseDelayMs: RELEASE_DELAY_MS, nodeMs: timeouts.nodeMs };
  return {
    processName: "embedded",
    ...{ ...ports, clock, random, logger, faults, pins, active, timeouts },
    releaser: new Releaser({ clock, logger, wal, nodes, pins, active, ...waits }),
    metrics: createObjectMetrics(registry),
    stripes: new StripePool({ keptBytesMax: config.memory.inFlightBytesMax / 4 }),
    memory: new Semaphore(config.memory.inFlightBytesMax, clock),
    nextTxid: createTxidSource(clock, random),
    settingsOf: (bucket) => bucketSettings(config, bucket),
    objectBytesMax: config.http.objectBytesMax,
  };
}

function bindObjectApi(deps: ObjectDeps): ObjectApi {
  const patcher = new ObjectPatcher(deps);
  return {
    reserve: (bytes) => reserveMemory(deps, bytes),
    put: (request) => putObject(deps, request),
    get: (request) => getObject(deps, request),
    head: (request) => headObject(deps, request),
    readFields: (request) => readFields(deps, request),
    patch: (request) => patcher.patch(request),
    delete: (request) => deleteObject(deps, request),
    list: (bucket, options) => listObjects(deps, bucket, options),
  };
}

function createClusterView(deps: ObjectDeps, config: Config): ClusterView {
  const { k, m } = config.cluster.bucketDefaults;
  const soon = () => deadlineIn(deps.clock, deps.timeouts.metadataMs);
  return {
    nodes: () => deps.membership.snapshot(),
    watch: (listener) => deps.membership.watch(listener),
    writeNodesMin: quorumOf({ scheme: "ec", k, m }, config.cluster.bucketDefaults.consistency),
    async snapshot() {
      const nodes = deps.membership.snapshot().map(async (info) => ({
        info,
        usage:
          (await deps.nodes
            .get(info.name)
            ?.usage()
            .catch(() => null)) ?? null,
      }));
      const [buckets, open] = await Promise.all([
        deps.metadata.summarize(soon()),
        deps.wal.readOpen(0, OPEN_INTENTS_COUNTED_MAX, soon()),
      ]);
      return {
        nodes: await Promise.all(nodes),
        buckets,
        inFlightBytes: deps.memory.used,
        inFlightBytesMax: deps.memory.limit,
        openIntents: open.length,
      };
    },
  };
}

async function openNodes(config: Config, { clock, logger }: System, open: AsyncDisposableStack) {
  const membership = createStaticMembership(config.cluster.nodes.map((node) => ({ ...node, state: "live" as const })));
  open.defer(() => membership.close());
  const openNode = async ({ name }: { readonly name: NodeName }) => {
    const store = await openLmdbBlobStore({
      node: name,
      dir: join(config.dataDir, "nodes", name),
      clock,
      logger,
      settings: config.storage,
      onFenced: () => membership.report(name, "fenced"),
    });
    open.defer(() => store.close());
    return store;
  };
  const stores: BlobStore[] = await Promise.all(config.cluster.nodes.map(openNode));
  const nodes = new Map(stores.map((store) => [store.node, store]));
  open.defer(pollNodeStates(clock, nodes, membership));
  return { membership, nodes };
}

/** Keeps placement informed of nodes that ran full or have space again; answers how to stop. */
function pollNodeStates(clock: Clock, nodes: ReadonlyMap<NodeName, BlobStore>, membership: Membership): () => void {
  let timer = clock.startTimer(NODE_STATE_POLL_MS, function poll() {
    for (const [name, store] of nodes) membership.report(name, store.state());
    timer = clock.startTimer(NODE_STATE_POLL_MS, poll);
  });
  return () => timer.cancel();
}
