import { join } from "node:path";
import { Registry } from "prom-client";
import { createHttpBlobStore } from "../blob/http-blob-store.ts";
import type { BlobStore } from "../blob/blob-store.ts";
import type { Config } from "../config.ts";
import { isStoreError, StoreError } from "../domain/errors.ts";
import type { NodeName } from "../domain/ids.ts";
import { RebuildScratch } from "../healer/lmdb-rebuild-scratch.ts";
import type { RebuildReport } from "../healer/rebuild-metadata.ts";
import { collectStates, firstRevisionAfter, rebuildRecords } from "../healer/rebuild-metadata.ts";
import { deadlineIn, remainingMs } from "../lib/deadline.ts";
import { NatsMemberRegister } from "../membership/nats-member-register.ts";
import { NatsIncarnation } from "../metadata/nats-incarnation.ts";
import { openNatsMetadataStore } from "../metadata/nats-metadata-store.ts";
import { recreateMetadataStreams } from "../metadata/nats-metadata-streams.ts";
import type { NatsLink } from "../nats/nats-link.ts";
import { clusterSecretOf, openCheckedLink } from "./join-cluster.ts";
import type { RebuildOptions } from "./rebuild-embedded.ts";
import type { System } from "./system.ts";
import { openDataDir } from "./system.ts";

export type ClusterRebuildOptions = RebuildOptions & {
  /** How many nodes the cluster has: with fewer there would be objects that are left out. */
  readonly nodes: number;
};

/** Nodes that refused to start are started again by whoever looks after them. */
const NODES_MS_MAX = 120_000;
const LOOK_MS = 1_000;

/**
 * While it runs gateways and healers stay away and nodes tell what they hold; run again it begins anew.
 * @throws {StoreError} `precondition_failed` there is metadata, `node_unavailable` too few nodes answer, and those of joining a cluster
 */
export async function rebuildCluster(
  config: Config,
  system: System,
  options: ClusterRebuildOptions,
): Promise<RebuildReport> {
  await using open = new AsyncDisposableStack();
  await openDataDir(config, system, open);
  const link = await openCheckedLink(config, system, "healer", open);
  const incarnation = await NatsIncarnation.open(link);
  const streamCount = config.cluster.metadataStreams;
  const isThere = await hasMetadata(config, link, incarnation);
  if (isThere && !options.force && !options.dryRun) {
    throw new StoreError(
      "precondition_failed",
      "Cannot rebuild the metadata of the cluster: it holds records; say --force to throw it away and make it anew from the nodes",
    );
  }
  if (!isThere || !options.dryRun) await announce(incarnation);
  const nodes = await connectNodes(config, system, link, options, open);
  const scratch = open.use(new RebuildScratch(join(config.dataDir, "rebuild")));
  const { onProgress } = options;
  const deps = { clock: system.clock, nodes, scratch, waitMs: config.timeouts.nodeMs, onProgress };
  const collected = await collectStates(deps);
  if (options.dryRun) return await rebuildRecords(deps, collected, null);
  const name = await chooseName(incarnation);
  await recreateMetadataStreams(link, streamCount, { incarnation: name, firstRevision: firstRevisionAfter(collected) });
  const indexDir = join(config.dataDir, "rebuild", "index");
  const metadata = await openNatsMetadataStore(link, { streamCount, indexDir, registry: null, following: "always" });
  open.defer(() => metadata.close());
  const report = await rebuildRecords(deps, collected, metadata);
  await conclude(incarnation, name);
  return report;
}

async function hasMetadata(config: Config, link: NatsLink, incarnation: NatsIncarnation): Promise<boolean> {
  const streamCount = config.cluster.metadataStreams;
  const { entry } = await incarnation.read();
  if (entry?.state !== "ready" || !(await incarnation.areStreamsOf(entry.name, streamCount))) return false;
  const indexDir = join(config.dataDir, "rebuild-index");
  const metadata = await openNatsMetadataStore(link, { streamCount, indexDir, registry: null, following: "always" });
  try {
    return (await metadata.scan(null, 1, deadlineIn(link.clock, NODES_MS_MAX))).length > 0;
  } finally {
    await metadata.close();
  }
}

/** From now on nobody but nodes joins, and nodes say which metadata they belong to. */
async function announce(incarnation: NatsIncarnation): Promise<void> {
  for (;;) {
    const { entry, revision } = await incarnation.read();
    if (entry?.state === "rebuilding") return;
    const met = entry?.state === "ready" ? [entry.name, ...entry.succeeds] : [];
    if (await incarnation.replace({ state: "rebuilding", met }, revision)) return;
  }
}

/** What everybody remembers goes on under its name: nobody has to learn another one before the next loss. */
async function chooseName(incarnation: NatsIncarnation): Promise<string> {
  const { entry } = await incarnation.read();
  const met = entry?.state === "rebuilding" ? entry.met : [];
  return met.length === 1 ? (met[0] as string) : incarnation.newName();
}

async function conclude(incarnation: NatsIncarnation, name: string): Promise<void> {
  for (;;) {
    const { entry, revision } = await incarnation.read();
    const succeeds = entry?.state === "rebuilding" ? entry.met : [];
    if (await incarnation.replace({ state: "ready", name, succeeds }, revision)) return;
  }
}

/** Clients of all nodes, when as many as there should be answer. @throws {StoreError} `node_unavailable` */
async function connectNodes(
  config: Config,
  { clock, random, logger }: System,
  link: NatsLink,
  { nodes: wanted, onProgress }: ClusterRebuildOptions,
  open: AsyncDisposableStack,
): Promise<ReadonlyMap<NodeName, BlobStore>> {
  const register = await NatsMemberRegister.open(link);
  const shared = { clusterSecret: clusterSecretOf(config), clock, random, logger, registry: new Registry() };
  const addresses = new Map<NodeName, string | null>();
  const stores = new Map<NodeName, BlobStore>();
  const deadline = deadlineIn(clock, NODES_MS_MAX);
  for (;;) {
    for (const { key, record } of await register.list().catch(() => [])) {
      if (key.role !== "node") continue;
      const node = key.name as NodeName;
      addresses.set(node, record.address);
      if (stores.has(node)) continue;
      const store = createHttpBlobStore({ node, addressOf: () => addresses.get(node) ?? null, ...shared });
      open.defer(() => store.close());
      stores.set(node, store);
    }
    const answering = new Map<NodeName, BlobStore>();
    await Promise.all(
      [...stores].map(async ([node, store]) => {
        if (await answers(store, deadlineIn(clock, config.timeouts.nodeMs))) answering.set(node, store);
      }),
    );
    onProgress(answering.size, wanted, "nodes");
    if (answering.size >= wanted) return answering;
    if (remainingMs(clock, deadline) === 0) {
      throw new StoreError(
        "node_unavailable",
        `Cannot rebuild the metadata: ${answering.size} of ${wanted} nodes answer, and what only the others hold would be left out`,
        { retriable: true },
      );
    }
    await clock.sleep(LOOK_MS);
  }
}

async function answers(store: BlobStore, deadline: { readonly atMs: number }): Promise<boolean> {
  try {
    await store.list("", 1, deadline);
    return true;
  } catch (cause) {
    if (!isStoreError(cause)) throw cause;
    return false;
  }
}
