/**
 * The object paths over the in-memory adapters, under a clock the test moves. Any part can be overridden method by
 * method, so that a test stands between the paths and one port: fails it, holds it back, or writes down its calls.
 */
import { Registry } from "prom-client";
import { MemoryBlobStore } from "../../src/blob/memory-blob-store.ts";
import type { BlobStore } from "../../src/blob/blob-store.ts";
import { createInlineCoder } from "../../src/coding/inline-coder.ts";
import { createReedSolomon } from "../../src/coding/reed-solomon.ts";
import { StripePool } from "../../src/coding/stripe-pool.ts";
import type { NodeName } from "../../src/domain/ids.ts";
import { createTxidSource } from "../../src/domain/ids.ts";
import { blobSetsOf, placedBlobsOf } from "../../src/domain/manifest.ts";
import type { BucketSettings } from "../../src/domain/settings.ts";
import type { RecoverSummary } from "../../src/healer/recover.ts";
import { recoverIntents, recoverRound } from "../../src/healer/recover.ts";
import { Looks } from "../../src/healer/recover-looks.ts";
import { RECOVERY_BOUNDS } from "../../src/healer/recovery-loop.ts";
import { Alarms } from "../../src/lib/alarms.ts";
import { MIB } from "../../src/lib/bytes.ts";
import type { Deadline } from "../../src/lib/deadline.ts";
import { noFaultPoints } from "../../src/lib/fault-points.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { systemRandom } from "../../src/lib/random.ts";
import { Semaphore } from "../../src/lib/semaphore.ts";
import { createStaticMembership } from "../../src/membership/static-membership.ts";
import { createMemoryMetadataStore } from "../../src/metadata/memory-metadata-store.ts";
import type { MetadataStore } from "../../src/metadata/metadata-store.ts";
import { ActiveWrites } from "../../src/object/active-writes.ts";
import type { ContentCacheSettings } from "../../src/object/content-cache.ts";
import { ContentCache } from "../../src/object/content-cache.ts";
import type { ObjectDeps } from "../../src/object/deps.ts";
import { getObject } from "../../src/object/get.ts";
import { noHints } from "../../src/object/mend-hints.ts";
import { NodeLatency } from "../../src/object/node-latency.ts";
import { createObjectMetrics } from "../../src/object/metrics.ts";
import { ReadHeat } from "../../src/object/read-heat.ts";
import type { RemotePins } from "../../src/object/read-pins.ts";
import { ReadPins } from "../../src/object/read-pins.ts";
import { Releaser } from "../../src/object/release.ts";
import { createMemoryWal } from "../../src/wal/memory-wal.ts";
import type { Wal } from "../../src/wal/wal.ts";
import { ManualClock } from "./manual-clock.ts";
import { bytesOf, getRequest } from "./store.ts";

export const RELEASE_DELAY_MS = 5_000;
export const STRAGGLER_MS = 2_000;
const NODE_MS = 10_000;
export const NODE_NAMES = ["n1", "n2", "n3", "n4", "n5", "n6"] as NodeName[];
export const ANY_TIME: Deadline = { atMs: Number.MAX_SAFE_INTEGER };

const SETTINGS: BucketSettings = {
  strategy: "auto",
  k: 4,
  m: 2,
  replicas: 3,
  consistency: "quorum",
  inlineBytesMax: 4_096,
  replicationBytesMax: 65_536,
  hybridBytesMin: 16_384,
  hotFields: ["battery", "seen"],
};

const NO_CACHE: ContentCacheSettings = { bytesMax: 0, entryBytesMax: 0, ttlMs: 1 };

/** The same object with some methods of it replaced. */
export function override<T extends object>(target: T, methods: Partial<T>): T {
  return new Proxy(target, {
    get(_, name) {
      const replaced: unknown = Reflect.get(methods, name);
      if (replaced !== undefined) return replaced;
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === "function" ? (value as (...args: unknown[]) => unknown).bind(target) : value;
    },
  });
}

export type MemoryStoreOptions = {
  readonly metadata?: (real: MetadataStore) => Partial<MetadataStore>;
  readonly wal?: (real: Wal) => Partial<Wal>;
  readonly node?: (real: BlobStore) => Partial<BlobStore>;
  readonly remotePins?: RemotePins;
  readonly cache?: ContentCacheSettings;
};

export type MemoryStore = ReturnType<typeof openMemoryStore>;

export function openMemoryStore(options: MemoryStoreOptions = {}) {
  const clock = new ManualClock();
  const realMetadata = createMemoryMetadataStore();
  const realWal = createMemoryWal();
  const metadata = override(realMetadata, options.metadata?.(realMetadata) ?? {});
  const wal = override(realWal, options.wal?.(realWal) ?? {});
  const nodes = new Map<NodeName, BlobStore>(
    NODE_NAMES.map((name) => {
      const real: BlobStore = new MemoryBlobStore(name, clock);
      return [name, override(real, options.node?.(real) ?? {})];
    }),
  );
  const membership = createStaticMembership(
    NODE_NAMES.map((name) => ({ name, state: "live", region: "r", zone: name, weight: 1 })),
  );
  const pins = new ReadPins(clock);
  const remotePins = { isPinned: () => false, ...options.remotePins };
  const active = new ActiveWrites();
  const metrics = createObjectMetrics(new Registry());
  const shared = { clock, logger: silentLogger, wal, nodes, pins, remotePins, active };
  const recovering = { ...shared, membership, metrics, active: new ActiveWrites(), waitMs: NODE_MS };
  const deps: ObjectDeps = {
    processName: "test",
    ...{ ...shared, metadata, membership, metrics, random: systemRandom, faults: noFaultPoints },
    ...{
      cache: new ContentCache(clock, options.cache ?? NO_CACHE),
      heat: new ReadHeat(clock),
      hints: noHints,
      latency: new NodeLatency(clock),
      alarms: new Alarms(clock),
    },
    coder: createInlineCoder({ clock, reedSolomon: createReedSolomon({ forceFallback: true }) }),
    stripes: new StripePool({ keptBytesMax: 0 }),
    releaser: new Releaser({ ...shared, releaseDelayMs: RELEASE_DELAY_MS, nodeMs: NODE_MS }),
    memory: new Semaphore(64 * MIB, clock),
    nextTxid: createTxidSource(clock, systemRandom),
    settingsOf: () => SETTINGS,
    timeouts: { metadataMs: 10_000, nodeMs: NODE_MS, stragglerMs: STRAGGLER_MS, memoryMs: 1_000 },
    objectBytesMax: 64 * MIB,
  };
  return {
    deps,
    clock,
    /** What a new process finds: no write is under way, whatever stood in the way of the last one is gone. */
    async recover(more: { writerDead?: boolean; metadata?: MetadataStore } = {}): Promise<RecoverSummary> {
      return await recoverIntents(
        { ...recovering, metadata: more.metadata ?? realMetadata },
        { writerDead: more.writerDead ?? true, ageMsMin: Number.NEGATIVE_INFINITY },
      );
    },
    /** One round of a healer in a cluster, which gives readers their time and looks again later. */
    async recoverOneRound(): Promise<RecoverSummary> {
      const policy = { writerDead: false, bounds: RECOVERY_BOUNDS, isDue: () => true, mayAct: () => true };
      return (await recoverRound({ ...recovering, metadata: realMetadata }, policy, new Looks(clock))).counts;
    },
    async read(key: string): Promise<Buffer | null> {
      const result = await getObject({ ...deps, metadata: realMetadata }, getRequest(key));
      return result.outcome === "found" ? await bytesOf(result) : null;
    },
    realMetadata,
    openIntents: async () => (await realWal.readOpen(0, 1_000, ANY_TIME)).map(({ intent }) => intent),
    /** Every blob as `<id>@<node>`. */
    async blobs(): Promise<string[]> {
      const names: string[] = [];
      for (const [node, store] of nodes) {
        for (const { id } of await store.list("", 1_000, ANY_TIME)) names.push(`${id}@${node}`);
      }
      return names.sort();
    },
    /** Every blob that some record names. */
    async namedBlobs(): Promise<string[]> {
      const records = await realMetadata.scan(null, 1_000, ANY_TIME);
      const placed = records.flatMap(({ record }) => blobSetsOf(record.manifest).flatMap(placedBlobsOf));
      return placed.map(({ id, node }) => `${id}@${node}`).sort();
    },
  };
}
