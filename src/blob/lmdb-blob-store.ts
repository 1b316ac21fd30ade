import { mkdir } from "node:fs/promises";
import { isStoreError, StoreError } from "../domain/errors.ts";
import type { BlobInfo, Cell } from "../domain/blob.ts";
import type { BlobId, NodeName } from "../domain/ids.ts";
import type { NodeState, NodeUsage } from "../domain/node-info.ts";
import { assert, AssertionError } from "../lib/assert.ts";
import { GIB, MIB } from "../lib/bytes.ts";
import type { Clock } from "../lib/clock.ts";
import type { Deadline } from "../lib/deadline.ts";
import { deadlineIn, withDeadline } from "../lib/deadline.ts";
import type { Logger } from "../lib/logger.ts";
import { LIMITS } from "../limits.ts";
import { BarredBlobs } from "./barred-blobs.ts";
import { mendBlobCell } from "./blob-mending.ts";
import { blobBarred, nodeClosed, nodeFenced, nodeFull, waitTooLong, writerConflict } from "./blob-errors.ts";
import { listBlobs, readBlobCells, verifyBlob, type ReaderDeps } from "./blob-reader.ts";
import { removeBlobs, sweepUnsealed } from "./blob-removal.ts";
import type { BlobDamage, BlobStore, BlobWriter, SealedBlob } from "./blob-store.ts";
import type { WriterDeps } from "./blob-writer.ts";
import { LmdbBlobWriter, RepeatedBlobWriter } from "./blob-writer.ts";
import type { CommitBatch } from "./commit-batch.ts";
import { FreeSpace, freeBytesOf } from "./free-space.ts";
import type { LmdbVolume } from "./lmdb-volume.ts";
import { encodePackedSeal, sealBytes } from "./seal.ts";
import { SlabMemory } from "./slab-memory.ts";
import type { VolumeCompaction } from "./volume-compaction.ts";
import { createVolumeCompaction } from "./volume-compaction.ts";
import { VolumeSet } from "./volume-set.ts";
import { sealKey } from "./volume-keys.ts";

export type LmdbBlobSettings = {
  /** Size of one volume; those that exist keep theirs. */
  readonly volumeBytesMax: number;
  /** Below this much free space on its disk the node takes no more writes. */
  readonly freeBytesMin: number;
  /** A commit that has not ended after this long counts as a storage error. */
  readonly commitStallMsMax: number;
};

export const LMDB_BLOB_DEFAULTS: LmdbBlobSettings = Object.freeze({
  volumeBytesMax: 1 * GIB,
  freeBytesMin: 128 * MIB,
  commitStallMsMax: 60_000,
});

export type LmdbBlobOptions = {
  readonly node: NodeName;
  /** Folder of this node alone. The caller holds the lock of the data folder (`lib/dir-lock.ts`): LMDB knows one writing process. */
  readonly dir: string;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly settings?: Partial<LmdbBlobSettings>;
  /** Called once when the node fenced itself; the process should then leave with its own exit code. */
  readonly onFenced?: (error: StoreError) => void;
  /** How much is free on the disk; tests put their own in place of the file system's answer. */
  readonly freeBytes?: () => number;
};

export type LocalBlobStore = BlobStore & { readonly compaction: VolumeCompaction };

/** A volume has room for deletes behind its fill mark; much smaller ones would not. */
const VOLUME_BYTES_MIN = 16 * MIB;
const SWEEP_MS_MAX = 120_000;
const CLOSE_MS_MAX = 30_000;

/**
 * Opens the blobs of one node, making the folder where missing. Unreadable volumes are set aside, half-written blobs
 * swept. @throws {StoreError} `storage_error` when the folder cannot be read or written
 */
export async function openLmdbBlobStore(options: LmdbBlobOptions): Promise<LocalBlobStore> {
  const settings = { ...LMDB_BLOB_DEFAULTS, ...options.settings };
  assert(settings.volumeBytesMax >= VOLUME_BYTES_MIN, "a volume is large enough for deletes when it is full");
  assert(settings.volumeBytesMax % MIB === 0, "the size of a volume is whole pages");
  const store = new LmdbBlobStore(options, settings);
  try {
    await mkdir(options.dir, { recursive: true });
    await store.open();
    return store;
  } catch (cause) {
    await store.close().catch(() => {});
    throw new StoreError("storage_error", `Cannot open the blobs of node ${options.node}: ${String(cause)}`, { cause });
  }
}

class LmdbBlobStore implements LocalBlobStore {
  readonly node: NodeName;
  readonly compaction: VolumeCompaction;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #settings: LmdbBlobSettings;
  readonly #onFenced: (error: StoreError) => void;
  readonly #volumes: VolumeSet;
  readonly #space: FreeSpace;
  readonly #probeFreeBytes: () => number;
  readonly #memory = new SlabMemory();
  readonly #allocate = (bytes: number): Buffer => this.#memory.allocate(bytes);
  readonly #reader: ReaderDeps;
  /** Packed blobs on their way to the disk; readers do not see them yet. */
  readonly #arriving = new Map<BlobId, CommitBatch>();
  /** Blobs on their way out; readers may still see them. */
  readonly #leaving = new Map<BlobId, Promise<unknown>>();
  readonly #writing = new Set<BlobId>();
  /** Seals of large blobs on their way to the disk. */
  readonly #sealing = new Map<BlobId, Promise<unknown>>();
  /** Blobs on their way from one volume to another; readers see them all the time. */
  readonly #moving = new Map<BlobId, Promise<unknown>>();
  readonly #barred: BarredBlobs;
  #fencedBy: { readonly cause: unknown } | null = null;
  #isClosed = false;

  constructor(options: LmdbBlobOptions, settings: LmdbBlobSettings) {
    this.node = options.node;
    this.#clock = options.clock;
    this.#logger = options.logger.child({ node: options.node });
    this.#settings = settings;
    this.#onFenced = options.onFenced ?? (() => {});
    this.#barred = new BarredBlobs(options.clock);
    this.#probeFreeBytes = options.freeBytes ?? (() => freeBytesOf(options.dir));
    this.#space = new FreeSpace(options.clock, settings.freeBytesMin, this.#probeFreeBytes);
    this.#volumes = new VolumeSet(options.dir, {
      logger: this.#logger,
      volumeBytesMax: settings.volumeBytesMax,
      hooks: {
        clock: options.clock,
        commitStallMsMax: settings.commitStallMsMax,
        onDurable: (volume, batch) => this.#onDurable(volume, batch),
        onFailure: (_volume, cause) => this.#fence(cause),
      },
    });
    this.#reader = {
      node: options.node,
      clock: options.clock,
      volumes: this.#volumes,
      isLeaving: (id) => this.#leaving.has(id),
    };
    this.compaction = this.#createCompaction();
  }

  async open(): Promise<void> {
    await this.#volumes.open();
    const swept = await sweepUnsealed(this.#removal(), deadlineIn(this.#clock, SWEEP_MS_MAX));
    if (swept > 0) this.#logger.info({ swept }, "Swept blobs that were never sealed");
  }

  state(): NodeState {
    if (this.#isClosed) return "down";
    try {
      if (this.#fencedBy === null && this.#space.isShort(0)) return "full";
    } catch (cause) {
      this.#fence(cause);
    }
    return this.#fencedBy === null ? "live" : "fenced";
  }

  put(blob: SealedBlob, deadline: Deadline): Promise<void> {
    // Not an async function: on the way of every small write each further promise would show.
    try {
      return this.#put(blob, deadline);
    } catch (cause) {
      return Promise.reject(this.#failureOf(cause, "store a blob"));
    }
  }

  openWriter(id: BlobId, waitMs: number): Promise<BlobWriter> {
    return this.#attempt("open a writer", async () => {
      this.#assertWritable(0);
      if (this.#writing.has(id)) throw writerConflict(this.node, id);
      const deadline = deadlineIn(this.#clock, waitMs);
      this.#writing.add(id);
      try {
        const isSealed = await this.#isSealed(id, deadline);
        this.#assertWanted(id);
        if (isSealed) {
          this.#writing.delete(id);
          return new RepeatedBlobWriter(id, () => this.verify(id, deadlineIn(this.#clock, waitMs)));
        }
        return this.#guardWriter(id, new LmdbBlobWriter(this.#writerDeps(), id, waitMs));
      } catch (cause) {
        this.#writing.delete(id);
        throw cause;
      }
    });
  }

  readCells(
    id: BlobId,
    first: number,
    count: number,
    deadline: Deadline,
    into?: Uint8Array,
    signal?: AbortSignal,
  ): Promise<Cell[]> {
    const window = { first, count };
    return this.#attempt("read cells", () => readBlobCells(this.#reader, id, window, deadline, into, signal));
  }

  describe(id: BlobId, _deadline: Deadline): Promise<{ info: BlobInfo; descriptor: Uint8Array } | null> {
    return this.#attempt("describe a blob", async () => {
      const found = this.#volumes.find(id);
      if (found === null) return null;
      const { cellCount, payloadBytes, sealedAtMs, descriptor } = found.seal;
      return { info: { id, cellCount, payloadBytes, sealedAtMs }, descriptor: Buffer.from(descriptor) };
    });
  }

  list(after: string, limit: number, deadline: Deadline): Promise<BlobInfo[]> {
    return this.#attempt("list blobs", () => listBlobs(this.#reader, after, limit, deadline));
  }

  delete(ids: readonly BlobId[], deadline: Deadline): Promise<number> {
    const earlier = this.#underWay(ids, deadline);
    const work = this.#attempt("delete blobs", async () => {
      if (earlier.length > 0) await this.#within(deadline, Promise.allSettled(earlier), "what is under way");
      this.#assertServing("delete blobs");
      return await removeBlobs(this.#removal(), ids, deadline, (id) => this.#barred.add(id));
    });
    // Entered before anything is awaited: what is asked for later must find it and come after.
    for (const id of ids) this.#leaving.set(id, work);
    const finish = () => {
      for (const id of ids) if (this.#leaving.get(id) === work) this.#leaving.delete(id);
      this.#volumes.dropEmpty().catch((cause: unknown) => this.#fence(cause));
    };
    work.then(finish, finish);
    return work;
  }

  verify(id: BlobId, deadline: Deadline): Promise<BlobDamage[]> {
    return this.#attempt("verify a blob", () => verifyBlob(this.#reader, id, deadline));
  }

  mendCell(id: BlobId, index: number, payload: Uint8Array, deadline: Deadline): Promise<void> {
    return this.#attempt("mend a cell", async () => {
      this.#assertWritable(payload.length);
      const earlier = this.#underWay([id], deadline);
      if (earlier.length > 0) await this.#within(deadline, Promise.allSettled(earlier), "what is under way");
      this.#assertServing("mend a cell");
      const put = (volume: LmdbVolume, key: Buffer, value: Uint8Array) => this.#write(volume, key, value);
      await mendBlobCell({ ...this.#removal(), put }, id, index, payload, deadline);
    });
  }

  usage(): Promise<NodeUsage> {
    return this.#attempt("measure usage", async () => {
      const volumes = this.#volumes.volumes;
      return {
        blobCount: volumes.reduce((sum, volume) => sum + volume.blobCount, 0),
        liveBytes: volumes.reduce((sum, volume) => sum + volume.liveBytes, 0),
        fileBytes: await this.#volumes.fileBytes(),
        volumeCount: volumes.length,
        quarantinedCount: this.#volumes.quarantinedCount,
        diskFreeBytes: this.#probeFreeBytes(),
      };
    });
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    try {
      await this.#within(deadlineIn(this.#clock, CLOSE_MS_MAX), this.#volumes.close(), "close");
    } catch (cause) {
      // A fenced disk may never answer again; what was acknowledged is on it, and the process is about to end.
      if (this.#fencedBy === null) throw cause;
      this.#logger.warn({ cause: String(cause) }, "Left a fenced node without closing it");
    }
  }

  #put(blob: SealedBlob, deadline: Deadline): Promise<void> {
    let payloadBytes = 0;
    for (const cell of blob.cells) payloadBytes += cell.payload.length;
    assert(payloadBytes <= LIMITS.packedBlobBytesMax, "a blob put in one step is a small one");
    const bytes = sealBytes(blob.id, blob.cells.length, 0, blob.descriptor.length) + payloadBytes;
    this.#assertWritable(bytes);
    const arriving = this.#arriving.get(blob.id);
    if (arriving !== undefined) return arriving.wait(deadline, () => waitTooLong(this.node, `put ${blob.id}`));
    if (this.#writing.has(blob.id)) throw writerConflict(this.node, blob.id);
    if (this.#leaving.has(blob.id) || this.#volumes.holds(blob.id)) return this.#putAgain(blob, deadline);
    this.#assertWanted(blob.id);
    const volume = this.#volumes.admit(bytes);
    if (volume === null) return this.#grow(deadline).then(() => this.put(blob, deadline));
    const { id, descriptor, cells } = blob;
    const seal = encodePackedSeal({ id, descriptor, cells, sealedAtMs: this.#clock.wallMs() }, this.#allocate);
    const batch = this.#write(volume, sealKey(id), seal);
    volume.noteSealed(id, payloadBytes);
    this.#memory.retain(batch.slabs);
    batch.blobIds.push(id);
    this.#arriving.set(id, batch);
    return batch.wait(deadline, () => waitTooLong(this.node, `put ${id}`));
  }

  /** The rare put of a blob that is here already, whole or damaged, or just leaving. */
  async #putAgain(blob: SealedBlob, deadline: Deadline): Promise<void> {
    const isWhole = await this.#attempt("store a blob", async () => {
      if (!(await this.#isSealed(blob.id, deadline))) return false;
      const damages = await verifyBlob(this.#reader, blob.id, deadline);
      if (damages.length > 0) await this.delete([blob.id], deadline);
      return damages.length === 0;
    });
    if (!isWhole) await this.put(blob, deadline);
  }

  /** Waits until nothing is under way with this id; true when a readable seal is here. One that is broken is removed. */
  async #isSealed(id: BlobId, deadline: Deadline): Promise<boolean> {
    for (let earlier = this.#underWay([id], deadline); earlier.length > 0; earlier = this.#underWay([id], deadline)) {
      await this.#within(deadline, Promise.allSettled(earlier), "what is under way");
    }
    this.#assertServing("store a blob");
    try {
      return this.#volumes.find(id) !== null;
    } catch (cause) {
      if (!isStoreError(cause, "blob_damaged")) throw cause;
      this.#logger.warn({ blob: id, reason: cause.message }, "Removed a blob with a broken seal to write it anew");
      await this.delete([id], deadline);
      return false;
    }
  }

  /** The puts, moves and deletes of these blobs that have begun: what they do is not to be seen before they end. */
  #underWay(ids: readonly BlobId[], deadline: Deadline): Promise<unknown>[] {
    return ids.flatMap((id) => {
      const arriving = this.#arriving.get(id)?.wait(deadline, () => waitTooLong(this.node, `put ${id}`));
      const others = [this.#sealing.get(id), this.#moving.get(id), this.#leaving.get(id)];
      return [arriving, ...others].filter((work) => work !== undefined);
    });
  }

  #write(volume: LmdbVolume, key: Buffer, value: Uint8Array): CommitBatch {
    this.#space.begin(value.length);
    return volume.put(key, value);
  }

  async #grow(deadline: Deadline): Promise<void> {
    const work = this.#volumes.grow().catch((cause: unknown) => {
      throw this.#failureOf(cause, "make a volume");
    });
    await this.#within(deadline, work, "make a volume");
  }

  #writerDeps(): WriterDeps {
    return {
      node: this.node,
      clock: this.#clock,
      volumes: this.#volumes,
      assertWritable: (bytes) => this.#assertWritable(bytes),
      assertServing: (action) => this.#assertServing(action),
      put: (volume, key, value) => this.#write(volume, key, value),
      grow: (deadline) => this.#grow(deadline),
      assertWanted: (id) => this.#assertWanted(id),
      onFinished: (id) => this.#writing.delete(id),
    };
  }

  #createCompaction(): VolumeCompaction {
    const compaction = createVolumeCompaction({
      ...{ node: this.node, clock: this.#clock, volumes: this.#volumes },
      assertRoom: () => this.#assertMovable(0),
      admit: (bytes) => {
        this.#assertMovable(bytes);
        return this.#volumes.admitMoved(bytes);
      },
      grow: (deadline) => this.#grow(deadline),
      put: (volume, key, value) => this.#write(volume, key, value),
      hold: (ids, waitMs) => this.#hold(ids, deadlineIn(this.#clock, waitMs)),
      isLeaving: (id) => this.#leaving.has(id),
      isWriting: (id) => this.#writing.has(id),
    });
    return { step: (options) => this.#attempt("compact volumes", () => compaction.step(options)) };
  }

  /** Keeps everybody but readers from these blobs until the answer is called. */
  async #hold(ids: readonly BlobId[], deadline: Deadline): Promise<() => void> {
    for (let earlier = this.#underWay(ids, deadline); earlier.length > 0; earlier = this.#underWay(ids, deadline)) {
      await this.#within(deadline, Promise.allSettled(earlier), "what is under way");
    }
    this.#assertServing("move blobs");
    const { promise, resolve } = Promise.withResolvers<void>();
    for (const id of ids) this.#moving.set(id, promise);
    return () => {
      for (const id of ids) this.#moving.delete(id);
      resolve();
    };
  }

  #guardWriter(id: BlobId, writer: BlobWriter): BlobWriter {
    return {
      writeCell: (index, payload, checksum) =>
        this.#attempt("write a cell", () => writer.writeCell(index, payload, checksum)),
      seal: (descriptor) => {
        const work = this.#attempt("seal a blob", () => writer.seal(descriptor));
        this.#sealing.set(id, work);
        const finish = () => void this.#sealing.delete(id);
        work.then(finish, finish);
        return work;
      },
      abort: () => this.#attempt("abort a write", () => writer.abort()),
    };
  }

  #onDurable(volume: LmdbVolume, batch: CommitBatch): void {
    this.#space.settle(batch.valueBytes);
    this.#memory.release(batch.slabs);
    for (const id of batch.blobIds) this.#arriving.delete(id);
    const displacement = displacementOf(volume);
    if (displacement !== null) this.#fence(new Error(displacement));
    batch.settle(this.#fencedBy === null ? null : nodeFenced(this.node, "write", this.#fencedBy.cause));
  }

  /** After a storage error nothing is known of what was under way: all of it fails, and so does all that comes. */
  #fence(cause: unknown): void {
    if (this.#fencedBy !== null || this.#isClosed) return;
    this.#fencedBy = { cause };
    this.#logger.error({ cause: String(cause) }, "Fenced the node: it met a storage error");
    for (const volume of this.#volumes.volumes) volume.failAll(() => nodeFenced(this.node, "write", cause));
    this.#arriving.clear();
    this.#onFenced(nodeFenced(this.node, "go on", cause));
  }

  #assertServing(action: string): void {
    if (this.#isClosed) throw nodeClosed(this.node, action);
    if (this.#fencedBy !== null) throw nodeFenced(this.node, action, this.#fencedBy.cause);
  }

  #assertWritable(bytes: number): void {
    this.#assertServing("write");
    if (this.#space.isShort(bytes)) {
      throw nodeFull(this.node, this.#space.freeBytes(), this.#settings.freeBytesMin);
    }
  }

  /** What is moved gives space back in the end: it may take some of what writes must leave. */
  #assertMovable(bytes: number): void {
    this.#assertServing("move blobs");
    const freeBytes = this.#space.freeBytes();
    const freeBytesMin = this.#settings.freeBytesMin / 2;
    if (freeBytes - bytes < freeBytesMin) throw nodeFull(this.node, freeBytes, freeBytesMin);
  }

  #assertWanted(id: BlobId): void {
    if (this.#barred.has(id)) throw blobBarred(this.node, id);
  }

  /** Runs one operation; what the storage itself reports fences the node. */
  async #attempt<T>(action: string, work: () => Promise<T>): Promise<T> {
    this.#assertServing(action);
    try {
      return await work();
    } catch (cause) {
      throw this.#failureOf(cause, action);
    }
  }

  #failureOf(cause: unknown, action: string): unknown {
    if (cause instanceof StoreError || !isStorageFault(cause)) return cause;
    if (this.#isClosed) return nodeClosed(this.node, action);
    this.#fence(cause);
    return nodeFenced(this.node, action, cause);
  }

  #within<T>(deadline: Deadline, work: Promise<T>, action: string): Promise<T> {
    return withDeadline(this.#clock, deadline, work, () => waitTooLong(this.node, action));
  }

  #removal(): { node: NodeName; volumes: VolumeSet } {
    return { node: this.node, volumes: this.#volumes };
  }
}

function displacementOf(volume: LmdbVolume): string | null {
  try {
    return volume.displacement();
  } catch (cause) {
    return `the file of volume ${volume.number} cannot be looked at: ${String(cause)}`;
  }
}

/** LMDB and the file system give their errors codes or are plain; a bug of ours is a subclass and passes through. */
function isStorageFault(cause: unknown): boolean {
  if (!(cause instanceof Error) || cause instanceof AssertionError) return false;
  if (cause instanceof TypeError || cause instanceof RangeError || cause instanceof ReferenceError) return false;
  return true;
}
