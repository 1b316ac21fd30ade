import type { CellChecksum } from "../domain/blob.ts";
import { isStoreError } from "../domain/errors.ts";
import type { BlobId, NodeName } from "../domain/ids.ts";
import { MIB } from "../lib/bytes.ts";
import type { Clock } from "../lib/clock.ts";
import type { Deadline } from "../lib/deadline.ts";
import { deadlineIn } from "../lib/deadline.ts";
import { waitTooLong } from "./blob-errors.ts";
import { cellVolumes, readableSeal, sweepCells } from "./blob-removal.ts";
import { MARKER_VALUE } from "./blob-writer.ts";
import type { CommitBatch } from "./commit-batch.ts";
import type { LmdbVolume } from "./lmdb-volume.ts";
import { untilReadsAreFresh } from "./lmdb-volume.ts";
import type { CellRun } from "./seal.ts";
import { encodeCelledSeal, sealChecksum, volumeOfCell } from "./seal.ts";
import type { FoundSeal, VolumeSet } from "./volume-set.ts";
import { cellKey, markerKey, sealKey } from "./volume-keys.ts";

/**
 * Takes blobs out of one volume and puts them into others, as they are: what is damaged stays damaged, and never looks whole.
 *
 * First the values are copied and durable, then the seal that names their new places, then the old seal goes, and last
 * the old values. Between two of these a crash leaves a blob that is read from one place or from the other, and markers
 * by which the next start finds what belongs to no seal. Readers are given time to see the new before the old goes.
 */
export type MovingDeps = {
  readonly node: NodeName;
  readonly clock: Clock;
  readonly volumes: VolumeSet;
  /** Where a value may be copied to now; null when a volume has to be made first. @throws {StoreError} `node_full` */
  admit(valueBytes: number): LmdbVolume | null;
  grow(deadline: Deadline): Promise<void>;
  put(volume: LmdbVolume, key: Buffer, value: Uint8Array): CommitBatch;
  /** True when somebody waits to delete the blob: then it need not be moved. */
  isLeaving(id: BlobId): boolean;
};

export type MovingOptions = {
  /** For each wait anew. */
  readonly waitMs: number;
  /** Once aborted no further blob is begun, and what is half copied is taken back. */
  readonly signal: AbortSignal;
  /** Resolves when so many more bytes may be copied, or the signal aborts. */
  pace(bytes: number): Promise<void>;
};

/** Copied before it is waited for. */
const COPIED_BYTES_MAX = 4 * MIB;

type Move = {
  readonly id: BlobId;
  readonly packed: boolean;
  readonly payloadBytes: number;
  readonly sealedAtMs: number;
  readonly descriptor: Buffer;
  readonly checksums: readonly CellChecksum[];
  /** Volume of each cell, as the new seal is to say. */
  readonly homes: number[];
  /** Cells that lie in the volume that is emptied. */
  readonly cells: readonly number[];
  readonly runsBefore: readonly CellRun[];
  /** Where readers find the seal now. */
  readonly sealedIn: LmdbVolume;
  /** Volumes that got cells. */
  readonly targets: Set<LmdbVolume>;
  isGivenUp: boolean;
  /** Where the seal is to be; null until it is written there. */
  home: LmdbVolume | null;
};

/**
 * Answers how many bytes were copied. Blobs whose seals nobody can read stay, and those that are about to be deleted. Nobody
 * else may write, mend or delete these blobs meanwhile. @throws {StoreError} `node_full`
 */
export async function moveBlobs(
  deps: MovingDeps,
  from: LmdbVolume,
  ids: readonly BlobId[],
  options: MovingOptions,
): Promise<number> {
  const mover = new BlobMover(deps, from, options);
  const moves = ids.map((id) => mover.lookAt(id)).filter((move) => move !== null);
  try {
    for (const move of moves) await mover.copyCells(move);
    await mover.settle();
    for (const move of moves) await mover.writeSeal(move);
    await mover.settle();
  } catch (cause) {
    await mover.forgetCopies(moves).catch(() => {});
    throw cause;
  }
  const moved = moves.filter(({ home }) => home !== null);
  const left = moved.map((move) => ({ id: move.id, volumes: mover.removeOldSeals(move) }));
  await mover.settle();
  for (const { id, volumes } of left) for (const volume of volumes) await mover.sweep(volume, id);
  await mover.forgetCopies(moves);
  return mover.bytes;
}

class BlobMover {
  bytes = 0;
  readonly #deps: MovingDeps;
  readonly #from: LmdbVolume;
  readonly #options: MovingOptions;
  readonly #batches = new Set<CommitBatch>();
  #unsettledBytes = 0;

  constructor(deps: MovingDeps, from: LmdbVolume, options: MovingOptions) {
    this.#deps = deps;
    this.#from = from;
    this.#options = options;
  }

  /** Null: not to be moved. */
  lookAt(id: BlobId): Move | null {
    const found = this.#find(id);
    if (found === null || this.#deps.isLeaving(id)) return null;
    const { seal, volume } = found;
    const homes: number[] = [];
    const cells: number[] = [];
    const checksums: CellChecksum[] = [];
    for (let index = 0; !seal.packed && index < seal.cellCount; index += 1) {
      const home = volumeOfCell(seal, index);
      homes.push(home);
      checksums.push(sealChecksum(seal, index));
      if (home === this.#from.number) cells.push(index);
    }
    const { packed, payloadBytes, sealedAtMs } = seal;
    const kept = { descriptor: Buffer.from(seal.descriptor), runsBefore: seal.runs, sealedIn: volume };
    const state = { targets: new Set<LmdbVolume>(), isGivenUp: false, home: null };
    return { id, packed, payloadBytes, sealedAtMs, checksums, homes, cells, ...kept, ...state };
  }

  async copyCells(move: Move): Promise<void> {
    const { id } = move;
    for (const index of move.cells) {
      move.isGivenUp ||= this.#deps.isLeaving(id) || this.#options.signal.aborted;
      if (move.isGivenUp) return;
      const key = cellKey(id, index);
      await this.#from.prefetch([key]);
      const value = this.#copyOf(key);
      // A cell that is missing stays so, wherever it belongs.
      const target = await this.#place(value?.length ?? 0, (volume) => {
        if (!move.targets.has(volume)) this.#put(volume, markerKey(id), MARKER_VALUE);
        if (value !== null) this.#put(volume, key, value);
      });
      move.targets.add(target);
      move.homes[index] = target.number;
      if (this.#unsettledBytes >= COPIED_BYTES_MAX) await this.settle();
    }
  }

  /** From here on readers find the blob at its new place. */
  async writeSeal(move: Move): Promise<void> {
    const { id, packed, sealedIn } = move;
    if (move.isGivenUp || this.#deps.isLeaving(id)) return;
    const isElsewhere = sealedIn !== this.#from;
    if (isElsewhere && move.cells.length === 0) {
      move.home = sealedIn;
      return;
    }
    const value = packed ? this.#copyOf(sealKey(id)) : encodeCelledSeal({ ...move, runs: runsOf(move.homes) });
    if (value === null) return;
    const write = (volume: LmdbVolume) => {
      const isNew = volume.get(sealKey(id)) === null;
      if (!packed) volume.remove(markerKey(id));
      this.#put(volume, sealKey(id), value);
      if (isNew) volume.noteSealed(id, move.payloadBytes);
    };
    if (isElsewhere && sealedIn.admitsAgain(value.length)) {
      write(sealedIn);
      move.home = sealedIn;
    } else {
      move.home = await this.#place(value.length, write);
    }
    if (this.#unsettledBytes >= COPIED_BYTES_MAX) await this.settle();
  }

  /** Answers where cells were that the new seal does not name. An earlier move that was cut short may have left a second seal. */
  removeOldSeals({ id, packed, homes, home, payloadBytes }: Move): LmdbVolume[] {
    const { volumes } = this.#deps;
    const left = new Set([this.#from]);
    for (const holder of volumes.holdersOf(id)) {
      if (holder === home) continue;
      for (const volume of cellVolumes(volumes, readableSeal(volumes, holder, id))) left.add(volume);
      left.add(holder);
      if (!packed) this.#put(holder, markerKey(id), MARKER_VALUE);
      this.#batches.add(holder.remove(sealKey(id)));
      holder.noteRemoved(payloadBytes);
    }
    return packed ? [] : [...left].filter((volume) => volume !== home && !homes.includes(volume.number));
  }

  /** Takes back what was copied of blobs whose seals do not name it. */
  async forgetCopies(moves: readonly Move[]): Promise<void> {
    for (const { id, home, targets, runsBefore } of moves) {
      if (home !== null) continue;
      for (const volume of targets) {
        // There other cells of the blob live; the copies beside them go with it.
        if (runsBefore.some((run) => run.volume === volume.number)) continue;
        await this.sweep(volume, id);
      }
    }
  }

  sweep(volume: LmdbVolume, id: BlobId): Promise<void> {
    return sweepCells(this.#deps, volume, id, this.#deadline());
  }

  /** Resolves when all that was written is durable, and seen by every reader. */
  async settle(): Promise<void> {
    const batches = [...this.#batches];
    const bytes = this.#unsettledBytes;
    this.#batches.clear();
    this.#unsettledBytes = 0;
    const onExpiry = () => waitTooLong(this.#deps.node, "a move of blobs");
    const deadline = this.#deadline();
    await Promise.all(batches.map((batch) => batch.wait(deadline, onExpiry)));
    if (batches.length > 0) await untilReadsAreFresh(this.#deps.clock);
    await this.#options.pace(bytes);
  }

  #deadline(): Deadline {
    return deadlineIn(this.#deps.clock, this.#options.waitMs);
  }

  #find(id: BlobId): FoundSeal | null {
    try {
      return this.#deps.volumes.find(id);
    } catch (cause) {
      // What it consists of nobody knows: the audit has it made anew, and this one goes then.
      if (isStoreError(cause, "blob_damaged")) return null;
      throw cause;
    }
  }

  /** What is read is a view of LMDB's own memory. */
  #copyOf(key: Buffer): Buffer | null {
    const value = this.#from.get(key);
    return value === null ? null : Buffer.from(value);
  }

  async #place(valueBytes: number, write: (volume: LmdbVolume) => void): Promise<LmdbVolume> {
    let volume = this.#deps.admit(valueBytes);
    while (volume === null) {
      await this.#deps.grow(this.#deadline());
      volume = this.#deps.admit(valueBytes);
    }
    write(volume);
    return volume;
  }

  #put(volume: LmdbVolume, key: Buffer, value: Uint8Array): void {
    this.#batches.add(this.#deps.put(volume, key, value));
    this.#unsettledBytes += value.length;
    this.bytes += value.length;
  }
}

function runsOf(homes: readonly number[]): CellRun[] {
  const runs: CellRun[] = [];
  for (const [firstCell, volume] of homes.entries()) {
    if (runs.at(-1)?.volume !== volume) runs.push({ firstCell, volume });
  }
  return runs;
}
