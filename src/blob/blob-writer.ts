import type { BlobDamage, BlobWriter } from "./blob-store.ts";
import type { CellChecksum } from "../domain/blob.ts";
import type { BlobId, NodeName } from "../domain/ids.ts";
import { assert } from "../lib/assert.ts";
import type { Clock } from "../lib/clock.ts";
import type { Deadline } from "../lib/deadline.ts";
import { deadlineIn } from "../lib/deadline.ts";
import { LIMITS } from "../limits.ts";
import { blobDamaged, waitTooLong, writerAborted } from "./blob-errors.ts";
import type { CommitBatch } from "./commit-batch.ts";
import type { LmdbVolume } from "./lmdb-volume.ts";
import type { CellRun } from "./seal.ts";
import { encodeCelledSeal, sealBytes } from "./seal.ts";
import type { VolumeSet } from "./volume-set.ts";
import { cellKey, markerKey, sealKey } from "./volume-keys.ts";

/**
 * Writes one large blob. In each volume that it touches a marker is committed together with the first cell, so that
 * the next start finds what a crash left half-written. The seal removes the marker of its own volume; where a blob
 * goes on in other volumes their markers stay, and say that the cells there live by a seal elsewhere.
 */
export type WriterDeps = {
  readonly node: NodeName;
  readonly clock: Clock;
  readonly volumes: VolumeSet;
  /** @throws {StoreError} when the node takes no writes */
  assertWritable(bytes: number): void;
  /** @throws {StoreError} when the node does nothing any more */
  assertServing(action: string): void;
  put(volume: LmdbVolume, key: Buffer, value: Uint8Array): CommitBatch;
  grow(deadline: Deadline): Promise<void>;
  /** @throws {StoreError} `write_conflict` when the blob was deleted meanwhile */
  assertWanted(id: BlobId): void;
  onFinished(id: BlobId): void;
};

/** Removals per transaction: more would hold up other writes to the volume. */
export const REMOVALS_PER_BATCH = 256;
export const MARKER_VALUE = Buffer.from([1]);

export class LmdbBlobWriter implements BlobWriter {
  readonly #deps: WriterDeps;
  readonly #id: BlobId;
  readonly #waitMs: number;
  readonly #checksums: CellChecksum[] = [];
  readonly #volumeOfCell: (LmdbVolume | null)[] = [];
  /** Volumes with a marker of this blob and the last batch written there. */
  readonly #batches = new Map<LmdbVolume, CommitBatch>();
  readonly #pending = new Set<Promise<void>>();
  #payloadBytes = 0;
  #volume: LmdbVolume | null = null;
  #sealVolume: LmdbVolume | null = null;
  #failure: unknown = null;
  #state: "open" | "sealing" | "sealed" | "aborted" = "open";

  constructor(deps: WriterDeps, id: BlobId, waitMs: number) {
    this.#deps = deps;
    this.#id = id;
    this.#waitMs = waitMs;
  }

  async writeCell(index: number, payload: Uint8Array, checksum: CellChecksum): Promise<void> {
    assert(this.#state !== "sealing" && this.#state !== "sealed", "no cell follows the seal");
    assert(index === this.#checksums.length, "cells come in order and without gaps");
    assert(payload.length > 0 && payload.length <= LIMITS.cellBytesMax, "a cell has 1 byte to the maximum");
    if (this.#state === "aborted") throw writerAborted(this.#deps.node, this.#id);
    this.#checksums.push(checksum);
    this.#volumeOfCell.push(null);
    this.#payloadBytes += payload.length;
    const work = this.#storeCell(index, payload);
    this.#pending.add(work);
    try {
      await work;
    } catch (cause) {
      this.#failure ??= cause;
      throw cause;
    } finally {
      this.#pending.delete(work);
    }
  }

  async seal(descriptor: Uint8Array): Promise<void> {
    if (this.#state === "sealed") return;
    assert(this.#state !== "sealing", "a blob is sealed once");
    if (this.#state === "aborted") throw writerAborted(this.#deps.node, this.#id);
    this.#state = "sealing";
    await Promise.all(this.#pending);
    if (this.#failure !== null) throw this.#failure;
    const deadline = this.#deadline();
    const runs = this.#runs();
    const bytes = sealBytes(this.#id, this.#checksums.length, runs.length, descriptor.length);
    const volume = await this.#admitSeal(bytes, deadline);
    this.#deps.assertWanted(this.#id);
    const seal = encodeCelledSeal({
      id: this.#id,
      sealedAtMs: this.#deps.clock.wallMs(),
      descriptor,
      payloadBytes: this.#payloadBytes,
      checksums: this.#checksums,
      runs,
    });
    this.#sealVolume = volume;
    if (this.#batches.has(volume)) volume.remove(markerKey(this.#id));
    const batch = this.#deps.put(volume, sealKey(this.#id), seal);
    volume.noteSealed(this.#id, this.#payloadBytes);
    await this.#wait(batch, deadline, "the seal");
    this.#state = "sealed";
    this.#finish();
  }

  async abort(): Promise<void> {
    if (this.#state === "sealed" || this.#state === "aborted") return;
    this.#state = "aborted";
    try {
      await Promise.allSettled(this.#pending);
      this.#deps.assertServing("abort a write");
      await this.#removeAll();
    } finally {
      this.#finish();
    }
  }

  async #storeCell(index: number, payload: Uint8Array): Promise<void> {
    const deadline = this.#deadline();
    let volume = this.#admit(payload.length);
    while (volume === null) {
      await this.#deps.grow(deadline);
      volume = this.#admit(payload.length);
    }
    // Nothing is awaited between the admission and the put, which takes the room that was found.
    if (!this.#batches.has(volume)) {
      volume.users += 1;
      this.#deps.put(volume, markerKey(this.#id), MARKER_VALUE);
    }
    this.#volume = volume;
    this.#volumeOfCell[index] = volume;
    const batch = this.#deps.put(volume, cellKey(this.#id, index), payload);
    this.#batches.set(volume, batch);
    await this.#wait(batch, deadline, "a cell");
  }

  /** The volume for a value of this size, the one in use while it has room; null when one has to be made. */
  #admit(valueBytes: number): LmdbVolume | null {
    this.#deps.assertWritable(valueBytes);
    if (this.#volume?.admits(valueBytes) === true) return this.#volume;
    return this.#deps.volumes.admit(valueBytes);
  }

  /** The volume for the seal, which must not become durable before the cells that it vouches for. */
  async #admitSeal(valueBytes: number, deadline: Deadline): Promise<LmdbVolume> {
    for (;;) {
      const volume = this.#admit(valueBytes);
      if (volume === null) {
        await this.#deps.grow(deadline);
        continue;
      }
      const elsewhere = [...this.#batches].filter(([other, batch]) => other !== volume && !batch.isSettled);
      if (elsewhere.length === 0) return volume;
      for (const [, batch] of elsewhere) await this.#wait(batch, deadline, "a cell");
    }
  }

  /** Removals follow the writes in LMDB's queue, so they also catch what has not been committed yet. */
  async #removeAll(): Promise<void> {
    const deadline = this.#deadline();
    this.#removeSeal();
    let removed = 0;
    for (const [index, volume] of this.#volumeOfCell.entries()) {
      if (volume === null) continue;
      const batch = volume.remove(cellKey(this.#id, index));
      removed += 1;
      if (removed % REMOVALS_PER_BATCH === 0) await this.#wait(batch, deadline, "an abort");
    }
    for (const volume of this.#batches.keys()) {
      await this.#wait(volume.remove(markerKey(this.#id)), deadline, "an abort");
    }
  }

  /** Only a seal whose outcome stayed unknown is there to be removed. */
  #removeSeal(): void {
    if (this.#sealVolume === null) return;
    this.#sealVolume.remove(sealKey(this.#id));
    this.#sealVolume.noteRemoved(this.#payloadBytes);
    if (this.#batches.has(this.#sealVolume)) this.#deps.put(this.#sealVolume, markerKey(this.#id), MARKER_VALUE);
  }

  #runs(): CellRun[] {
    const runs: CellRun[] = [];
    for (const [firstCell, volume] of this.#volumeOfCell.entries()) {
      assert(volume !== null, "every cell was stored");
      if (runs.at(-1)?.volume !== volume.number) runs.push({ firstCell, volume: volume.number });
    }
    return runs;
  }

  #finish(): void {
    for (const volume of this.#batches.keys()) volume.users -= 1;
    this.#batches.clear();
    this.#deps.onFinished(this.#id);
  }

  #deadline(): Deadline {
    return deadlineIn(this.#deps.clock, this.#waitMs);
  }

  #wait(batch: CommitBatch, deadline: Deadline, what: string): Promise<void> {
    return batch.wait(deadline, () => waitTooLong(this.#deps.node, `${what} of blob ${this.#id}`));
  }
}

/**
 * Stands in for the writer of a blob that is sealed already: a repeated write stores nothing, but it is acknowledged
 * only after what is there was read and found whole. A damaged blob has to be deleted before it can be written again.
 */
export class RepeatedBlobWriter implements BlobWriter {
  readonly #id: BlobId;
  readonly #verify: () => Promise<BlobDamage[]>;

  constructor(id: BlobId, verify: () => Promise<BlobDamage[]>) {
    this.#id = id;
    this.#verify = verify;
  }

  async writeCell(): Promise<void> {}

  async seal(): Promise<void> {
    const [damage] = await this.#verify();
    if (damage !== undefined) {
      throw blobDamaged(
        this.#id,
        `it is stored already and ${damage.reason}; delete it before writing it again`,
        damage.cellIndex,
      );
    }
  }

  async abort(): Promise<void> {}
}
