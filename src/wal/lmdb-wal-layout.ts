/**
 * Keys and values of the LMDB log. First bytes below 0x10 belong to the metadata store in the same environment.
 *
 * | key         | value                                                                      |
 * |-------------|----------------------------------------------------------------------------|
 * | 10 sequence | version byte, txid (26 characters), encoded intent                          |
 * | 11          | version byte, the last sequence given, written with the batch that used it |
 */
import { StoreError } from "../domain/errors.ts";
import type { Txid } from "../domain/ids.ts";
import type { Intent } from "../domain/intent.ts";
import { decodeIntent, encodeIntent } from "../domain/intent.ts";
import { assert } from "../lib/assert.ts";
import type { LmdbDatabase } from "../lib/lmdb-environment.ts";
import { readUint64, writeUint64 } from "../lib/uint64.ts";
import type { WalSequence } from "./wal.ts";

const INTENT_KIND = 0x10;
const SEQUENCE_KEY = Buffer.of(0x11);
const FORMAT_VERSION = 1;
const TXID_BYTES = 26;
const HEAD_BYTES = 1 + TXID_BYTES;

export const INTENTS_START = Buffer.of(INTENT_KIND);
export const INTENTS_END = Buffer.of(INTENT_KIND + 1);

export function intentKey(sequence: WalSequence): Buffer {
  const key = Buffer.allocUnsafe(9);
  key[0] = INTENT_KIND;
  writeUint64(key, sequence, 1);
  return key;
}

export function sequenceOf(key: Buffer): WalSequence {
  return readUint64(key, 1);
}

export function encodeEntry(intent: Intent): Buffer {
  assert(intent.txid.length === TXID_BYTES, "a txid is a ULID");
  const encoded = encodeIntent(intent);
  const value = Buffer.allocUnsafe(HEAD_BYTES + encoded.length);
  value[0] = FORMAT_VERSION;
  value.write(intent.txid, 1, "latin1");
  value.set(encoded, HEAD_BYTES);
  return value;
}

/** @throws {StoreError} `format_unknown` */
export function txidOf(value: Buffer): Txid {
  refuseUnknownFormat(value);
  return value.toString("latin1", 1, HEAD_BYTES) as Txid;
}

/** @throws {StoreError} `format_unknown` */
export function intentOf(value: Buffer): Intent {
  return decodeIntent(value.subarray(HEAD_BYTES));
}

/** The last sequence given, 0 for none. @throws {StoreError} `format_unknown` */
export function readSequence(db: LmdbDatabase): WalSequence {
  const value = db.getBinary(SEQUENCE_KEY);
  if (value === undefined) return 0;
  refuseUnknownFormat(value);
  return readUint64(value, 1);
}

export function putSequence(db: LmdbDatabase, sequence: WalSequence): void {
  const value = Buffer.allocUnsafe(9);
  value[0] = FORMAT_VERSION;
  writeUint64(value, sequence, 1);
  void db.put(SEQUENCE_KEY, value);
}

function refuseUnknownFormat(value: Buffer): void {
  if (value[0] === FORMAT_VERSION) return;
  throw new StoreError(
    "format_unknown",
    `Cannot read a log entry of format ${value[0]}: this program knows ${FORMAT_VERSION}`,
  );
}
