/** Fields of messages, little endian. The reader trusts nothing: whatever does not fit is `format_unknown`. */
import { StoreError } from "../domain/errors.ts";
import type { BlobId } from "../domain/ids.ts";
import { parseBlobId } from "../domain/ids.ts";

export function malformedMessage(reason: string): StoreError {
  return new StoreError("format_unknown", `Cannot read a message between node and client: ${reason}`);
}

/** Writes fields one after the other into bytes of exactly the right size. */
export class WireWriter {
  readonly bytes: Buffer;
  at = 0;

  constructor(sizeBytes: number) {
    this.bytes = Buffer.allocUnsafe(sizeBytes);
  }

  u8(value: number): void {
    this.at = this.bytes.writeUInt8(value, this.at);
  }

  u16(value: number): void {
    this.at = this.bytes.writeUInt16LE(value, this.at);
  }

  u32(value: number): void {
    this.at = this.bytes.writeUInt32LE(value, this.at);
  }

  u48(value: number): void {
    this.at = this.bytes.writeUIntLE(value, this.at, 6);
  }

  u64(value: bigint): void {
    this.at = this.bytes.writeBigUInt64LE(value, this.at);
  }

  raw(value: Uint8Array): void {
    this.bytes.set(value, this.at);
    this.at += value.length;
  }

  /** ASCII of at most 255 characters behind its length. */
  text8(value: string): void {
    this.u8(value.length);
    this.at += this.bytes.write(value, this.at, "latin1");
  }

  bytes16(value: Uint8Array): void {
    this.u16(value.length);
    this.raw(value);
  }

  bytes32(value: Uint8Array): void {
    this.u32(value.length);
    this.raw(value);
  }
}

/** Reads fields; byte strings are views. */
export class WireReader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  u8(): number {
    return this.#bytes.readUInt8(this.#take(1));
  }

  u16(): number {
    return this.#bytes.readUInt16LE(this.#take(2));
  }

  u32(): number {
    return this.#bytes.readUInt32LE(this.#take(4));
  }

  u48(): number {
    return this.#bytes.readUIntLE(this.#take(6), 6);
  }

  u64(): bigint {
    return this.#bytes.readBigUInt64LE(this.#take(8));
  }

  raw(length: number): Buffer {
    const at = this.#take(length);
    return this.#bytes.subarray(at, at + length);
  }

  text8(): string {
    return this.raw(this.u8()).toString("latin1");
  }

  blobId(): BlobId {
    const id = parseBlobId(this.text8())?.id;
    if (id === undefined) throw malformedMessage("it names a blob by what is no blob id");
    return id;
  }

  bytes16(): Buffer {
    return this.raw(this.u16());
  }

  bytes32(): Buffer {
    return this.raw(this.u32());
  }

  /** A number that must lie between 0 and `max`. */
  bounded(value: number, max: number, what: string): number {
    if (value > max) throw malformedMessage(`it has ${value} ${what}, at most ${max} are allowed`);
    return value;
  }

  /** Every message is read to its last byte. */
  end(): void {
    const left = this.#bytes.length - this.#at;
    if (left !== 0) throw malformedMessage(`${left} bytes are left over at its end`);
  }

  #take(length: number): number {
    const at = this.#at;
    if (at + length > this.#bytes.length) throw malformedMessage("it is cut short");
    this.#at = at + length;
    return at;
  }
}
