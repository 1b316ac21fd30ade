/**
 * A cluster in one process for tests of recovery: gateways, healers, nodes, metadata and log over memory adapters, each
 * call a message of a simulated network. It watches what must never happen while it happens.
 */
import { Registry } from "prom-client";
import type { BlobStore } from "../../src/blob/blob-store.ts";
import { MemoryBlobStore } from "../../src/blob/memory-blob-store.ts";
import { StoreError } from "../../src/domain/errors.ts";
import type { BlobId, NodeName, ObjectKey, Txid } from "../../src/domain/ids.ts";
import { REVISION_NONE, createTxidSource } from "../../src/domain/ids.ts";
import type { Intent } from "../../src/domain/intent.ts";
import { blobSetsOf, blobsNeeded, placedBlobsOf } from "../../src/domain/manifest.ts";
import type { NodeState, ProcessInfo } from "../../src/domain/node-info.ts";
import type { ObjectRecord } from "../../src/domain/record.ts";
import { withFence } from "../../src/domain/record.ts";
import type { Deadline } from "../../src/lib/deadline.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { systemRandom } from "../../src/lib/random.ts";
import type { RecoveryDeps } from "../../src/healer/recovery-loop.ts";
import { RECOVERY_BOUNDS } from "../../src/healer/recovery-loop.ts";
import type { Membership } from "../../src/membership/membership.ts";
import { createMemoryMetadataStore } from "../../src/metadata/memory-metadata-store.ts";
import type { MetadataStore } from "../../src/metadata/metadata-store.ts";
import { ActiveWrites } from "../../src/object/active-writes.ts";
import { VERSION_NONE } from "../../src/object/commit-record.ts";
import { createObjectMetrics } from "../../src/object/metrics.ts";
import { blobSetName } from "../../src/object/read-pins.ts";
import { createMemoryWal } from "../../src/wal/memory-wal.ts";
import type { Wal } from "../../src/wal/wal.ts";
import { LIMITS } from "../../src/limits.ts";
import { ANY_TIME, override } from "./memory-store.ts";
import { BUCKET, sampleRecord } from "./sample-records.ts";
import { SimulatedNetwork, SimulatedProcess } from "./simulated-network.ts";

export const WORLD_NODES = ["n1", "n2", "n3", "n4", "n5"] as NodeName[];
/** How long readers may take from the record to the first byte. */
export const READER_MS = 5_000;
const SUSPECT_MS = 3_000;
const DOWN_MS = 8_000;
const WAIT_MS = 5_000;
const metrics = createObjectMetrics(new Registry());

export class RecoveryWorld {
  readonly network = new SimulatedNetwork();
  readonly clock = this.network.clock;
  readonly nextTxid = createTxidSource(this.clock, systemRandom);
  /** Who is known by which name. */
  readonly gateways = new Map<string, SimulatedProcess>();
  readonly #everyGateway: SimulatedProcess[] = [];
  /** Broken promises, in words. */
  readonly broken: string[] = [];
  /** Every version of every key that was ever current, with the one before it. */
  readonly history: { readonly key: string; readonly version: string; readonly before: string | null }[] = [];
  /** Blob sets that readers stream from. */
  readonly pinned = new Set<string>();
  readonly givenUp = new Set<NodeName>();
  readonly #records: MetadataStore = createMemoryMetadataStore();
  readonly #log: Wal = createMemoryWal();
  readonly #stores = new Map(WORLD_NODES.map((node) => [node, new MemoryBlobStore(node, this.clock) as BlobStore]));
  readonly #current = new Map<string, ObjectRecord>();
  readonly #appendedAtMs = new Map<number, number>();
  readonly #unreachableSinceMs = new Map<NodeName, number>();
  /** By `<blob>@<node>`: which record names it, when it was last named, and what happened to it last. */
  readonly #named = new Map<string, string>();
  readonly #unnamedAtMs = new Map<string, number>();
  readonly #fencedAtMs = new Map<Txid, number>();
  readonly #deleted = new Set<string>();
  /** Sealed by a call that its writer had given up and cleaned up after. */
  readonly #sealedTooLate = new Set<string>();
  /** Sealed when nobody had a reason to look for it any more: the orphans that only a collector finds. */
  readonly #sealedUnwatched = new Set<string>();

  constructor() {
    this.#records.watch(({ record }) => this.#committed(record));
  }

  startGateway(name: string): SimulatedProcess {
    const gateway = new SimulatedProcess(name, this.clock);
    this.gateways.set(name, gateway);
    this.#everyGateway.push(gateway);
    return gateway;
  }

  /** All that sleep go on, also those whose name another has taken. */
  wakeGateways(): void {
    for (const gateway of this.#everyGateway) gateway.wake();
  }

  setNode(node: NodeName, state: "up" | "hung" | "refused"): void {
    if (this.givenUp.has(node)) return;
    this.network.hung.delete(node);
    this.network.refused.delete(node);
    if (state === "up") {
      this.#unreachableSinceMs.delete(node);
      return;
    }
    this.network[state].add(node);
    if (!this.#unreachableSinceMs.has(node)) this.#unreachableSinceMs.set(node, this.clock.monotonicMs());
  }

  giveUp(node: NodeName): void {
    this.setNode(node, "refused");
    this.givenUp.add(node);
  }

  /** So many other writes of a key are given up that its record forgets every fence that it has now. */
  async crowdOutFences(key: string): Promise<void> {
    for (let count = 0; count <= LIMITS.fencedTxidsMax; count += 1) {
      const found = await this.#records.get(BUCKET, key as ObjectKey, ANY_TIME);
      const record = found?.record ?? sampleRecord(key, { state: "fence", version: VERSION_NONE });
      const change = { record: withFence(record, this.nextTxid()), ifRevision: found?.revision ?? REVISION_NONE };
      await this.#records.commit(change, ANY_TIME);
    }
  }

  /** What a process of the cluster works with. */
  depsOf(process: SimulatedProcess): RecoveryDeps & { readonly nodes: ReadonlyMap<NodeName, BlobStore> } {
    return {
      ...{ clock: process.clock, logger: silentLogger, metrics, waitMs: WAIT_MS, active: new ActiveWrites() },
      metadata: this.#metadataOf(process),
      wal: this.#walOf(process),
      nodes: new Map(WORLD_NODES.map((node) => [node, this.#nodeOf(process, node)])),
      membership: this.#membership(),
      pins: { isPinned: () => false },
      remotePins: { isPinned: (name) => this.pinned.has(name) },
    };
  }

  currentOf(key: string): ObjectRecord | undefined {
    return this.#current.get(key);
  }

  async openIntents(): Promise<Intent[]> {
    return (await this.#log.readOpen(0, 1_000, ANY_TIME)).map(({ intent }) => intent);
  }

  /** Blobs that no record names, without those that nobody could have found: sealed when all had looked already. */
  async orphans(): Promise<string[]> {
    const names: string[] = [];
    for (const [node, store] of this.#stores) {
      if (this.givenUp.has(node)) continue;
      for (const { id } of await store.list("", 10_000, ANY_TIME)) names.push(`${id}@${node}`);
    }
    const late = new Set([...this.#sealedUnwatched, ...this.#sealedTooLate]);
    return names.filter((name) => !this.#named.has(name) && !late.has(name));
  }

  /** What every record names is there: else some promise was broken before. */
  async checkNamed(): Promise<void> {
    for (const name of this.#named.keys()) {
      const [id, node] = name.split("@") as [BlobId, NodeName];
      if ((await this.#stores.get(node)?.describe(id, ANY_TIME)) == null)
        this.broken.push(`${name} is named and missing`);
    }
  }

  #committed(record: ObjectRecord): void {
    const before = this.#current.get(record.key);
    this.#current.set(record.key, record);
    for (const txid of record.fencedTxids) {
      if (!this.#fencedAtMs.has(txid)) this.#fencedAtMs.set(txid, this.clock.monotonicMs());
    }
    for (const set of blobSetsOf(record.manifest)) {
      if (placedBlobsOf(set).length < blobsNeeded(set.redundancy))
        this.broken.push(`${record.version} is not readable`);
    }
    if (record.state !== "fence" && record.version !== before?.version) {
      if (this.history.some(({ key, version }) => key === record.key && version === record.version)) {
        this.broken.push(`version ${record.version} became current twice`);
      }
      this.history.push({ key: record.key, version: record.version, before: before?.version ?? null });
    }
    const names = (of: ObjectRecord) =>
      blobSetsOf(of.manifest)
        .flatMap(placedBlobsOf)
        .map((b) => `${b.id}@${b.node}`);
    for (const name of before === undefined ? [] : names(before)) {
      this.#named.delete(name);
      this.#unnamedAtMs.set(name, this.clock.monotonicMs());
    }
    for (const name of names(record)) {
      this.#named.set(name, record.key);
      this.#unnamedAtMs.delete(name);
    }
  }

  #metadataOf(process: SimulatedProcess): MetadataStore {
    const records = this.#records;
    const send = <T>(what: string, deadline: Deadline, effect: () => Promise<T>) =>
      this.network.call(process, "metadata", what, deadline, effect, () => unknown("metadata_unavailable"));
    return override(records, {
      get: (bucket, key, deadline) => send(`get ${key}`, deadline, () => records.get(bucket, key, deadline)),
      commit: (change, deadline) => {
        const { key, version, state, fencedTxids } = change.record;
        const what = `commit ${key} ${state} ${short(version)} over ${change.ifRevision}`;
        return send(`${what} fencing [${fencedTxids.map(short).join()}]`, deadline, () =>
          records.commit(change, deadline),
        );
      },
    });
  }

  #walOf(process: SimulatedProcess): Wal {
    const log = this.#log;
    const send = <T>(what: string, deadline: Deadline, effect: () => Promise<T>) =>
      this.network.call(process, "wal", what, deadline, effect, () => unknown("wal_unavailable"));
    return {
      append: (intent, deadline) =>
        send(`append ${short(intent.txid)} ${intent.planned.length} ${intent.replaces.length}`, deadline, async () => {
          const sequence = await log.append(intent, deadline);
          this.#appendedAtMs.set(sequence, this.clock.monotonicMs());
          return sequence;
        }),
      settle: (txids, deadline) =>
        send(`settle ${txids.map(short).join()}`, deadline, () => log.settle(txids, deadline)),
      readOpen: (after, limit, deadline) =>
        send("read open", deadline, async () =>
          (await log.readOpen(after, limit, deadline)).map((entry) => {
            const ageMs = this.clock.monotonicMs() - (this.#appendedAtMs.get(entry.sequence) as number);
            return { ...entry, ageMs };
          }),
        ),
      close: () => Promise.resolve(),
    };
  }

  #nodeOf(process: SimulatedProcess, node: NodeName): BlobStore {
    const store = this.#stores.get(node) as BlobStore;
    const send = <T>(what: string, deadline: Deadline, effect: () => Promise<T>) =>
      this.network.call(process, node, what, deadline, effect, () => unknown("deadline_exceeded"));
    return override(store, {
      put: (blob, deadline) =>
        send(`put ${short(blob.id)}`, deadline, async () => {
          await store.put(blob, deadline);
          await this.#sealed(blob.id, node);
        }),
      describe: (id, deadline) =>
        send(`describe ${short(id)}`, deadline, () => {
          this.#sealedUnwatched.delete(`${id}@${node}`);
          return store.describe(id, deadline);
        }),
      delete: (ids, deadline) =>
        send(`delete ${ids.map(short).join()}`, deadline, () => {
          for (const id of ids) this.#deleting(id, node);
          return store.delete(ids, deadline);
        }),
    });
  }

  async #sealed(id: BlobId, node: NodeName): Promise<void> {
    const txid = id.slice(0, id.indexOf(".")) as Txid;
    const wasCurrent = this.history.some(({ version }) => version === txid);
    const fencedMs = this.clock.monotonicMs() - (this.#fencedAtMs.get(txid) ?? Infinity);
    const decided = wasCurrent || fencedMs >= RECOVERY_BOUNDS.lookAgainMs;
    const name = `${id}@${node}`;
    if (this.#deleted.has(name)) this.#sealedTooLate.add(name);
    if (decided || !(await this.openIntents()).some((intent) => intent.txid === txid)) this.#sealedUnwatched.add(name);
  }

  #deleting(id: BlobId, node: NodeName): void {
    const name = `${id}@${node}`;
    this.#sealedUnwatched.delete(name);
    this.#deleted.add(name);
    const unnamedMs = this.clock.monotonicMs() - (this.#unnamedAtMs.get(name) ?? Number.NEGATIVE_INFINITY);
    if (this.#named.has(name)) this.broken.push(`${name} was deleted while its record names it`);
    if (unnamedMs < READER_MS) this.broken.push(`${name} was deleted ${unnamedMs} ms after its record was replaced`);
    const wasNamed = this.#unnamedAtMs.has(name);
    if (wasNamed && this.pinned.has(blobSetName(id))) this.broken.push(`${name} was deleted under a reader`);
  }

  #membership(): Membership {
    const nodeState = (node: NodeName): NodeState => {
      if (this.givenUp.has(node)) return "gone";
      const sinceMs = this.#unreachableSinceMs.get(node);
      return sinceMs !== undefined && this.clock.monotonicMs() - sinceMs >= DOWN_MS ? "down" : "live";
    };
    const place = { region: "r", zone: "z" };
    return {
      snapshot: () => WORLD_NODES.map((name) => ({ name, state: nodeState(name), ...place, weight: 1 })),
      processes: () =>
        [...this.gateways.values()].map((gateway): ProcessInfo => {
          const nowMs = this.clock.monotonicMs();
          const silentMs = gateway.silentSinceMs === null ? 0 : nowMs - gateway.silentSinceMs;
          const state = silentMs >= DOWN_MS ? "down" : silentMs >= SUSPECT_MS ? "suspect" : "live";
          const uptimeMs = nowMs - silentMs - gateway.startedAtMs;
          return { name: gateway.name, role: "gateway", state, silentMs, uptimeMs, ...IDENTITY, ...place };
        }),
      report: () => {},
      watch: () => () => {},
      close: () => Promise.resolve(),
    };
  }
}

/** Without what all ids of one run have in common. */
function short(id: string): string {
  return id.slice(20);
}

const IDENTITY = { instance: "", address: null, version: "", load: {} };

function unknown(code: "metadata_unavailable" | "wal_unavailable" | "deadline_exceeded"): StoreError {
  return new StoreError(code, "No answer in time", { retriable: true });
}
