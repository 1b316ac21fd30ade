import { closeSync, existsSync, fstatSync, fsync, ftruncate, mkdirSync, openSync, statfsSync } from "node:fs";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { open, type RootDatabase } from "lmdb";
import { MIB, ceilTo, formatBytes } from "./bytes.ts";
import type { Clock } from "./clock.ts";
import { deadlineIn, withDeadline } from "./deadline.ts";
import { readLmdbHeader } from "./lmdb-header.ts";
import type { Logger } from "./logger.ts";
import { syncDirectory } from "./sync-directory.ts";

/**
 * One LMDB environment that several stores write to, so that one fsync serves them all. It adds what LMDB leaves to
 * its user:
 * - Before opening, the file is compared with its header: reading behind its end would kill the process.
 * - The file is extended ahead of use, so that "shorter than the header says" always means damage.
 * - A failed or stalled write fences the environment. Its outcome is unknown (after a failed fdatasync the value may
 *   be visible and yet be lost), so nothing is read or written any more until the process starts anew.
 * - Writes are refused, without fencing, while the disk is nearly full: LMDB aborts the process on a full one.
 *
 * Keys are bytes, ordered bytewise; each store that shares the environment owns first bytes of its own. Nobody may run
 * a synchronous transaction here: it would cut a batch under way in two.
 */
export class LmdbEnvironment {
  readonly #options: Required<LmdbEnvironmentOptions>;
  readonly #db: LmdbDatabase;
  readonly #fd: number;
  /** Bytes that may still be written before the file has to be extended; an underestimate. */
  #roomBytes = 0;
  #growing: Promise<void> | null = null;
  readonly #writing = new Set<Promise<void>>();
  #refusal: LmdbFailure | null = null;
  #closed = false;
  #diskCheckedAtMs = Number.NEGATIVE_INFINITY;
  #diskFreeBytes = 0;

  /** Use `openLmdbEnvironment`. */
  constructor(db: LmdbDatabase, fd: number, options: Required<LmdbEnvironmentOptions>) {
    this.#db = db;
    this.#fd = fd;
    this.#options = options;
  }

  /** Runs `query`, which must be done with the database when it returns. Sees every write that was answered before. */
  read<T>(query: (db: LmdbDatabase) => T): T {
    if (this.#refusal !== null) throw this.#refusal;
    try {
      return query(this.#db);
    } catch (cause) {
      throw isLmdbError(cause) ? this.#fence("Reading", cause) : cause;
    }
  }

  /**
   * Runs `apply` once; its puts and removes become part of one transaction, all or none. Resolves when they are on
   * disk. Values must stay unchanged until then.
   * @throws {LmdbFailure} `refused`: nothing was written. `fenced`: the outcome is unknown.
   */
  async write(size: LmdbWriteSize, apply: (db: LmdbDatabase) => void): Promise<void> {
    const roomBytes = size.valueBytes + size.entryCount * ENTRY_OVERHEAD_BYTES + TRANSACTION_OVERHEAD_BYTES;
    while (this.#growing !== null || this.#roomBytes < roomBytes) {
      if (this.#refusal !== null) throw this.#refusal;
      await (this.#growing ??= this.#grow(roomBytes).finally(() => (this.#growing = null)));
    }
    if (this.#refusal !== null) throw this.#refusal;
    this.#refuseOnFullDisk();
    this.#roomBytes -= roomBytes;

    const work = this.#commit(apply);
    this.#writing.add(work);
    try {
      await work;
    } finally {
      this.#writing.delete(work);
    }
  }

  /** Waits for writes under way. A fenced environment is left as it is: LMDB would wait for its lost write forever. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    while (this.#growing !== null || this.#writing.size > 0) {
      await Promise.allSettled([this.#growing, ...this.#writing]);
    }
    if (this.#refusal === null) {
      this.#refusal = new LmdbFailure("refused", `Cannot use ${this.#options.path}: it is closed`);
      await this.#db.close();
    }
    closeSync(this.#fd);
  }

  async #commit(apply: (db: LmdbDatabase) => void): Promise<void> {
    try {
      // Writing begins in the next turn of the event loop, so batches of one turn share a transaction and its fsync.
      const committed = this.#db.batch(() => apply(this.#db));
      // Taken now: later puts move this property on to their own flush.
      const flushed = new Promise((resolve, reject) => void this.#db.flushed.then(resolve, reject));
      const deadline = deadlineIn(this.#options.clock, this.#options.stallMsMax);
      await withDeadline(
        this.#options.clock,
        deadline,
        committed.then(() => flushed),
        () => new Error(`LMDB has not answered for ${this.#options.stallMsMax} ms`),
      );
      this.#db.resetReadTxn();
    } catch (cause) {
      throw this.#fence("Writing", cause);
    }
  }

  /** Extends the file so that at least `roomBytes` fit. Waits for a moment without writers: only LMDB may move its end then. */
  async #grow(roomBytes: number): Promise<void> {
    await Promise.allSettled(this.#writing);
    try {
      const header = readLmdbHeader(this.#fd);
      if (header === null) throw new Error("the header is no longer LMDB's");
      const usedBytes = header.pageCount * header.pageBytes;
      let fileBytes = fstatSync(this.#fd).size;
      const wantedBytes = usedBytes + Math.max(roomBytes, this.#options.growthBytes / 2);
      if (fileBytes < wantedBytes) {
        fileBytes = ceilTo(wantedBytes, this.#options.growthBytes);
        await promisify(ftruncate)(this.#fd, fileBytes);
        await promisify(fsync)(this.#fd);
      }
      this.#roomBytes = fileBytes - usedBytes;
    } catch (cause) {
      throw this.#fence("Extending", cause);
    }
  }

  #refuseOnFullDisk(): void {
    const { clock, path, diskFreeBytesMin } = this.#options;
    if (clock.monotonicMs() - this.#diskCheckedAtMs >= DISK_CHECK_MS) {
      const { bavail, bsize } = statfsSync(path);
      this.#diskFreeBytes = bavail * bsize;
      this.#diskCheckedAtMs = clock.monotonicMs();
    }
    if (this.#diskFreeBytes < diskFreeBytesMin) {
      throw new LmdbFailure(
        "refused",
        `Cannot write to ${path}: its disk has ${formatBytes(this.#diskFreeBytes)} left, ${formatBytes(diskFreeBytesMin)} must stay free`,
      );
    }
  }

  #fence(action: string, cause: unknown): LmdbFailure {
    // LMDB hands the reason over as a promise of its own; unobserved it would end the process.
    (cause as { commitError?: Promise<unknown> } | null)?.commitError?.catch(() => {});
    if (this.#refusal !== null) return this.#refusal;
    const { path, logger, onFenced } = this.#options;
    this.#refusal = new LmdbFailure(
      "fenced",
      `${action} ${path} failed: no more reads or writes until the process restarts`,
      cause,
    );
    logger.error({ path, cause: String(cause) }, "fenced an LMDB environment");
    onFenced(this.#refusal);
    return this.#refusal;
  }
}

export type LmdbDatabase = RootDatabase<Buffer, Buffer>;

/** `refused`: nothing happened and it may work later. `fenced`: unknown outcome, for good. `damaged`: not openable. */
export type LmdbFailureReason = "refused" | "fenced" | "damaged";

export class LmdbFailure extends Error {
  override readonly name = "LmdbFailure";
  readonly reason: LmdbFailureReason;

  constructor(reason: LmdbFailureReason, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.reason = reason;
  }
}

/** An upper bound of what one write puts and removes. */
export type LmdbWriteSize = { readonly entryCount: number; readonly valueBytes: number };

export type LmdbEnvironmentOptions = {
  /** A directory; made when missing. Only one process may have it open. */
  readonly path: string;
  readonly clock: Clock;
  readonly logger: Logger;
  /**
   * Told once when a storage error was met. The process must leave at once and be started anew: LMDB's handling of a
   * failed write overruns a buffer of its own, so the memory may be damaged and the process may abort by itself.
   */
  readonly onFenced: (cause: LmdbFailure) => void;
  /** Address space to begin with; grows as needed. */
  readonly mapBytes?: number;
  /** The file is extended in steps of this size. */
  readonly growthBytes?: number;
  /** A write that takes longer than this is a storage error. */
  readonly stallMsMax?: number;
  /** Writes are refused while the disk has less free than this. */
  readonly diskFreeBytesMin?: number;
  /** Trusts only what was flushed, as after a power cut. For files that were copied or restored on the running machine. */
  readonly safeRestore?: boolean;
};

const DEFAULTS = {
  mapBytes: 1_024 * MIB,
  growthBytes: 64 * MIB,
  stallMsMax: 30_000,
  diskFreeBytesMin: 64 * MIB,
  safeRestore: false,
};
/** An entry rewrites at most the pages from the root to its leaf, with splits, and the rest of its last value page. */
const ENTRY_OVERHEAD_BYTES = 8 * 4_096;
/** The list of free pages and both state pages. */
const TRANSACTION_OVERHEAD_BYTES = 256 * 1_024;
const DISK_CHECK_MS = 1_000;

/**
 * Opens or creates the environment in the directory `path`.
 * @throws {LmdbFailure} `damaged`: the file is cut off or is none of LMDB's; it was not touched
 */
export async function openLmdbEnvironment(given: LmdbEnvironmentOptions): Promise<LmdbEnvironment> {
  const options = { ...DEFAULTS, ...given };
  mkdirSync(options.path, { recursive: true });
  const file = join(options.path, "data.mdb");
  if (existsSync(file)) checkFile(file);

  const db: LmdbDatabase = open({
    path: options.path,
    // Else LMDB takes a directory with a dot in its name for a file.
    noSubdir: false,
    overlappingSync: false,
    encoding: "binary",
    keyEncoding: "binary",
    mapSize: options.mapBytes,
    // Else each turn's writes are wrapped in one more batch, whose promise nobody sees: its rejection ends the process.
    eventTurnBatching: false,
    // Only when asked for: set at all, even to false, it hides LMDB's own environment variable.
    ...(options.safeRestore ? { safeRestore: true } : {}),
  });
  // The names of new files must survive a power cut too.
  for (const directory of [options.path, dirname(options.path)]) await syncDirectory(directory);
  return new LmdbEnvironment(db, openSync(file, "r+"), options);
}

function checkFile(file: string): void {
  const fd = openSync(file, "r");
  try {
    const fileBytes = fstatSync(fd).size;
    const header = readLmdbHeader(fd);
    if (header === null) {
      throw new LmdbFailure(
        "damaged",
        `Cannot open ${file}: its ${fileBytes} bytes do not begin with an LMDB header; restore it, or remove it if nothing was ever stored`,
      );
    }
    const neededBytes = header.pageCount * header.pageBytes;
    if (fileBytes < neededBytes) {
      throw new LmdbFailure(
        "damaged",
        `Cannot open ${file}: it has ${fileBytes} bytes and its header speaks of ${neededBytes}; restore it`,
      );
    }
  } finally {
    closeSync(fd);
  }
}

/** LMDB's own errors carry its numeric code. */
function isLmdbError(cause: unknown): boolean {
  return cause instanceof Error && typeof (cause as { code?: unknown }).code === "number";
}
