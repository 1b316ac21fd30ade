import type { BlobInfo, Cell, CellChecksum } from "../domain/blob.ts";
import { cellChecksum } from "../domain/checksum.ts";
import type { BlobId, NodeName } from "../domain/ids.ts";
import type { NodeState, NodeUsage } from "../domain/node-info.ts";
import { assert } from "../lib/assert.ts";
import type { Clock } from "../lib/clock.ts";
import { LIMITS } from "../limits.ts";
import { BarredBlobs } from "./barred-blobs.ts";
import {
  blobBarred,
  blobNotFound,
  cellRefused,
  nodeClosed,
  readGivenUp,
  writerAborted,
  writerConflict,
} from "./blob-errors.ts";
import type { BlobDamage, BlobStore, BlobWriter, SealedBlob } from "./blob-store.ts";

type StoredCell = { readonly payload: Uint8Array; readonly checksum: CellChecksum };
type StoredBlob = { readonly info: BlobInfo; readonly descriptor: Uint8Array; readonly cells: readonly StoredCell[] };

/** Blobs in memory, for tests of what is built on a `BlobStore`. Nothing outlives the process. */
export class MemoryBlobStore implements BlobStore {
  readonly node: NodeName;
  readonly #clock: Clock;
  readonly #blobs = new Map<BlobId, StoredBlob>();
  readonly #writing = new Set<BlobId>();
  readonly #barred: BarredBlobs;
  #isClosed = false;

  constructor(node: NodeName, clock: Clock) {
    this.node = node;
    this.#barred = new BarredBlobs(clock);
    this.#clock = clock;
  }

  state(): NodeState {
    return this.#isClosed ? "down" : "live";
  }

  async put(blob: SealedBlob): Promise<void> {
    this.#assertOpen("store a blob");
    if (this.#writing.has(blob.id)) throw writerConflict(this.node, blob.id);
    const bytes = blob.cells.reduce((sum, cell) => sum + cell.payload.length, 0);
    assert(bytes <= LIMITS.packedBlobBytesMax, "a blob put in one step is a small one");
    const cells = blob.cells.map(({ payload, checksum }) => ({ payload: Uint8Array.from(payload), checksum }));
    this.#store(blob.id, blob.descriptor, cells);
  }

  async openWriter(id: BlobId): Promise<BlobWriter> {
    this.#assertOpen("open a writer");
    if (this.#writing.has(id)) throw writerConflict(this.node, id);
    if (this.#barred.has(id)) throw blobBarred(this.node, id);
    this.#writing.add(id);
    const cells: StoredCell[] = [];
    let state: "open" | "sealed" | "aborted" = "open";
    const assertUsable = () => {
      this.#assertOpen("write a blob");
      if (state === "aborted") throw writerAborted(this.node, id);
    };
    return {
      writeCell: async (index, payload, checksum) => {
        assertUsable();
        assert(state === "open", "no cell follows the seal");
        assert(index === cells.length, "cells come in order and without gaps");
        cells.push({ payload: Uint8Array.from(payload), checksum });
      },
      seal: async (descriptor) => {
        assertUsable();
        state = "sealed";
        this.#writing.delete(id);
        this.#store(id, descriptor, cells);
      },
      abort: async () => {
        if (state !== "open") return;
        state = "aborted";
        this.#writing.delete(id);
      },
    };
  }

  async readCells(
    id: BlobId,
    first: number,
    count: number,
    _deadline: unknown,
    into?: Uint8Array,
    signal?: AbortSignal,
  ): Promise<Cell[]> {
    this.#assertOpen("read cells");
    if (signal?.aborted === true) throw readGivenUp(this.node, id);
    let used = 0;
    return this.#find(id)
      .cells.slice(first, first + count)
      .map(({ payload, checksum }, offset) => {
        const target = into?.subarray(used, used + payload.length) ?? new Uint8Array(payload.length);
        target.set(payload);
        used += payload.length;
        return { index: first + offset, payload: target, checksum };
      });
  }

  async describe(id: BlobId): Promise<{ info: BlobInfo; descriptor: Uint8Array } | null> {
    this.#assertOpen("describe a blob");
    const blob = this.#blobs.get(id);
    return blob === undefined ? null : { info: blob.info, descriptor: Uint8Array.from(blob.descriptor) };
  }

  async list(after: string, limit: number): Promise<BlobInfo[]> {
    this.#assertOpen("list blobs");
    const ids = [...this.#blobs.keys()].filter((id) => id > after).sort();
    return ids.slice(0, limit).map((id) => this.#find(id).info);
  }

  async delete(ids: readonly BlobId[]): Promise<number> {
    this.#assertOpen("delete blobs");
    const absent = [...new Set(ids)].filter((id) => !this.#blobs.has(id));
    for (const id of absent) this.#barred.add(id);
    return ids.filter((id) => this.#blobs.delete(id)).length;
  }

  async verify(id: BlobId): Promise<BlobDamage[]> {
    this.#assertOpen("verify a blob");
    return this.#find(id).cells.flatMap(({ payload, checksum }, cellIndex) =>
      cellChecksum(payload, id, cellIndex) === checksum
        ? []
        : [{ id, cellIndex, reason: "its bytes do not match their checksum" }],
    );
  }

  async mendCell(id: BlobId, index: number, payload: Uint8Array): Promise<void> {
    this.#assertOpen("mend a cell");
    const { cells } = this.#find(id);
    const cell = cells[index];
    if (cell === undefined || cellChecksum(payload, id, index) !== cell.checksum)
      throw cellRefused(this.node, id, index);
    cell.payload.set(payload);
  }

  async usage(): Promise<NodeUsage> {
    this.#assertOpen("measure usage");
    const liveBytes = [...this.#blobs.values()].reduce((sum, blob) => sum + blob.info.payloadBytes, 0);
    return {
      blobCount: this.#blobs.size,
      liveBytes,
      fileBytes: liveBytes,
      volumeCount: 1,
      quarantinedCount: 0,
      diskFreeBytes: Number.MAX_SAFE_INTEGER,
    };
  }

  async close(): Promise<void> {
    this.#isClosed = true;
  }

  #store(id: BlobId, descriptor: Uint8Array, cells: readonly StoredCell[]): void {
    if (this.#blobs.has(id)) return;
    if (this.#barred.has(id)) throw blobBarred(this.node, id);
    const payloadBytes = cells.reduce((sum, cell) => sum + cell.payload.length, 0);
    const info = { id, cellCount: cells.length, payloadBytes, sealedAtMs: this.#clock.wallMs() };
    this.#blobs.set(id, { info, descriptor: Uint8Array.from(descriptor), cells });
  }

  #find(id: BlobId): StoredBlob {
    const blob = this.#blobs.get(id);
    if (blob === undefined) throw blobNotFound(this.node, id);
    return blob;
  }

  #assertOpen(action: string): void {
    if (this.#isClosed) throw nodeClosed(this.node, action);
  }
}
