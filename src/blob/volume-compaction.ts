import { isStoreError } from "../domain/errors.ts";
import type { BlobId } from "../domain/ids.ts";
import { MIB } from "../lib/bytes.ts";
import { deadlineIn } from "../lib/deadline.ts";
import type { MovingDeps, MovingOptions } from "./blob-moving.ts";
import { moveBlobs } from "./blob-moving.ts";
import { livesBySealElsewhere, sweepCells } from "./blob-removal.ts";
import type { LmdbVolume } from "./lmdb-volume.ts";
import { untilReadsAreFresh } from "./lmdb-volume.ts";

/**
 * Gives space back to the file system. LMDB uses the pages of deleted blobs again but never shortens a file, so a volume of
 * which little is in use is emptied, blob by blob, and dropped. Reads, writes and deletes go on.
 */
export type VolumeCompaction = {
  /** Does a piece of the work. @throws {StoreError} `node_full` there is no room to move blobs to */
  step(options: CompactionStepOptions): Promise<CompactionStep>;
};

export type CompactionStepOptions = MovingOptions & {
  /** Volumes of whose file a smaller share than this is in use are emptied. */
  readonly below: number;
  /** Where less can be given back it is not worth the work. */
  readonly unusedBytesMin: number;
};

export type CompactionStep =
  | { readonly state: "nothing_to_do" }
  | {
      readonly state: "moved";
      readonly volume: number;
      readonly movedBytes: number;
      readonly blobCount: number;
      readonly blobsLeft: number;
    }
  | { readonly state: "given_back"; readonly volume: number; readonly fileBytes: number }
  /** Blobs that cannot be moved keep the volume. */
  | { readonly state: "kept"; readonly volume: number };

export type CompactionDeps = MovingDeps & {
  /** @throws {StoreError} `node_full` when there is no room to begin */
  assertRoom(): void;
  /** Waits until nothing is under way with these blobs, and keeps others from them until the answer is called. */
  hold(ids: readonly BlobId[], waitMs: number): Promise<() => void>;
  isWriting(id: BlobId): boolean;
};

const BLOBS_PER_STEP = 64;
const BYTES_PER_STEP = 4 * MIB;

export function createVolumeCompaction(deps: CompactionDeps): VolumeCompaction {
  return new Compaction(deps);
}

class Compaction implements VolumeCompaction {
  readonly #deps: CompactionDeps;
  #emptying: { readonly volume: LmdbVolume; readonly fileBytes: number; after: string } | null = null;
  /** Volumes that could not be emptied, with the count of blobs that they had then. */
  readonly #kept = new WeakMap<LmdbVolume, number>();

  constructor(deps: CompactionDeps) {
    this.#deps = deps;
  }

  async step(options: CompactionStepOptions): Promise<CompactionStep> {
    const emptying = (this.#emptying ??= await this.#choose(options));
    if (emptying === null) return { state: "nothing_to_do" };
    const { volume } = emptying;
    if (!this.#isThere(volume)) return this.#end("given_back");
    try {
      const ids = this.#nextIds(volume, emptying.after);
      const last = ids.at(-1);
      if (last === undefined) return await this.#finish(options);
      const movedBytes = await this.#move(volume, ids, options);
      emptying.after = last;
      const blobsLeft = volume.blobCount;
      return { state: "moved", volume: volume.number, movedBytes, blobCount: ids.length, blobsLeft };
    } catch (cause) {
      if (isStoreError(cause, "node_full")) this.#rest();
      throw cause;
    }
  }

  /** The volume of which the smallest share is in use, when it is small enough. */
  async #choose({
    below,
    unusedBytesMin,
  }: CompactionStepOptions): Promise<{ volume: LmdbVolume; fileBytes: number; after: string } | null> {
    const { volumes } = this.#deps;
    const sparse: { volume: LmdbVolume; fileBytes: number; share: number }[] = [];
    for (const volume of volumes.volumes) {
      if (this.#kept.get(volume) === volume.blobCount) continue;
      const fileBytes = await volume.fileBytes().catch(() => 0);
      if (!this.#isThere(volume)) continue;
      const { usedBytes } = volume;
      const share = usedBytes / Math.max(1, fileBytes);
      if (share < below && fileBytes - usedBytes >= unusedBytesMin) sparse.push({ volume, fileBytes, share });
    }
    for (const { volume, fileBytes } of sparse.sort((a, b) => a.share - b.share)) {
      this.#deps.assertRoom();
      if (await volumes.retire(volume)) return { volume, fileBytes, after: "" };
    }
    return null;
  }

  #nextIds(volume: LmdbVolume, after: string): BlobId[] {
    const ids: BlobId[] = [];
    let bytes = 0;
    for (const id of volume.sealedIds(after, BLOBS_PER_STEP)) {
      if (bytes >= BYTES_PER_STEP) break;
      ids.push(id);
      bytes += this.#bytesOf(volume, id);
    }
    return ids;
  }

  /** Of one whose seal nobody can read nothing is copied. */
  #bytesOf(volume: LmdbVolume, id: BlobId): number {
    try {
      return this.#deps.volumes.sealIn(volume, id)?.payloadBytes ?? 0;
    } catch (cause) {
      if (isStoreError(cause, "blob_damaged")) return 0;
      throw cause;
    }
  }

  async #move(volume: LmdbVolume, ids: readonly BlobId[], options: CompactionStepOptions): Promise<number> {
    const release = await this.#deps.hold(ids, options.waitMs);
    try {
      return await moveBlobs(this.#deps, volume, ids, options);
    } finally {
      release();
    }
  }

  /** The seals are gone or stay: cells that live by seals in other volumes follow, and with them the file. */
  async #finish(options: CompactionStepOptions): Promise<CompactionStep> {
    const { volume } = this.#emptying as { volume: LmdbVolume };
    const { volumes, isWriting } = this.#deps;
    for (const id of volume.markedIds(Number.MAX_SAFE_INTEGER)) {
      if (livesBySealElsewhere(volumes, volume, id)) await this.#move(volume, [id], options);
      else if (!isWriting(id)) await sweepCells(this.#deps, volume, id, deadlineIn(this.#deps.clock, options.waitMs));
    }
    await volumes.dropEmpty();
    if (!this.#isThere(volume)) return this.#end("given_back");
    if (volume.isIdle) return this.#end("kept");
    // Somebody still reads from the file.
    await untilReadsAreFresh(this.#deps.clock);
    return { state: "moved", volume: volume.number, movedBytes: 0, blobCount: 0, blobsLeft: 0 };
  }

  #end(state: "kept" | "given_back"): CompactionStep {
    const { volume, fileBytes } = this.#emptying as { volume: LmdbVolume; fileBytes: number };
    this.#rest();
    if (state === "given_back") return { state, volume: volume.number, fileBytes };
    this.#kept.set(volume, volume.blobCount);
    return { state, volume: volume.number };
  }

  #rest(): void {
    this.#emptying = null;
    this.#deps.volumes.readmit();
  }

  #isThere(volume: LmdbVolume): boolean {
    return this.#deps.volumes.volumeOf(volume.number) === volume;
  }
}
