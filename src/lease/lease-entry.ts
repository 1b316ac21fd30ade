/**
 * What the KV bucket holds for a lease.
 *
 * | bytes | what                                                                        |
 * |-------|-----------------------------------------------------------------------------|
 * | 1     | version                                                                     |
 * | 8     | instance: chosen at random by each process                                  |
 * | 4     | milliseconds, big-endian, for which the lease stands after each renewal      |
 * | rest  | name of the holder in UTF-8; nothing when it was released                   |
 */
import { StoreError } from "../domain/errors.ts";
import { assert } from "../lib/assert.ts";
import { asBuffer } from "../lib/bytes.ts";

export type LeaseEntry = {
  /** 16 hex digits. */
  readonly instance: string;
  readonly ttlMs: number;
  /** "" when nobody holds it. */
  readonly holder: string;
};

const FORMAT_VERSION = 1;
const INSTANCE_BYTES = 8;
const HEAD_BYTES = 1 + INSTANCE_BYTES + 4;

export function encodeLeaseEntry({ instance, ttlMs, holder }: LeaseEntry): Buffer {
  assert(instance.length === 2 * INSTANCE_BYTES, "an instance has 16 hex digits");
  const bytes = Buffer.alloc(HEAD_BYTES + Buffer.byteLength(holder));
  bytes.writeUInt8(FORMAT_VERSION, 0);
  bytes.write(instance, 1, "hex");
  bytes.writeUInt32BE(ttlMs, 1 + INSTANCE_BYTES);
  bytes.write(holder, HEAD_BYTES, "utf8");
  return bytes;
}

/** @throws {StoreError} `format_unknown` */
export function decodeLeaseEntry(value: Uint8Array): LeaseEntry {
  const bytes = asBuffer(value);
  if (bytes[0] !== FORMAT_VERSION || bytes.length < HEAD_BYTES) {
    throw new StoreError(
      "format_unknown",
      `Cannot read a lease of format ${bytes[0]} and ${bytes.length} bytes: this program knows ${FORMAT_VERSION}`,
    );
  }
  return {
    instance: bytes.toString("hex", 1, 1 + INSTANCE_BYTES),
    ttlMs: bytes.readUInt32BE(1 + INSTANCE_BYTES),
    holder: bytes.toString("utf8", HEAD_BYTES),
  };
}
