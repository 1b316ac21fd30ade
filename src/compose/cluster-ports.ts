import { join } from "node:path";
import type { Registry } from "prom-client";
import type { BlobStore } from "../blob/blob-store.ts";
import { createHttpBlobStore } from "../blob/http-blob-store.ts";
import type { Config } from "../config.ts";
import type { StoreError } from "../domain/errors.ts";
import type { NodeName } from "../domain/ids.ts";
import type { NodeInfo, ProcessRole } from "../domain/node-info.ts";
import type { NatsMembership } from "../membership/nats-membership.ts";
import type { NatsPinBoard } from "../membership/nats-pin-board.ts";
import { openPinBoard } from "../membership/nats-pin-board.ts";
import { NatsIncarnation } from "../metadata/nats-incarnation.ts";
import type { NatsMetadataStore } from "../metadata/nats-metadata-store.ts";
import { openNatsMetadataStore } from "../metadata/nats-metadata-store.ts";
import type { NatsLink } from "../nats/nats-link.ts";
import type { ReadPins } from "../object/read-pins.ts";
import type { NatsWal } from "../wal/nats-wal.ts";
import { ensureWalStream, openNatsWal } from "../wal/nats-wal.ts";
import { openNatsWorkQueue } from "../work/nats-work-queue.ts";
import type { WorkQueue } from "../work/work-queue.ts";
import { incarnationFile } from "./incarnation.ts";
import { clusterSecretOf, joinMembers, linkToCluster } from "./join-cluster.ts";
import { createReadPins } from "./object-paths.ts";
import { processLoad } from "./process-load.ts";
import type { System } from "./system.ts";
import { openDataDir } from "./system.ts";

/** The ports that gateways and healers share, on NATS and over HTTP to the nodes. */
export type ClusterPorts = {
  readonly link: NatsLink;
  readonly metadata: NatsMetadataStore;
  readonly wal: NatsWal;
  readonly queue: WorkQueue;
  readonly membership: NatsMembership;
  /** Live: nodes join at run time. */
  readonly nodes: ReadonlyMap<NodeName, BlobStore>;
  readonly pins: ReadPins;
  readonly remotePins: NatsPinBoard;
  /** Settles when another process took this one's name, or the index met a storage error. */
  readonly failed: Promise<StoreError>;
};

/** A pin shorter than this is covered by the delay before blobs are freed. */
const PIN_ANNOUNCED_MS_MIN = 1_000;

type Self = {
  readonly role: ProcessRole;
  readonly port: number;
  /** Figures of its own that it tells the others; those that are not known are no numbers. */
  readonly load?: () => Readonly<Record<string, number>>;
};

/** Opened in this order and closed in reverse with `open`. @throws {StoreError} those of joining a cluster */
export async function openClusterPorts(
  config: Config,
  system: System,
  self: Self,
  registry: Registry,
  open: AsyncDisposableStack,
): Promise<ClusterPorts> {
  await openDataDir(config, system, open);
  const { promise: indexFailed, resolve: failIndex } = Promise.withResolvers<StoreError>();
  const link = await linkToCluster(config, system, self.role, failIndex, open);
  const { metadataStreams: streamCount } = config.cluster;
  await ensureWalStream(link);
  const indexDir = join(config.dataDir, "index");
  const whenReplaced = () => whenStreamsReplaced(config, link, self.role);
  const metadata = await openNatsMetadataStore(link, {
    ...{ streamCount, indexDir, registry, whenReplaced, onFailed: failIndex },
    // Healers read only where a write was left unfinished.
    following: self.role === "healer" ? "on-demand" : "always",
  });
  open.defer(() => metadata.close());
  const wal = await openNatsWal(link, { registry });
  open.defer(() => wal.close());
  const queue = await openNatsWorkQueue(link);
  open.defer(() => queue.close());
  const pins = createReadPins(system);
  const remotePins = openPinBoard(link, { localNames: () => pins.heldLongerThan(PIN_ANNOUNCED_MS_MIN) });
  open.use(remotePins);
  const load = processLoad(system.clock);
  const describe = () => ({
    state: "live" as const,
    load: { ...load(), indexLag: metadata.indexLag(), ...self.load?.() },
  });
  const membership = await joinMembers(config, system, link, { role: self.role, port: self.port, describe }, open);
  const nodes = connectNodes(config, system, membership, registry, open);
  const failed = Promise.race([membership.lost, indexFailed]);
  return { link, metadata, wal, queue, membership, nodes, pins, remotePins, failed };
}

/** Null where they are still those of the metadata that this process belongs to. */
async function whenStreamsReplaced(config: Config, link: NatsLink, role: ProcessRole): Promise<StoreError | null> {
  const incarnation = await NatsIncarnation.open(link);
  await incarnation.join(role, config.cluster.metadataStreams, incarnationFile(config));
  return null;
}

/** A client for every node that is known, and for those that come. */
function connectNodes(
  config: Config,
  { clock, random, logger }: System,
  membership: NatsMembership,
  registry: Registry,
  open: AsyncDisposableStack,
): ReadonlyMap<NodeName, BlobStore> {
  const clusterSecret = clusterSecretOf(config);
  const stores = new Map<NodeName, BlobStore>();
  const connect = (infos: readonly NodeInfo[]) => {
    for (const { name } of infos) {
      if (stores.has(name)) continue;
      const store = createHttpBlobStore({
        node: name,
        addressOf: () => membership.addressOf(name),
        onState: (state) => membership.report(name, state),
        ...{ clusterSecret, clock, random, logger, registry },
      });
      stores.set(name, store);
    }
  };
  connect(membership.snapshot());
  const unwatch = membership.watch(connect);
  open.defer(async () => {
    unwatch();
    await Promise.all([...stores.values()].map((store) => store.close()));
  });
  return stores;
}
