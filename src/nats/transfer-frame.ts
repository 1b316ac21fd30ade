/**
 * The messages of a transfer: a body in numbered chunks, and what both sides tell each other about it. Layout, numbers
 * big-endian: version, kind, two zero bytes, index (4 bytes), position (8 bytes), payload.
 */
import { StoreError } from "../domain/errors.ts";
import { assert } from "../lib/assert.ts";
import { asBuffer } from "../lib/bytes.ts";

const FORMAT_VERSION = 1;
export const FRAME_HEADER_BYTES = 16;

/**
 * - `data`: chunk `index`, which starts at byte `position`.
 * - `end`: there are `index` chunks with `position` bytes; the payload is their SHA-256, or nothing where nobody knows it.
 * - `credit`: chunks before `index` have arrived; chunks before `position` may be sent. Both only ever grow, so a lost
 *   one does no harm.
 * - `resend`: a `credit` that also says that chunk `index` got lost: go on from there.
 * - `ask`: where do you stand? Answered by `credit`, `done` or `failed`. Also a sign of life.
 * - `done`: the receipt of an upload, as JSON.
 * - `failed`: why the transfer has ended, an `ErrorAnswer` as JSON.
 * - `bye`: the sender of this wants no more of the transfer.
 */
const KINDS = ["data", "end", "credit", "resend", "ask", "done", "failed", "bye"] as const;
export type FrameKind = (typeof KINDS)[number];

export type Frame = {
  readonly kind: FrameKind;
  readonly index: number;
  readonly position: number;
  readonly payload: Uint8Array;
};

const INDEX_MAX = 0xffff_ffff;
const NOTHING = new Uint8Array(0);

export function encodeFrame(kind: FrameKind, index = 0, position = 0, payload: Uint8Array = NOTHING): Uint8Array {
  const bytes = Buffer.allocUnsafe(FRAME_HEADER_BYTES + payload.length);
  bytes.set(payload, FRAME_HEADER_BYTES);
  writeFrameHeader(bytes, kind, index, position);
  return bytes;
}

/** Makes a frame of bytes whose payload stands behind `FRAME_HEADER_BYTES` already. */
export function writeFrameHeader(bytes: Uint8Array, kind: FrameKind, index: number, position: number): void {
  assert(index >= 0 && index <= INDEX_MAX, "a transfer has fewer chunks than an index can count");
  const buffer = asBuffer(bytes);
  buffer[0] = FORMAT_VERSION;
  buffer[1] = KINDS.indexOf(kind) + 1;
  buffer.writeUInt16BE(0, 2);
  buffer.writeUInt32BE(index, 4);
  buffer.writeBigUInt64BE(BigInt(position), 8);
}

/** The payload shares memory with `bytes`. @throws {StoreError} `format_unknown`, `request_malformed` */
export function decodeFrame(bytes: Uint8Array): Frame {
  if (bytes.length >= 1 && bytes[0] !== FORMAT_VERSION) {
    throw new StoreError(
      "format_unknown",
      `Cannot read a transfer frame of format ${bytes[0]}: this program knows ${FORMAT_VERSION}`,
    );
  }
  const kind = KINDS[(bytes[1] ?? 0) - 1];
  if (bytes.length < FRAME_HEADER_BYTES || kind === undefined) {
    throw new StoreError("request_malformed", `${bytes.length} bytes are no frame of a transfer`);
  }
  const buffer = asBuffer(bytes);
  const position = Number(buffer.readBigUInt64BE(8));
  if (!Number.isSafeInteger(position)) {
    throw new StoreError("request_malformed", "A transfer frame counts beyond what an object can have");
  }
  return { kind, index: buffer.readUInt32BE(4), position, payload: bytes.subarray(FRAME_HEADER_BYTES) };
}
