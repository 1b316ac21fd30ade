/**
 * The protocol of a gateway's write, reduced to its durable steps, over the ports of a `RecoveryWorld`: what recovery may
 * rely on, and what it must bear. The bytes are of no account.
 */
import type { BlobStore } from "../../src/blob/blob-store.ts";
import { encodeDescriptor } from "../../src/domain/blob.ts";
import { StoreError, isStoreError } from "../../src/domain/errors.ts";
import type { BlobPart, NodeName, ObjectKey, Txid, VersionId } from "../../src/domain/ids.ts";
import { REVISION_NONE, blobIdOf } from "../../src/domain/ids.ts";
import type { Intent } from "../../src/domain/intent.ts";
import type { BlobSet, Manifest, PlacedBlob, Redundancy } from "../../src/domain/manifest.ts";
import { blobSetsOf, blobsPlanned, placedBlobsOf } from "../../src/domain/manifest.ts";
import type { Consistency } from "../../src/domain/receipt.ts";
import type { ObjectRecord, StoredRecord } from "../../src/domain/record.ts";
import { fencesOf, withFence } from "../../src/domain/record.ts";
import { deadlineIn } from "../../src/lib/deadline.ts";
import { VERSION_NONE } from "../../src/object/commit-record.ts";
import { judgeConflict } from "../../src/object/fence-write.ts";
import { blobSetName } from "../../src/object/read-pins.ts";
import { deleteBlobs } from "../../src/object/release.ts";
import { replacedBlobs } from "../../src/object/roll-back.ts";
import { quorumOf } from "../../src/placement/strategies.ts";
import type { RecoveryWorld } from "./recovery-world.ts";
import { READER_MS } from "./recovery-world.ts";
import { BUCKET, sampleRecord } from "./sample-records.ts";
import type { SimulatedProcess } from "./simulated-network.ts";

export type ModelWrite = {
  readonly key: string;
  /** `hot` keeps the blobs of the version seen and adds some of its own; `delete` commits a tombstone. */
  readonly kind: "copies" | "shards" | "hot" | "delete";
  readonly consistency: Consistency;
  /** What a writer does whose key has changed: as in `object/write.ts`. */
  readonly onConflict: "replace" | "exact";
  /** In order of preference. */
  readonly nodes: readonly NodeName[];
};

/** `failed`: nothing of it was ever visible, nor will be. */
export type ModelOutcome = "acknowledged" | "failed" | "unknown";
export type ModelReport = { readonly txid: Txid; readonly before: string | null; readonly outcome: ModelOutcome };

const COPIES: Redundancy = { scheme: "replication", copies: 3 };
const SHARDS: Redundancy = { scheme: "ec", k: 2, m: 2 };
const STRAGGLER_MS = 2_000;

/** Writes as gateway `process` would; `answer` is told what its client is. */
export async function writeModel(
  world: RecoveryWorld,
  process: SimulatedProcess,
  write: ModelWrite,
  answer: (report: ModelReport) => void,
): Promise<void> {
  const writer = new ModelWriter(world, process, write, answer);
  await writer.run().catch((cause: unknown) => {
    if (!isStoreError(cause)) throw cause;
    // Metadata or log did not answer: whatever there is, is recovery's now.
    writer.answer("unknown");
  });
}

class ModelWriter {
  readonly #world: RecoveryWorld;
  readonly #process: SimulatedProcess;
  readonly #deps: ReturnType<RecoveryWorld["depsOf"]>;
  readonly #write: ModelWrite;
  readonly #txid: Txid;
  readonly #tell: (report: ModelReport) => void;
  #answered = false;
  #seen: StoredRecord | null = null;
  /** What it saw last without a fence of its own. */
  #met: StoredRecord | null = null;
  #intent: Intent | null = null;
  readonly #durable: (NodeName | null)[] = [];
  readonly #doubtful: PlacedBlob[] = [];

  constructor(world: RecoveryWorld, process: SimulatedProcess, write: ModelWrite, tell: (report: ModelReport) => void) {
    this.#world = world;
    this.#process = process;
    this.#deps = world.depsOf(process);
    this.#write = write;
    this.#txid = world.nextTxid();
    this.#tell = tell;
  }

  answer(outcome: ModelOutcome): void {
    if (!this.#answered) this.#tell({ txid: this.#txid, before: this.#seen?.record.version ?? null, outcome });
    this.#answered = true;
  }

  async run(): Promise<void> {
    this.#seen = await this.#read();
    this.#met = this.#seen;
    if (this.#write.kind === "delete") return await this.#delete();
    const planned = this.#newSet(this.#plannedNodes());
    await this.#appendIntent(this.#seen, planned);
    const { sealing } = await this.#seal(planned);
    if (this.#countDurable() < quorumOf(planned.redundancy, this.#write.consistency))
      return await this.#giveUp(sealing);

    const set = this.#newSet([...this.#durable]);
    for (let current = this.#seen; ;) {
      const record = this.#recordOver(current, set);
      const result = await this.#commit(record, current);
      if (result.ok) return await this.#end(record, current, sealing);
      const before = current;
      current = result.current;
      this.#met = before;
      if (current?.record.version === this.#version) return await this.#end(current.record, before, sealing);
      if (current === null) throw new StoreError("metadata_unavailable", "The record is gone");
      if (this.#isBarred(before, current)) return await this.#endFenced(before, current.record, sealing);
      if (this.#write.onConflict === "exact" || this.#write.kind === "hot") return await this.#giveUp(sealing);
      await this.#appendIntent(current, planned);
    }
  }

  async #delete(): Promise<void> {
    for (let current = this.#seen; current?.record.state === "object";) {
      const result = await this.#commit({ ...current.record, state: "tombstone", version: this.#version }, current);
      if (result.ok) return this.answer("acknowledged");
      current = result.current;
      if (this.#write.onConflict === "exact") break;
    }
    this.answer("failed");
  }

  /** Seals one blob per lane; resolves some while later, or when all lanes have ended, which `sealing` tells too. */
  async #seal(planned: BlobSet): Promise<{ readonly sealing: Promise<unknown> }> {
    const descriptor = encodeDescriptor({
      record: this.#recordOver(this.#seen, planned),
      revisionSeen: this.#seen?.revision ?? REVISION_NONE,
    });
    const spares = this.#write.nodes.slice(planned.nodes.length);
    const lanes = planned.nodes.map(async (first, index) => {
      const id = blobIdOf(this.#txid, planned.part, index);
      this.#durable[index] = null;
      for (let node = first; node !== null; node = spares.shift() ?? null) {
        try {
          await (this.#deps.nodes.get(node) as BlobStore).put({ id, descriptor, cells: [] }, this.#soon());
          this.#durable[index] = node;
          return;
        } catch (cause) {
          if (isStoreError(cause, "deadline_exceeded")) this.#doubtful.push({ id, node });
        }
      }
    });
    const sealing = Promise.all(lanes);
    await Promise.race([sealing, this.#process.clock.sleep(STRAGGLER_MS)]);
    if (this.#countDurable() < quorumOf(planned.redundancy, this.#write.consistency)) await sealing;
    return { sealing };
  }

  /** Frees what the write replaced and what came too late, then settles. */
  async #end(record: ObjectRecord, before: StoredRecord | null, sealing: Promise<unknown>): Promise<void> {
    this.answer("acknowledged");
    await sealing;
    const removed = await this.#remove(this.#unnamed(record));
    const released = await this.#release(replacedBlobs(before, record.manifest));
    if (removed && released) await this.#settle();
  }

  /**
   * Recovery has decided: it may have completed the write, and others replaced it since. What of it is left may still have
   * readers, and what it replaced is remembered by its intent alone.
   */
  async #endFenced(before: StoredRecord | null, record: ObjectRecord, sealing: Promise<unknown>): Promise<void> {
    this.answer(judgeConflict(before, record, this.#txid) === "overtaken" ? "unknown" : "failed");
    await sealing;
    const named = new Set(blobSetsOf(record.manifest).flatMap(placedBlobsOf).map(nameOf));
    const replaced = (this.#intent?.replaces ?? []).filter((blob) => !named.has(nameOf(blob)));
    if (await this.#release([...this.#unnamed(record), ...replaced])) await this.#settle();
  }

  /** Nothing that was sealed may be deleted while recovery may still commit it: fence before you delete. */
  async #giveUp(sealing: Promise<unknown>): Promise<void> {
    await sealing;
    for (;;) {
      const current = await this.#read();
      if (current?.record.version === this.#version) return await this.#end(current.record, this.#seen, sealing);
      if (current !== null && this.#isBarred(this.#met, current))
        return await this.#endFenced(this.#met, current.record, sealing);
      if ((current?.revision ?? REVISION_NONE) !== this.#intent?.revisionSeen) break;
      const unfenced = current?.record ?? this.#record({ state: "fence", version: VERSION_NONE });
      if ((await this.#commit(withFence(unfenced, this.#txid), current)).ok) break;
    }
    this.answer("failed");
    if (await this.#remove(this.#ownBlobs())) await this.#settle();
  }

  /** Who may have been fenced is. What was met last had no fence of this write. */
  #isBarred(before: StoredRecord | null, { record }: StoredRecord): boolean {
    return judgeConflict(before, record, this.#txid) !== "free";
  }

  async #release(blobs: readonly PlacedBlob[]): Promise<boolean> {
    if (blobs.length === 0) return true;
    await this.#process.clock.sleep(READER_MS);
    const pinned = blobs.some(({ id }) => this.#world.pinned.has(blobSetName(id)));
    return !pinned && (await this.#remove(blobs));
  }

  async #remove(blobs: readonly PlacedBlob[]): Promise<boolean> {
    return await deleteBlobs({ ...this.#deps, nodeMs: this.#deps.waitMs }, blobs);
  }

  async #settle(): Promise<void> {
    await this.#deps.wal.settle([this.#txid], this.#soon());
  }

  async #appendIntent(current: StoredRecord | null, planned: BlobSet): Promise<void> {
    const { manifest } = this.#recordOver(current, planned);
    this.#intent = {
      ...{ txid: this.#txid, bucket: BUCKET, key: this.#write.key as ObjectKey, startedAtMs: 0 },
      writer: this.#process.name,
      revisionSeen: current?.revision ?? REVISION_NONE,
      planned: [planned],
      replaces: replacedBlobs(current, manifest),
    };
    await this.#deps.wal.append(this.#intent, this.#soon());
  }

  async #read(): Promise<StoredRecord | null> {
    return await this.#deps.metadata.get(BUCKET, this.#write.key as ObjectKey, this.#soon());
  }

  async #commit(record: ObjectRecord, current: StoredRecord | null) {
    return await this.#deps.metadata.commit({ record, ifRevision: current?.revision ?? REVISION_NONE }, this.#soon());
  }

  #recordOver(current: StoredRecord | null, set: BlobSet): ObjectRecord {
    const manifest = this.#manifestOf(set);
    return this.#record({ state: "object", manifest, ...fencesOf(current?.record ?? null) });
  }

  #manifestOf(set: BlobSet): Manifest {
    if (set.part === "body") return { strategy: set.redundancy === SHARDS ? "ec" : "replication", body: set };
    const seen = this.#seen?.record.manifest;
    const cold = seen === undefined ? undefined : blobSetsOf(seen).at(-1);
    const layout = { memberCount: 0, closeAt: 0, fields: [], absent: [], addressable: false };
    if (cold === undefined) return { strategy: "replication", body: set };
    return { strategy: "field_hybrid", hot: { kind: "blobs", blobs: set }, cold, coldSha256: "", layout };
  }

  #record(changes: Partial<ObjectRecord>): ObjectRecord {
    return sampleRecord(this.#write.key, { version: this.#version, ...changes });
  }

  #newSet(nodes: readonly (NodeName | null)[]): BlobSet {
    const part: BlobPart = this.#write.kind === "hot" ? "hot" : "body";
    return { txid: this.#txid, part, sizeBytes: 1, cellBytes: 64, redundancy: this.#redundancy, nodes };
  }

  #plannedNodes(): NodeName[] {
    return this.#write.nodes.slice(0, blobsPlanned(this.#redundancy));
  }

  #unnamed(record: ObjectRecord): PlacedBlob[] {
    const named = new Set(blobSetsOf(record.manifest).flatMap(placedBlobsOf).map(nameOf));
    return this.#ownBlobs().filter((blob) => !named.has(nameOf(blob)));
  }

  #ownBlobs(): PlacedBlob[] {
    return [...placedBlobsOf(this.#newSet([...this.#durable])), ...this.#doubtful];
  }

  #countDurable(): number {
    return this.#durable.filter((node) => node !== null).length;
  }

  #soon() {
    return deadlineIn(this.#process.clock, this.#deps.waitMs);
  }

  get #redundancy(): Redundancy {
    return this.#write.kind === "shards" ? SHARDS : COPIES;
  }

  get #version(): VersionId {
    return this.#txid as string as VersionId;
  }
}

function nameOf(blob: PlacedBlob): string {
  return `${blob.id}@${blob.node}`;
}
