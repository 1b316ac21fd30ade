import type { BlobInfo, Cell, CellChecksum } from "../domain/blob.ts";
import type { BlobId, NodeName } from "../domain/ids.ts";
import type { NodeState, NodeUsage } from "../domain/node-info.ts";
import type { Deadline } from "../lib/deadline.ts";

export type SealedBlob = {
  readonly id: BlobId;
  /** Encoded `BlobDescriptor`; opaque to the node. */
  readonly descriptor: Uint8Array;
  /** All cells in order; together at most `LIMITS.packedBlobBytesMax`. */
  readonly cells: readonly { readonly payload: Uint8Array; readonly checksum: CellChecksum }[];
};

/** Writes one blob cell by cell. Until `seal` resolves the blob does not exist for any reader. */
export type BlobWriter = {
  /**
   * Stores the next cell; indexes rise from 0 without gaps. Resolves when the payload's memory may be used again, which
   * is not yet durable. Calls may overlap.
   */
  writeCell(index: number, payload: Uint8Array, checksum: CellChecksum): Promise<void>;
  /** Makes the blob durable and visible, both or neither. */
  seal(descriptor: Uint8Array): Promise<void>;
  /**
   * Drops everything written. Idempotent; harmless after `seal`. May be called while cells are on their way: the memory
   * of each is free again as soon as its `writeCell` or this settles, whichever is first.
   */
  abort(): Promise<void>;
};

export type BlobDamage = { readonly id: BlobId; readonly cellIndex: number | null; readonly reason: string };

/**
 * One storage node's immutable blobs. Every method rejects with a `StoreError`: `node_fenced` once a storage error was
 * met (nothing is done any more), `node_full` for writes below the free-space watermark, `node_unavailable`
 * (retriable) when it cannot be reached, `deadline_exceeded` when the wait was too long and the outcome is unknown.
 */
export type BlobStore = {
  readonly node: NodeName;
  state(): NodeState;
  /** Stores a small blob in one step; durable (fsynced) when resolved. Putting the same id again with the same bytes is harmless. The payload's memory is the node's until then. */
  put(blob: SealedBlob, deadline: Deadline): Promise<void>;
  /** Begins a blob of any size. The deadline holds for each wait of the writer anew: `waitMs` from its start. */
  openWriter(id: BlobId, waitMs: number): Promise<BlobWriter>;
  /**
   * Reads `count` cells from `first`. Not verified: the reader verifies, as it must for remote nodes too. Cells behind the end are left out.
   * `into`, where given, receives the payloads back to back (`LIMITS`-sized by the caller) and the cells point there;
   * once `signal` has aborted nothing is written to it any more, and the call rejects with `deadline_exceeded`.
   * @throws {StoreError} `blob_not_found`, `blob_damaged` when the blob's own frame is broken
   */
  readCells(
    id: BlobId,
    first: number,
    count: number,
    deadline: Deadline,
    into?: Uint8Array,
    signal?: AbortSignal,
  ): Promise<Cell[]>;
  /** The sealed descriptor and what is known of the blob, or null. */
  describe(id: BlobId, deadline: Deadline): Promise<{ info: BlobInfo; descriptor: Uint8Array } | null>;
  /** Sealed blobs in order of their ids, behind `after` ("" for the start), at most `limit`. */
  list(after: string, limit: number, deadline: Deadline): Promise<BlobInfo[]>;
  /**
   * Deletes blobs, durable when resolved. Works on a full node. Answers how many existed. A blob that did not is kept away
   * for as long as it may still be on its way: its `put` or `seal` then rejects with `write_conflict`.
   */
  delete(ids: readonly BlobId[], deadline: Deadline): Promise<number>;
  /**
   * Puts the right bytes of one cell back, as the blob's own seal knows them: durable when resolved, and either the old bytes or
   * the new ones are there after a crash. Idempotent. The payload's memory is the node's until then.
   * @throws {StoreError} `blob_not_found`, `blob_damaged` the blob's own frame is broken, `write_conflict` the seal says that
   * these are not the bytes of the cell, `node_full` there is no room to write them
   */
  mendCell(id: BlobId, index: number, payload: Uint8Array, deadline: Deadline): Promise<void>;
  /** Reads every cell of a blob and compares checksums. Empty when all is well. @throws {StoreError} `blob_not_found` */
  verify(id: BlobId, deadline: Deadline): Promise<BlobDamage[]>;
  usage(): Promise<NodeUsage>;
  close(): Promise<void>;
};
