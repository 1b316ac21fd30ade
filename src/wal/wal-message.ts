/**
 * What one message of the NATS log holds: settlements, which apply first, then appends.
 *
 * | bytes            | what                                                        |
 * |------------------|-------------------------------------------------------------|
 * | 1                | version                                                     |
 * | 2                | number of settlements                                       |
 * | 26 each          | txid                                                        |
 * | 2                | number of appends                                           |
 * | 26 + 4 + n each  | txid, length of the intent, the intent in a format of its own |
 *
 * Whole numbers are big-endian.
 */
import { StoreError } from "../domain/errors.ts";
import type { Txid } from "../domain/ids.ts";
import { assert } from "../lib/assert.ts";
import { asBuffer } from "../lib/bytes.ts";

export type WalAppend = { readonly txid: Txid; readonly encoded: Uint8Array };

export type WalMessage = { readonly settled: readonly Txid[]; readonly appends: readonly WalAppend[] };

const FORMAT_VERSION = 1;
const TXID_BYTES = 26;
const COUNT_MAX = 0xffff;
const HEAD_BYTES = 1 + 2 + 2;

/** What an append takes in a message beside the intent itself. */
export const APPEND_HEAD_BYTES = TXID_BYTES + 4;

export function encodeWalMessage({ settled, appends }: WalMessage): Buffer {
  assert(settled.length <= COUNT_MAX && appends.length <= COUNT_MAX, "the counts of a log message fit two bytes");
  const appendBytes = appends.reduce((sum, { encoded }) => sum + APPEND_HEAD_BYTES + encoded.length, 0);
  const bytes = Buffer.allocUnsafe(HEAD_BYTES + settled.length * TXID_BYTES + appendBytes);
  let at = bytes.writeUInt8(FORMAT_VERSION, 0);
  at = bytes.writeUInt16BE(settled.length, at);
  for (const txid of settled) at = writeTxid(bytes, txid, at);
  at = bytes.writeUInt16BE(appends.length, at);
  for (const { txid, encoded } of appends) {
    at = writeTxid(bytes, txid, at);
    at = bytes.writeUInt32BE(encoded.length, at);
    bytes.set(encoded, at);
    at += encoded.length;
  }
  return bytes;
}

/** The intents are views of `message`. @throws {StoreError} `format_unknown` */
export function decodeWalMessage(message: Uint8Array): WalMessage {
  const bytes = asBuffer(message);
  if (bytes[0] !== FORMAT_VERSION) throw unknownFormat(`format ${bytes[0]}: this program knows ${FORMAT_VERSION}`);
  try {
    return decodeBody(bytes);
  } catch (cause) {
    if (!(cause instanceof RangeError)) throw cause;
    throw unknownFormat(`${bytes.length} bytes: it ends early`);
  }
}

function decodeBody(bytes: Buffer): WalMessage {
  let at = 1;
  const settled: Txid[] = [];
  const settledCount = bytes.readUInt16BE(at);
  at += 2;
  for (let index = 0; index < settledCount; index += 1, at += TXID_BYTES) settled.push(readTxid(bytes, at));
  const appends: WalAppend[] = [];
  const appendCount = bytes.readUInt16BE(at);
  at += 2;
  for (let index = 0; index < appendCount; index += 1) {
    const txid = readTxid(bytes, at);
    const start = at + APPEND_HEAD_BYTES;
    at = start + bytes.readUInt32BE(at + TXID_BYTES);
    if (at > bytes.length) throw new RangeError("the intent ends behind the message");
    appends.push({ txid, encoded: bytes.subarray(start, at) });
  }
  return { settled, appends };
}

function writeTxid(bytes: Buffer, txid: Txid, at: number): number {
  assert(txid.length === TXID_BYTES, "a txid is a ULID");
  return at + bytes.write(txid, at, "latin1");
}

function readTxid(bytes: Buffer, at: number): Txid {
  if (at + TXID_BYTES > bytes.length) throw new RangeError("the txid ends behind the message");
  return bytes.toString("latin1", at, at + TXID_BYTES) as Txid;
}

function unknownFormat(found: string): StoreError {
  return new StoreError("format_unknown", `Cannot read a log message of ${found}`);
}
