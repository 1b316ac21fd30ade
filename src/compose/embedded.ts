import { join } from "node:path";
import type { Registry } from "prom-client";
import type { BlobStore } from "../blob/blob-store.ts";
import { openLmdbBlobStore } from "../blob/lmdb-blob-store.ts";
import type { Config } from "../config.ts";
import type { HealingDesk } from "../desk/healing-desk.ts";
import { StoreError } from "../domain/errors.ts";
import type { NodeName } from "../domain/ids.ts";
import type { ClusterView } from "../gateway/cluster-view.ts";
import type { ObjectApi } from "../gateway/object-api.ts";
import type { RecoverSummary } from "../healer/recover.ts";
import { recoverIntents } from "../healer/recover.ts";
import type { HeatReports } from "../heat/heat-reports.ts";
import { createInProcessHeat } from "../heat/in-process-heat.ts";
import type { Clock } from "../lib/clock.ts";
import type { Membership } from "../membership/membership.ts";
import { createStaticMembership } from "../membership/static-membership.ts";
import { openMetadataEnvironment } from "../metadata/lmdb-metadata-environment.ts";
import { openLmdbMetadataStore } from "../metadata/lmdb-metadata-store.ts";
import type { ObjectDeps } from "../object/deps.ts";
import { createMemoryWorkQueue } from "../work/memory-work-queue.ts";
import { openLmdbWal } from "../wal/lmdb-wal.ts";
import { createEmbeddedView } from "./cluster-view.ts";
import { openEmbeddedHealing } from "./healing.ts";
import { requireOwnMetadata } from "./incarnation.ts";
import {
  bindObjectApi,
  createContentCache,
  createObjectDeps,
  createReadPins,
  createRegistry,
  reportHeat,
} from "./object-paths.ts";
import type { System } from "./system.ts";
import { openDataDir } from "./system.ts";

export type EmbeddedStore = {
  readonly deps: ObjectDeps;
  readonly api: ObjectApi;
  readonly cluster: ClusterView;
  readonly desk: HealingDesk;
  readonly registry: Registry;
  /** Which objects are read often. */
  readonly heat: HeatReports;
  /** What start-up found unfinished and settled. */
  readonly recovered: RecoverSummary;
  /** Settles when a storage error makes going on impossible. */
  readonly failed: Promise<StoreError>;
  close(): Promise<void>;
};

const NODE_STATE_POLL_MS = 500;

/**
 * Builds the embedded store: every part in this process, on LMDB. What is opened first is closed last.
 * @throws {StoreError} `data_dir_locked`, `metadata_lost`, `storage_error`, `format_unknown`
 */
export async function openEmbeddedStore(config: Config, system: System): Promise<EmbeddedStore> {
  const open = new AsyncDisposableStack();
  try {
    await openDataDir(config, system, open);
    const { environment, metadata, wal, failed } = await openMetadata(config, system, open);
    const { membership, stores } = await openNodes(config, system, open);
    await requireOwnMetadata(config, system, { environment, metadata, wal, stores });
    const nodes: ReadonlyMap<NodeName, BlobStore> = new Map(stores.map((store) => [store.node, store]));
    const registry = createRegistry();
    const queue = createMemoryWorkQueue({ clock: system.clock });
    open.defer(() => queue.close());
    const ports = { metadata, wal, queue, membership, nodes, pins: createReadPins(system) };
    const cache = createContentCache(config, system, registry);
    const nobody = { isPinned: () => false };
    const parts = { ...ports, cache, registry, processName: "embedded", remotePins: nobody, locality: null };
    const deps = createObjectDeps(config, system, parts, open);
    // The lock on the data directory proves that whoever wrote the intents found now is gone.
    const recoverDeps = { ...deps, waitMs: config.timeouts.nodeMs };
    const recovered = await recoverIntents(recoverDeps, { writerDead: true, ageMsMin: Number.NEGATIVE_INFINITY });
    open.defer(() => deps.releaser.close());
    const heat = createInProcessHeat(system.clock, deps.processName);
    open.use(reportHeat(config, deps, heat));
    const healing = await openEmbeddedHealing(config, { deps, queue, registry, membership, heat, stores }, open);
    const cluster = createEmbeddedView(deps, config, healing.status);
    const opened = open.move();
    return {
      ...{ deps, registry, recovered, failed, cluster, heat, desk: healing.desk },
      api: bindObjectApi(deps),
      close: () => opened.disposeAsync(),
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
  return { environment, metadata, wal, failed };
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
  const stores = await Promise.all(config.cluster.nodes.map(openNode));
  open.defer(pollNodeStates(clock, stores, membership));
  return { membership, stores };
}

/** Keeps placement informed of nodes that ran full or have space again; answers how to stop. */
function pollNodeStates(clock: Clock, stores: readonly BlobStore[], membership: Membership): () => void {
  let timer = clock.startTimer(NODE_STATE_POLL_MS, function poll() {
    for (const store of stores) membership.report(store.node, store.state());
    timer = clock.startTimer(NODE_STATE_POLL_MS, poll);
  });
  return () => timer.cancel();
}
