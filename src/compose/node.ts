import { join } from "node:path";
import type { Registry } from "prom-client";
import type { BlobStore } from "../blob/blob-store.ts";
import { openLmdbBlobStore } from "../blob/lmdb-blob-store.ts";
import type { Config } from "../config.ts";
import { portOf } from "../config.ts";
import { StoreError } from "../domain/errors.ts";
import type { NodeUsage } from "../domain/node-info.ts";
import { parseNodeName } from "../domain/ids.ts";
import type { AssertionError } from "../lib/assert.ts";
import type { Clock } from "../lib/clock.ts";
import { startNodeServer } from "../node/node-server.ts";
import { spoilNode } from "./deliberate-bugs.ts";
import { clusterSecretOf, joinMembers, linkToCluster } from "./join-cluster.ts";
import { openNodeTracks } from "./node-tracks.ts";
import { createRegistry } from "./object-paths.ts";
import { processLoad } from "./process-load.ts";
import type { System } from "./system.ts";
import { openDataDir, programVersion } from "./system.ts";

export type OpenNode = {
  readonly name: string;
  readonly port: number;
  readonly registry: Registry;
  /** Settles when the node met a storage error, or another process took its name. */
  readonly failed: Promise<StoreError>;
  close(): Promise<void>;
};

const USAGE_POLL_MS = 2_000;

/**
 * Builds a storage node: blobs in LMDB volumes behind an HTTP data plane, known to the cluster.
 * @throws {StoreError} `data_dir_locked`, `storage_error`, and those of joining a cluster
 */
export async function openNode(
  config: Config,
  system: System,
  onBug: (cause: AssertionError) => void,
): Promise<OpenNode> {
  const open = new AsyncDisposableStack();
  const { promise: failed, resolve: fail } = Promise.withResolvers<StoreError>();
  try {
    await openDataDir(config, system, open);
    const link = await linkToCluster(config, system, "node", fail, open);
    const { clock, random, logger } = system;
    const registry = createRegistry();
    const opened = await openLmdbBlobStore({
      node: parseNodeName(link.processName),
      dir: join(config.dataDir, "blobs"),
      ...{ clock, logger },
      settings: config.storage,
      onFenced: () => fail(new StoreError("node_fenced", "The node met a storage error")),
    });
    open.defer(() => opened.close());
    const store = spoilNode(opened, config.testBug, clock);
    const clusterSecret = clusterSecretOf(config);
    const server = await startNodeServer(
      { clock, random, logger, registry, store, clusterSecret, version: programVersion(), onBug },
      {
        host: config.host,
        port: portOf(config, "node"),
        connectionsMax: config.http.connectionsMax,
        drainMs: config.timeouts.drainMs,
      },
    );
    open.defer(() => server.close());
    await openNodeTracks(config, system, { link, store, compaction: opened.compaction, registry }, open);
    const usage = pollUsage(clock, store);
    open.defer(usage.stop);
    const load = processLoad(clock);
    const describe = () => ({ state: store.state(), load: { ...load(), ...usage.latest() } });
    const membership = await joinMembers(config, system, link, { role: "node", port: server.port, describe }, open);
    void membership.lost.then(fail);
    const all = open.move();
    return { name: link.processName, port: server.port, registry, failed, close: () => all.disposeAsync() };
  } catch (cause) {
    await open.disposeAsync();
    throw cause;
  }
}

/** The store's figures, asked for now and then: heartbeats must not wait for a disk. */
function pollUsage(clock: Clock, store: BlobStore) {
  let latest: Partial<NodeUsage> = {};
  let stopped = false;
  let timer = clock.startTimer(0, poll);
  function poll(): void {
    void store
      .usage()
      .then((usage) => (latest = usage))
      .catch(() => {})
      .finally(() => {
        if (!stopped) timer = clock.startTimer(USAGE_POLL_MS, poll);
      });
  }
  return {
    latest: () => latest,
    stop() {
      stopped = true;
      timer.cancel();
    },
  };
}
