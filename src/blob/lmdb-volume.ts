import { statSync } from "node:fs";
import { mkdir, open as openFile, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { open, type RootDatabase } from "lmdb";
import type { BlobId } from "../domain/ids.ts";
import { asBuffer } from "../lib/bytes.ts";
import type { Clock } from "../lib/clock.ts";
import { LIMITS } from "../limits.ts";
import { CommitBatch } from "./commit-batch.ts";
import { blobIdOfKey, COUNTERS_KEY, MARKERS_FROM, MARKERS_TO, sealKey, SEALS_FROM, SEALS_TO } from "./volume-keys.ts";

/**
 * One volume: an LMDB environment of fixed size. It knows keys and values, how much of it is used and which batch a
 * write belongs to; what the values mean is the store's business.
 *
 * All writes of one event turn are one LMDB transaction. Reads take the newest snapshot of the turn and never hold one
 * over an await: what `get` gives is a view that the next read overwrites.
 */
export type VolumeHooks = {
  readonly clock: Clock;
  /** A commit that takes longer counts as a storage error. */
  readonly commitStallMsMax: number;
  /** The batch is on the disk; its waiters have not been told yet. */
  onDurable(volume: LmdbVolume, batch: CommitBatch): void;
  onFailure(volume: LmdbVolume, cause: unknown): void;
};

export type VolumeMode = "read-write" | "read-only";

const DATA_FILE = "data.mdb";
const READERS_MAX = 512;
const SNAPSHOT_MS_MAX = 2;

/** What a transaction may dirty beside its values: the path to the leaf, the free list, the counters. */
const BATCH_SPARE_PAGES = 8;
/** Up to here a volume is filled; the rest is for deletes, which need pages of their own, and for what is in flight. */
const FILL_SHARE = 0.9;
/** A full volume takes writes again when so much of it is free, and then may grow a little where the free runs are too short. */
const REUSE_FREE_SHARE = 0.25;
const REUSE_FILL_SHARE = 0.97;
// MDB_PAGE_NOTFOUND, MDB_CORRUPTED, MDB_PANIC, MDB_VERSION_MISMATCH, MDB_INVALID, MDB_INCOMPATIBLE
const FILE_FAULTS = new Set([-30797, -30796, -30795, -30794, -30793, -30784]);
const COUNTERS_VERSION = 1;
const COUNTERS_BYTES = 13;

type CommitPromise = Promise<boolean> & { readonly flushed?: Promise<boolean> };
type RangeBound = { from: Buffer; to: Buffer; limit: number; afterFrom?: boolean; reverse?: boolean };

export function volumePath(volumesDir: string, number: number): string {
  return join(volumesDir, String(number).padStart(6, "0"));
}

export function volumeDataFile(volumeDir: string): string {
  return join(volumeDir, DATA_FILE);
}

/**
 * Makes an empty volume of exactly `boundBytes`. The file is extended at once, which costs nothing, so that later its
 * size alone tells whether it was cut. Built aside and renamed: a crash leaves no half-made volume.
 */
export async function createVolumeFile(volumesDir: string, number: number, boundBytes: number): Promise<void> {
  const staging = join(volumesDir, `.new-${number}`);
  await rm(staging, { recursive: true, force: true });
  await mkdir(staging);
  await openDatabase(volumeDataFile(staging), boundBytes, "read-write").close();
  const file = await openFile(volumeDataFile(staging), "r+");
  try {
    await file.truncate(boundBytes);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(staging, volumePath(volumesDir, number));
  await syncFolder(volumesDir);
}

async function syncFolder(path: string): Promise<void> {
  const folder = await openFile(path, "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

/**
 * Resolves when every read of any volume sees at least what is durable now. lmdb-js keeps a snapshot of each volume until
 * a timer of no delay fires; one that is set later fires later.
 */
export function untilReadsAreFresh(clock: Clock): Promise<void> {
  return clock.sleep(SNAPSHOT_MS_MAX);
}

/** True for what LMDB says of a file that it cannot make sense of; not for a lack of memory or of open files. */
export function isFileFault(cause: unknown): boolean {
  const code = (cause as { code?: unknown } | null)?.code;
  return typeof code === "number" && FILE_FAULTS.has(code);
}

function openDatabase(path: string, boundBytes: number, mode: VolumeMode): RootDatabase<Buffer, Buffer> {
  return open<Buffer, Buffer>({
    path,
    keyEncoding: "binary",
    encoding: "binary",
    mapSize: boundBytes,
    maxReaders: READERS_MAX,
    separateFlushed: true,
    overlappingSync: false,
    ...(mode === "read-only" ? { readOnly: true } : {}),
  });
}

/** Pages that a value may need, generously. */
function pagesOf(valueBytes: number): number {
  return Math.ceil((valueBytes + LIMITS.pageHeaderBytes) / LIMITS.pageBytes) + 1;
}

export class LmdbVolume {
  readonly number: number;
  readonly dir: string;
  readonly boundBytes: number;
  /** Writers and sweeps under way that need this volume to stay. */
  users = 0;
  readonly #hooks: VolumeHooks;
  readonly #db: RootDatabase<Buffer, Buffer>;
  readonly #file: string;
  readonly #inode: number;
  readonly #unsettled = new Map<CommitBatch, { pages: number }>();
  #commit: CommitPromise | null = null;
  #batch: CommitBatch | null = null;
  #smallestId: string | null = null;
  #largestId: string | null = null;
  #blobCount = 0;
  #liveBytes = 0;
  #countersChanged = false;
  /** No page behind this one is in use, nor will be by what is in flight. */
  #lastPageMax = 0;
  #fillShare = FILL_SHARE;

  /** Opens a volume whose header was found sound. */
  static async open(
    dir: string,
    number: number,
    boundBytes: number,
    hooks: VolumeHooks,
    mode: VolumeMode = "read-write",
  ): Promise<LmdbVolume> {
    const inode = (await stat(volumeDataFile(dir))).ino;
    const db = openDatabase(volumeDataFile(dir), boundBytes, mode);
    const volume = new LmdbVolume(db, dir, number, boundBytes, inode, hooks);
    try {
      volume.#readState();
    } catch (cause) {
      await volume.close();
      throw cause;
    }
    return volume;
  }

  private constructor(
    db: RootDatabase<Buffer, Buffer>,
    dir: string,
    number: number,
    boundBytes: number,
    inode: number,
    hooks: VolumeHooks,
  ) {
    this.number = number;
    this.dir = dir;
    this.boundBytes = boundBytes;
    this.#hooks = hooks;
    this.#file = volumeDataFile(dir);
    this.#inode = inode;
    this.#db = db;
    this.#db.on("beforecommit", () => {
      this.#writeCounters();
      // Right after this lmdb-js begins the transaction and makes a promise of its own for it, which nobody holds: its
      // rejection would end the process.
      queueMicrotask(() => void this.#db.committed.then(ignore, ignore));
    });
  }

  #readState(): void {
    this.#readCounters();
    const [first] = this.keys({ from: SEALS_FROM, to: SEALS_TO, limit: 1 });
    const [last] = this.keys({ from: SEALS_TO, to: SEALS_FROM, limit: 1, reverse: true });
    if (first !== undefined && last !== undefined) {
      this.#smallestId = blobIdOfKey(first);
      this.#largestId = blobIdOfKey(last);
    }
    this.#measurePages();
  }

  get blobCount(): number {
    return this.#blobCount;
  }

  get liveBytes(): number {
    return this.#liveBytes;
  }

  get smallestId(): string | null {
    return this.#smallestId;
  }

  get largestId(): string | null {
    return this.#largestId;
  }

  get isIdle(): boolean {
    return this.users === 0 && this.#unsettled.size === 0;
  }

  /** False when a blob of this id is certainly not sealed here. */
  mayHold(id: BlobId): boolean {
    return this.#smallestId !== null && id >= this.#smallestId && id <= (this.#largestId as string);
  }

  /** Writes in the transaction of this event turn. `value` stays untouched by the caller until the batch settled. */
  put(key: Buffer, value: Uint8Array): CommitBatch {
    return this.#join(this.#db.put(key, nativeMemory(value)), value.length, pagesOf(value.length));
  }

  remove(key: Buffer): CommitBatch {
    return this.#join(this.#db.remove(key), 0, 1);
  }

  /** The value as a view that the next read of any volume overwrites, or null. */
  get(key: Buffer): Buffer | null {
    const value = this.#db.getBinaryFast(key);
    return value === undefined ? null : asBuffer(value.subarray(0, value.length));
  }

  /** Reads the values' pages into memory on another thread, so that `get` does not wait for the disk. */
  async prefetch(keys: Buffer[]): Promise<void> {
    // The file must stay mapped until that thread is done.
    this.users += 1;
    try {
      await this.#db.prefetch(keys);
    } finally {
      this.users -= 1;
    }
  }

  /** At most `limit` keys of a range, collected within this turn. */
  keys(range: RangeBound): Buffer[] {
    const found = this.#db.getKeys({
      start: range.from,
      end: range.to,
      limit: range.limit,
      exclusiveStart: range.afterFrom ?? false,
      reverse: range.reverse ?? false,
    });
    return [...found];
  }

  /** Ids of sealed blobs behind `after`, in order. */
  sealedIds(after: string, limit: number): BlobId[] {
    return this.keys({ from: sealKey(after), to: SEALS_TO, limit, afterFrom: true }).map(blobIdOfKey);
  }

  /** Bytes of the file that hold something; the rest waits for new values. */
  get usedBytes(): number {
    return this.#stats().usedPages * LIMITS.pageBytes;
  }

  /** Ids of blobs whose cells here may belong to nobody. */
  markedIds(limit: number): BlobId[] {
    return this.keys({ from: MARKERS_FROM, to: MARKERS_TO, limit }).map(blobIdOfKey);
  }

  /** Accounts for a seal put in this turn; the counters are written in the same transaction. */
  noteSealed(id: BlobId, payloadBytes: number): void {
    if (this.#smallestId === null || id < this.#smallestId) this.#smallestId = id;
    if (this.#largestId === null || id > this.#largestId) this.#largestId = id;
    this.#blobCount += 1;
    this.#liveBytes += payloadBytes;
    this.#countersChanged = true;
  }

  noteRemoved(payloadBytes: number): void {
    this.#blobCount -= 1;
    this.#liveBytes -= payloadBytes;
    this.#countersChanged = true;
  }

  /** True when values of `valueBytes` fit without coming near the end of the map, wherever LMDB puts them. */
  admits(valueBytes: number): boolean {
    const pagesMax = (this.boundBytes / LIMITS.pageBytes) * this.#fillShare - BATCH_SPARE_PAGES;
    const pages = pagesOf(valueBytes);
    if (this.#lastPageMax + pages <= pagesMax) return true;
    this.#measurePages();
    return this.#lastPageMax + pages <= pagesMax;
  }

  /** True when a value that is here already may be written anew: the old one leaves its pages only afterwards. */
  admitsAgain(valueBytes: number): boolean {
    const pagesMax = (this.boundBytes / LIMITS.pageBytes) * REUSE_FILL_SHARE - BATCH_SPARE_PAGES;
    this.#measurePages();
    return this.#lastPageMax + pagesOf(valueBytes) <= pagesMax;
  }

  /** Opens a volume that was full for writes again when enough of it has been deleted. */
  reopenForWrites(valueBytes: number): boolean {
    const stats = this.#stats();
    const pages = this.boundBytes / LIMITS.pageBytes;
    if (pages - stats.usedPages < pages * REUSE_FREE_SHARE) return false;
    this.#fillShare = REUSE_FILL_SHARE;
    return this.admits(valueBytes);
  }

  /** True when nothing but the counters is left. */
  isEmpty(): boolean {
    return this.#blobCount === 0 && this.isIdle && this.#stats().entryCount <= 1;
  }

  /**
   * What is wrong with the place of this volume's file, or null. A write into a file that was deleted or replaced under
   * us succeeds and is lost, so this is asked after each commit and before anybody is told of it.
   */
  displacement(): string | null {
    const stats = statSync(this.#file, { throwIfNoEntry: false });
    if (stats === undefined) return `the file of volume ${this.number} is gone`;
    if (stats.ino !== this.#inode) return `the file of volume ${this.number} was replaced`;
    return stats.size < this.boundBytes ? `the file of volume ${this.number} was cut to ${stats.size} bytes` : null;
  }

  async fileBytes(): Promise<number> {
    return (await stat(this.#file)).blocks * 512;
  }

  /** Settles all that is under way with one failure; used once, when the store fences itself. */
  failAll(toFailure: () => Parameters<CommitBatch["settle"]>[0]): void {
    for (const batch of this.#unsettled.keys()) batch.settle(toFailure());
    this.#unsettled.clear();
  }

  /** Resolves when all writes are on the disk and the file is closed. */
  async close(): Promise<void> {
    await this.#db.close();
  }

  #join(commit: CommitPromise, valueBytes: number, pages: number): CommitBatch {
    const batch = commit === this.#commit && this.#batch !== null ? this.#batch : this.#beginBatch(commit);
    batch.valueBytes += valueBytes;
    const account = this.#unsettled.get(batch);
    if (account !== undefined) account.pages += pages;
    this.#lastPageMax += pages;
    return batch;
  }

  #beginBatch(commit: CommitPromise): CommitBatch {
    const batch = new CommitBatch(this.#hooks.clock, this.#hooks.commitStallMsMax, () =>
      this.#hooks.onFailure(this, new Error(`A commit of volume ${this.number} took too long`)),
    );
    this.#commit = commit;
    this.#batch = batch;
    this.#unsettled.set(batch, { pages: BATCH_SPARE_PAGES });
    this.#lastPageMax += BATCH_SPARE_PAGES;
    commit
      .then(() => commit.flushed)
      .then(
        () => {
          // Once the store was fenced the batch is no longer in the map and its waiters have been told.
          if (this.#unsettled.delete(batch)) this.#hooks.onDurable(this, batch);
        },
        (cause: unknown) => {
          // lmdb-js tells the reason in a second promise, whose rejection nobody else would handle.
          (cause as { commitError?: Promise<unknown> }).commitError?.catch(() => {});
          this.#hooks.onFailure(this, cause);
        },
      );
    return batch;
  }

  #writeCounters(): void {
    if (!this.#countersChanged) return;
    this.#countersChanged = false;
    const bytes = Buffer.alloc(COUNTERS_BYTES);
    bytes[0] = COUNTERS_VERSION;
    bytes.writeUIntLE(this.#blobCount, 1, 6);
    bytes.writeUIntLE(this.#liveBytes, 7, 6);
    // Counts as no value bytes: nobody took room for them.
    this.#join(this.#db.put(COUNTERS_KEY, bytes), 0, 1);
  }

  #readCounters(): void {
    const bytes = this.get(COUNTERS_KEY);
    if (bytes === null || bytes.length !== COUNTERS_BYTES || bytes[0] !== COUNTERS_VERSION) return;
    this.#blobCount = bytes.readUIntLE(1, 6);
    this.#liveBytes = bytes.readUIntLE(7, 6);
  }

  #measurePages(): void {
    let pages = this.#stats().lastPage + 1;
    for (const account of this.#unsettled.values()) pages += account.pages;
    this.#lastPageMax = pages;
  }

  #stats(): { lastPage: number; usedPages: number; entryCount: number } {
    const stats = this.#db.getStats() as {
      lastPageNumber: number;
      root: TreeStats;
      free: TreeStats;
    };
    const freeListed = stats.free.treeBranchPageCount + stats.free.treeLeafPageCount + stats.free.overflowPages;
    const used = stats.root.treeBranchPageCount + stats.root.treeLeafPageCount + stats.root.overflowPages;
    return { lastPage: stats.lastPageNumber, usedPages: 2 + freeListed + used, entryCount: stats.root.entryCount };
  }
}

function ignore(): void {}

type TreeStats = {
  treeBranchPageCount: number;
  treeLeafPageCount: number;
  overflowPages: number;
  entryCount: number;
};

/** lmdb-js hands the address of the bytes to its write thread; Deno gives none for shared memory. */
function nativeMemory(value: Uint8Array): Buffer {
  const isOddDeno = "Deno" in globalThis && value.buffer instanceof SharedArrayBuffer;
  return isOddDeno ? Buffer.from(value) : asBuffer(value);
}
