/** Looks into a running cluster from beside it, as one more process: records, log, and what every node really holds. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Registry } from "prom-client";
import type { BlobStore } from "../../src/blob/blob-store.ts";
import { createHttpBlobStore } from "../../src/blob/http-blob-store.ts";
import type { BlobId, NodeName } from "../../src/domain/ids.ts";
import { blobSetsOf, placedBlobsOf } from "../../src/domain/manifest.ts";
import type { StoredRecord } from "../../src/domain/record.ts";
import { isDirty } from "../../src/domain/record.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { deadlineIn } from "../../src/lib/deadline.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { systemRandom } from "../../src/lib/random.ts";
import { clusterSettingsCodec } from "../../src/membership/nats-cluster-settings.ts";
import { openNatsMetadataStore } from "../../src/metadata/nats-metadata-store.ts";
import { openKv } from "../../src/nats/nats-kv.ts";
import type { NatsLink } from "../../src/nats/nats-link.ts";
import { openNatsLink } from "../../src/nats/nats-link.ts";
import { openNatsWal } from "../../src/wal/nats-wal.ts";
import type { LocalCluster } from "./cluster.ts";

export type ClusterInspector = AsyncDisposable & {
  records(): Promise<StoredRecord[]>;
  openIntents(): Promise<string[]>;
  /**
   * Sealed blobs with content that no record names, as `id@node`. Only of nodes that run. Kept records come and go behind the
   * records, and the collector sees to those.
   */
  orphans(): Promise<string[]>;
  /** Kept records, as `id@node`, of versions that are not current any more. */
  outdatedRecords(): Promise<string[]>;
  /** Blobs that a record names and its node does not have. */
  missing(): Promise<string[]>;
  /** Blobs that a record names and whose bytes are not what they should be: every cell is read. Only of nodes that run. */
  damaged(): Promise<string[]>;
  /** Keys of records that lack a blob. */
  dirtyKeys(): Promise<string[]>;
  countBlobs(node: string): Promise<number>;
};

const WAIT_MS = 20_000;
const PAGE = 1_000;

export async function openInspector(cluster: LocalCluster): Promise<ClusterInspector> {
  const stack = new AsyncDisposableStack();
  const system = { clock: systemClock, random: systemRandom, logger: silentLogger };
  const soon = () => deadlineIn(systemClock, WAIT_MS);
  const indexDir = await mkdtemp(join(tmpdir(), "kintsugi-inspect-"));
  stack.defer(() => rm(indexDir, { recursive: true, force: true }));
  const none = { token: null, credsFile: null, tlsCaFile: null, tlsCertFile: null, tlsKeyFile: null };
  const { user, pass: password } = cluster.natsLogin;
  const names = { clusterName: "main", processName: "inspector", streamReplicas: cluster.nats.length };
  const link = await openNatsLink(
    { ...none, ...names, servers: cluster.natsUrls, user, password, connectMs: WAIT_MS },
    system,
  );
  stack.defer(() => link.close());
  const streamCount = await readStreamCount(link);
  const metadata = await openNatsMetadataStore(link, {
    streamCount,
    indexDir,
    registry: null,
    following: "always",
  });
  stack.defer(() => metadata.close());
  const wal = await openNatsWal(link, { registry: null });
  stack.defer(() => wal.close());
  const registry = new Registry();
  const { clusterSecret } = cluster;
  const stores = cluster.nodes.map((node): [node: LocalCluster["nodes"][number], store: BlobStore] => [
    node,
    createHttpBlobStore({
      ...{ ...system, clusterSecret, registry },
      node: node.name as NodeName,
      addressOf: () => node.url,
    }),
  ]);
  stack.defer(async () => void (await Promise.all(stores.map(([, store]) => store.close()))));

  async function records(): Promise<StoredRecord[]> {
    const all: StoredRecord[] = [];
    for (;;) {
      const last = all.at(-1)?.record;
      const page = await metadata.scan(
        last === undefined ? null : { bucket: last.bucket, key: last.key },
        PAGE,
        soon(),
      );
      if (page.length === 0) return all;
      all.push(...page);
    }
  }

  async function compare(): Promise<{ named: Set<string>; held: Set<string> }> {
    const named = (await records()).flatMap(({ record }) => blobSetsOf(record.manifest).flatMap(placedBlobsOf));
    const held: string[] = [];
    for (const [node, store] of stores.filter(([{ isRunning }]) => isRunning)) {
      for (let after = ""; ;) {
        const page = await store.list(after, PAGE, soon());
        if (page.length === 0) break;
        held.push(...page.map(({ id }) => `${id}@${node.name}`));
        after = page.at(-1)?.id ?? "";
      }
    }
    const running = new Set(stores.filter(([{ isRunning }]) => isRunning).map(([{ name }]) => name));
    const reachable = named.filter(({ node }) => running.has(node));
    return { named: new Set(reachable.map(({ id, node }) => `${id}@${node}`)), held: new Set(held) };
  }

  const opened = stack.move();
  return {
    records,
    async openIntents() {
      const entries = await wal.readOpen(0, 100_000, soon());
      return entries.map(({ intent }) => `${intent.txid} of ${intent.writer} on ${intent.key}`);
    },
    async orphans() {
      const { named, held } = await compare();
      return [...held].filter((name) => !named.has(name) && !name.includes(".record."));
    },
    async outdatedRecords() {
      const { held } = await compare();
      const current = new Set<string>((await records()).map(({ record }) => record.version));
      return [...held].filter((name) => name.includes(".record.") && !current.has(name.split(".", 1)[0] as string));
    },
    async missing() {
      const { named, held } = await compare();
      return [...named].filter((name) => !held.has(name));
    },
    async damaged() {
      const { named, held } = await compare();
      const byName = new Map(stores.map(([node, store]) => [node.name, store]));
      const bad: string[] = [];
      for (const name of [...named].filter((each) => held.has(each))) {
        const [id, node] = name.split("@") as [BlobId, string];
        const damages = await (byName.get(node) as BlobStore).verify(id, soon());
        if (damages.length > 0) bad.push(`${name}: ${damages[0]?.reason}`);
      }
      return bad;
    },
    async dirtyKeys() {
      return (await records()).filter(({ record }) => isDirty(record)).map(({ record }) => record.key);
    },
    async countBlobs(node: string) {
      const { held } = await compare();
      return [...held].filter((name) => name.endsWith(`@${node}`)).length;
    },
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  };
}

/** As the processes of the cluster have agreed. */
async function readStreamCount(link: NatsLink): Promise<number> {
  const entry = await (await openKv(link, link.names.settingsBucket)).get("settings");
  if (entry === null) throw new Error("The cluster has no settings");
  return clusterSettingsCodec.decode(entry.value).settings.metadataStreams;
}
