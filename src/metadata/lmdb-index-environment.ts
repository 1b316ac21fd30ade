/**
 * The LMDB environment of an index that can be made anew from elsewhere. It is never flushed while in use, which makes
 * its transactions cheap enough to run at once, and so it is worth nothing after a power cut. A marker beside it says
 * whether it may be used again:
 *
 * | the marker says | the last process                      | used again                                           |
 * |-----------------|---------------------------------------|------------------------------------------------------|
 * | closed          | ended in order                        | when the file still has the checksum it had then     |
 * | running         | was killed, or the machine stopped    | when the machine has not been started since          |
 * | starting        | died soon, perhaps of a damaged index | no: LMDB ends the process when it meets a wrong page |
 * | nothing         | met a storage error                   | no                                                   |
 */
import {
  closeSync,
  existsSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  statfsSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { open } from "lmdb";
import { StoreError } from "../domain/errors.ts";
import { MIB, ceilTo } from "../lib/bytes.ts";
import type { Clock, Timer } from "../lib/clock.ts";
import type { DirLock } from "../lib/dir-lock.ts";
import { lockDataDir } from "../lib/dir-lock.ts";
import type { LmdbDatabase } from "../lib/lmdb-environment.ts";
import { readLmdbHeader } from "../lib/lmdb-header.ts";
import type { Logger } from "../lib/logger.ts";

export type IndexEnvironmentOptions = {
  /** A directory; made when missing. */
  readonly path: string;
  /** What the index is of: with another identity it starts empty. */
  readonly identity: string;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Names one run of the machine; null where that is not known. */
  readonly bootId?: string | null;
  /** The index stops to grow while the disk has less free than this. */
  readonly diskFreeBytesMin?: number;
  /** A process that lived this long with the index did not die of it. */
  readonly startingMs?: number;
};

const MARKER_VERSION = 1;
const MAP_BYTES = 1_024 * MIB;
/** The file is extended in steps of this size. */
const GROWTH_BYTES = 64 * MIB;
const DISK_FREE_BYTES_MIN = 64 * MIB;
const STARTING_MS = 5_000;
const DISK_CHECK_MS = 1_000;
const CHECKSUM_CHUNK_BYTES = MIB;
/** An entry rewrites at most the pages from the root to its leaf, with splits, and the rest of its last value page. */
const ENTRY_OVERHEAD_BYTES = 8 * 4_096;
const TRANSACTION_OVERHEAD_BYTES = 256 * 1_024;

type Marker = {
  readonly version: number;
  readonly identity: string;
  readonly bootId: string | null;
  readonly state: "starting" | "running" | "closed";
  /** Of the used pages, when it was closed. */
  readonly checksum: number | null;
};

export class IndexEnvironment {
  readonly #options: Required<IndexEnvironmentOptions>;
  readonly #db: LmdbDatabase;
  readonly #fd: number;
  readonly #lock: DirLock;
  readonly #starting: Timer;
  #roomBytes = 0;
  #diskCheckedAtMs = Number.NEGATIVE_INFINITY;
  #diskFreeBytes = 0;
  #failure: StoreError | null = null;
  #closed = false;

  /** Use `openIndexEnvironment`. */
  constructor(db: LmdbDatabase, fd: number, lock: DirLock, options: Required<IndexEnvironmentOptions>) {
    this.#db = db;
    this.#fd = fd;
    this.#lock = lock;
    this.#options = options;
    this.#starting = options.clock.startTimer(options.startingMs, () => writeMarker(options, "running"));
  }

  /** False while the disk is nearly full: LMDB ends the process on a full one. */
  hasRoom(): boolean {
    const { clock, path, diskFreeBytesMin } = this.#options;
    if (clock.monotonicMs() - this.#diskCheckedAtMs >= DISK_CHECK_MS) {
      const { bavail, bsize } = statfsSync(path);
      this.#diskFreeBytes = bavail * bsize;
      this.#diskCheckedAtMs = clock.monotonicMs();
    }
    return this.#diskFreeBytes >= diskFreeBytesMin;
  }

  /** @throws {StoreError} `metadata_unavailable` after a storage error */
  read<T>(query: (db: LmdbDatabase) => T): T {
    return this.#guard("Reading", () => query(this.#db));
  }

  /** Runs `apply` as one transaction, all or nothing; readers see it when this returns. @throws as `read` */
  write(size: { readonly entryCount: number; readonly valueBytes: number }, apply: (db: LmdbDatabase) => void): void {
    this.#guard("Writing", () => {
      this.#extend(size.valueBytes + size.entryCount * ENTRY_OVERHEAD_BYTES + TRANSACTION_OVERHEAD_BYTES);
      this.#db.transactionSync(() => apply(this.#db));
      this.#db.resetReadTxn();
    });
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#starting.cancel();
    await this.#db.close();
    // After a storage error the marker stays as it is: gone, so that the next start begins anew.
    if (this.#failure === null) {
      fsyncSync(this.#fd);
      writeMarker(this.#options, "closed", checksumOf(this.#fd));
    }
    closeSync(this.#fd);
    await this.#lock.release();
  }

  /** A file ahead of what is used, so that one that is shorter than its header says was cut off. */
  #extend(roomBytes: number): void {
    if (this.#roomBytes < roomBytes) {
      const header = readLmdbHeader(this.#fd);
      if (header === null) throw new Error("the header is no longer LMDB's");
      const usedBytes = header.pageCount * header.pageBytes;
      const fileBytes = Math.max(fstatSync(this.#fd).size, ceilTo(usedBytes + roomBytes, GROWTH_BYTES));
      ftruncateSync(this.#fd, fileBytes);
      this.#roomBytes = fileBytes - usedBytes;
    }
    this.#roomBytes -= roomBytes;
  }

  #guard<T>(action: string, work: () => T): T {
    if (this.#failure !== null) throw this.#failure;
    if (this.#closed) throw unavailable(`Cannot use the index ${this.#options.path}: it is closed`);
    try {
      return work();
    } catch (cause) {
      // Others are about single records, which are not the index's fault.
      if (cause instanceof StoreError && cause.code !== "storage_error") throw cause;
      throw this.fail(action, cause);
    }
  }

  /** Gives the index up, for this process and the next. */
  fail(action: string, cause: unknown): StoreError {
    const { path, logger } = this.#options;
    this.#failure ??= unavailable(
      `${action} the index ${path} failed: restart this process, it then begins anew`,
      cause,
    );
    this.#starting.cancel();
    rmSync(markerPath(path), { force: true });
    logger.error({ path, cause: String(cause) }, "the metadata index failed");
    return this.#failure;
  }
}

/**
 * Opens the index in the directory, empty when what is there cannot be trusted.
 * @throws {StoreError} `data_dir_locked` another process has it open
 */
export async function openIndexEnvironment(given: IndexEnvironmentOptions): Promise<IndexEnvironment> {
  const options = { ...defaultOptions(), ...given };
  const lock = await lockDataDir(options.path);
  if (lock === null) {
    throw new StoreError("data_dir_locked", `Cannot use the index ${options.path}: another process has it open`);
  }
  try {
    const reason = reasonForNew(options);
    if (reason !== null) {
      options.logger.info({ path: options.path, reason }, "the metadata index begins anew");
      rmSync(databasePath(options.path), { recursive: true, force: true });
    }
    // Before anything is written: from now on a power cut must find no mark that trusts the index.
    writeMarker(options, "starting");
    return openDatabase(options, lock);
  } catch (cause) {
    await lock.release();
    throw cause;
  }
}

function defaultOptions() {
  return { bootId: readBootId(), diskFreeBytesMin: DISK_FREE_BYTES_MIN, startingMs: STARTING_MS };
}

function openDatabase(options: Required<IndexEnvironmentOptions>, lock: DirLock): IndexEnvironment {
  const path = databasePath(options.path);
  mkdirSync(path, { recursive: true });
  const db: LmdbDatabase = open({
    path,
    noSubdir: false,
    overlappingSync: false,
    noSync: true,
    encoding: "binary",
    keyEncoding: "binary",
    mapSize: MAP_BYTES,
    eventTurnBatching: false,
  });
  return new IndexEnvironment(db, openSync(join(path, "data.mdb"), "r+"), lock, options);
}

/** Why the index in the directory is not to be used; null when it is. */
function reasonForNew(options: Required<IndexEnvironmentOptions>): string | null {
  const file = join(databasePath(options.path), "data.mdb");
  if (!existsSync(file)) return "there is none";
  const marker = readMarker(options.path);
  if (marker === null) return "nothing says that it is whole";
  if (marker.identity !== options.identity) return "it is of another cluster";
  if (marker.state === "starting") return "the process that used it last died soon after";
  const isSameRun = marker.bootId !== null && marker.bootId === options.bootId;
  if (marker.state === "running" && !isSameRun) return "the machine stopped while it was in use";
  return isWhole(file, marker) ? null : "its file is damaged";
}

function isWhole(file: string, { checksum }: Marker): boolean {
  const fd = openSync(file, "r");
  try {
    const header = readLmdbHeader(fd);
    if (header === null || fstatSync(fd).size < header.pageCount * header.pageBytes) return false;
    return checksum === null || checksum === checksumOf(fd);
  } finally {
    closeSync(fd);
  }
}

/** Of all pages in use; null when the header is damaged. */
function checksumOf(fd: number): number | null {
  const header = readLmdbHeader(fd);
  if (header === null) return null;
  const usedBytes = header.pageCount * header.pageBytes;
  const chunk = Buffer.allocUnsafe(CHECKSUM_CHUNK_BYTES);
  let checksum = 0;
  for (let at = 0; at < usedBytes;) {
    const readBytes = readSync(fd, chunk, 0, Math.min(chunk.length, usedBytes - at), at);
    if (readBytes === 0) return null;
    checksum = crc32(chunk.subarray(0, readBytes), checksum);
    at += readBytes;
  }
  return checksum;
}

function readMarker(path: string): Marker | null {
  try {
    const marker = JSON.parse(readFileSync(markerPath(path), "utf8")) as Marker;
    return marker.version === MARKER_VERSION ? marker : null;
  } catch {
    return null;
  }
}

function writeMarker(
  { path, identity, bootId }: Required<IndexEnvironmentOptions>,
  state: Marker["state"],
  checksum: number | null = null,
): void {
  const marker: Marker = { version: MARKER_VERSION, identity, bootId, state, checksum };
  writeFileSync(markerPath(path), JSON.stringify(marker), { flush: true });
  const fd = openSync(path, "r");
  fsyncSync(fd);
  closeSync(fd);
}

function markerPath(path: string): string {
  return join(path, "index.json");
}

function databasePath(path: string): string {
  return join(path, "records");
}

/** Linux names each run of the machine; elsewhere only an index that was closed in order is used again. */
function readBootId(): string | null {
  try {
    return readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  } catch {
    return null;
  }
}

function unavailable(message: string, cause?: unknown): StoreError {
  return new StoreError("metadata_unavailable", message, { retriable: true, cause });
}
