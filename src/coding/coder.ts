import type { CellChecksum } from "../domain/blob.ts";
import type { BlobPart, Txid } from "../domain/ids.ts";
import type { HybridLayout, Redundancy } from "../domain/manifest.ts";
import type { SplitOptions } from "../placement/json-split.ts";

/**
 * Hashing, Reed-Solomon and checksums, away from the event loop. A stripe is shared memory: k data cells back to back
 * from offset 0, then m parity cells. It has room for `k * cellBytes` + `m * cellBytes` bytes and belongs to the
 * caller, who must not touch it while a call that got it is pending.
 */
export type Stripe = { readonly memory: SharedArrayBuffer; readonly bytes: Uint8Array };

export type EncodeRequest = {
  /** Stripe number within the blob set: the cell index of its cells. */
  readonly stripeIndex: number;
  /** Content bytes from offset 0; the rest of the data cells is zeroed by the coder. */
  readonly dataBytes: number;
  /** Payload bytes of each cell of this stripe. */
  readonly cellBytes: number;
};

export type UploadOptions = {
  readonly txid: Txid;
  /** Names the blob set whose cells are encoded: checksums cover identity. */
  readonly part: BlobPart;
  readonly redundancy: Redundancy;
  /** Splits a JSON document into hot and cold on the way; null passes bytes through. */
  readonly split: SplitOptions | null;
  /** Also compute MD5 of the whole. */
  readonly md5: boolean;
};

export type UploadDigests = {
  /** Lower-case hex of every byte absorbed. */
  readonly sha256: string;
  readonly md5: string | null;
  /** Only of a split upload. */
  readonly split: { readonly coldSha256: string; readonly hot: Uint8Array; readonly layout: HybridLayout } | null;
};

/**
 * The state of one upload in one thread: digests, and where the JSON scanner stands. Calls are made one after the
 * other per upload; uploads share the threads fairly, stripe by stripe.
 * Every method rejects with `worker_failed` (retriable) when the thread died, and a strict split with `json_invalid`,
 * `json_not_object`, `json_too_deep` or `hot_field_duplicate` (with the byte offset in `details.offset`).
 */
export type CodingUpload = {
  /**
   * Adds the body bytes at [from, to) of the stripe to the digests. A splitting upload removes the hot values from that range, moving
   * the cold bytes behind them down; the answer is where the content now ends (`to` when nothing was removed).
   */
  absorb(stripe: Stripe, from: number, to: number): Promise<number>;
  /** Fills the parity cells. Answers the checksum of every cell, k data then m parity; for replication one per copy, all of the one data cell. */
  encode(stripe: Stripe, request: EncodeRequest): Promise<CellChecksum[]>;
  /** `absorb` and `encode` in one trip to the thread, for uploads that do not split. */
  absorbAndEncode(stripe: Stripe, from: number, to: number, request: EncodeRequest): Promise<CellChecksum[]>;
  /** Ends the body: the digests, and for a split upload what was split off. No more bytes may be absorbed; `encode` still works until `close`. */
  finish(): Promise<UploadDigests>;
  /** Gives the thread's state back. Idempotent; also ends an upload that failed. */
  close(): Promise<void>;
};

export type CellToVerify = {
  /** Where the payload lies in the stripe: shard `shardIndex` at `shardIndex * cellBytes`. */
  readonly shardIndex: number;
  readonly checksum: CellChecksum;
};

export type DecodeRequest = {
  readonly txid: Txid;
  readonly part: BlobPart;
  readonly redundancy: Redundancy;
  readonly stripeIndex: number;
  readonly cellBytes: number;
  /** The cells that were read into the stripe. For replication the one cell at offset 0 with `shardIndex` naming its copy. */
  readonly cells: readonly CellToVerify[];
  /** Data shards wanted whole afterwards; those not among `cells` are rebuilt. */
  readonly wanted: readonly number[];
};

/** `damaged` lists shards whose checksum did not match; `ok` says whether all wanted data cells are there and right. */
export type DecodeResult = { readonly ok: boolean; readonly damaged: readonly number[] };

/** Something done to a whole document in memory (`placement/`), in a thread when large. */
export type DocumentTask =
  | { readonly kind: "project"; readonly document: Uint8Array; readonly fields: readonly string[] }
  | { readonly kind: "merge"; readonly document: Uint8Array; readonly patch: Uint8Array };

export type Coder = {
  openUpload(options: UploadOptions): Promise<CodingUpload>;
  /** Verifies cells against their checksums and rebuilds what is wanted and missing, in place. */
  verifyAndDecode(stripe: Stripe, request: DecodeRequest): Promise<DecodeResult>;
  /** project: a JSON object of just those fields. merge: the document after RFC 7396. @throws {StoreError} the JSON errors */
  transform(task: DocumentTask): Promise<Uint8Array>;
  /** Milliseconds spent in threads since start, for metrics. */
  spent(): { readonly hashMs: number; readonly encodeMs: number; readonly decodeMs: number };
  close(): Promise<void>;
};
