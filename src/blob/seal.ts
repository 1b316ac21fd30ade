import type { BlobInfo, CellChecksum } from "../domain/blob.ts";
import { checksumOf } from "../domain/checksum.ts";
import type { BlobId } from "../domain/ids.ts";
import { assert } from "../lib/assert.ts";
import { blobDamaged } from "./blob-errors.ts";

/**
 * Codec of the seal: the value whose presence makes a blob exist. A packed blob is its seal and nothing else; of a
 * larger one the cells are values of their own.
 *
 * Layout, little endian: version u8, kind u8, id length u8, spare u8, cell count u32, payload bytes u48, sealed-at u48,
 * descriptor length u32, run count u32, id, per packed cell its length u32 or per run (first cell u32, volume u32),
 * cell checksums u64 each, descriptor, XXH64 of everything so far; then for a packed blob the payloads back to back,
 * which the checksums of the cells protect.
 */
export type Seal = BlobInfo & {
  readonly packed: boolean;
  readonly runs: readonly CellRun[];
  /** Views into the bytes that were parsed: copy what must outlive them. */
  readonly descriptor: Buffer;
  readonly checksums: Buffer;
  /** Lengths of packed cells, u32 each. */
  readonly lengths: Buffer;
  /** Payloads of a packed blob. */
  readonly payload: Buffer;
};

/** From `firstCell` up to the next run the cells are in volume `volume`. */
export type CellRun = { readonly firstCell: number; readonly volume: number };

export type PackedBlob = {
  readonly id: BlobId;
  readonly sealedAtMs: number;
  readonly descriptor: Uint8Array;
  readonly cells: readonly { readonly payload: Uint8Array; readonly checksum: CellChecksum }[];
};

export type CelledBlob = {
  readonly id: BlobId;
  readonly sealedAtMs: number;
  readonly descriptor: Uint8Array;
  readonly payloadBytes: number;
  readonly checksums: readonly CellChecksum[];
  readonly runs: readonly CellRun[];
};

const FORMAT_VERSION = 1;
const KIND_CELLED = 0;
const KIND_PACKED = 1;
const HEADER_BYTES = 28;

/** Bytes of a seal without payloads. */
export function sealBytes(id: BlobId, cellCount: number, runCount: number, descriptorBytes: number): number {
  const perCell = runCount === 0 ? 12 : 8;
  return HEADER_BYTES + id.length + cellCount * perCell + runCount * 8 + descriptorBytes + 8;
}

/** `allocate` gives the memory; all of it is overwritten. */
export function encodePackedSeal(blob: PackedBlob, allocate: (bytes: number) => Buffer): Buffer {
  let payloadBytes = 0;
  for (const cell of blob.cells) payloadBytes += cell.payload.length;
  const frameBytes = sealBytes(blob.id, blob.cells.length, 0, blob.descriptor.length);
  const bytes = allocate(frameBytes + payloadBytes);
  let at = writeHeader(bytes, KIND_PACKED, blob, blob.cells.length, payloadBytes, 0);
  for (const cell of blob.cells) at = bytes.writeUInt32LE(cell.payload.length, at);
  for (const cell of blob.cells) at = bytes.writeBigUInt64LE(cell.checksum, at);
  at = writeDescriptor(bytes, blob.descriptor, at);
  assert(at === frameBytes, "the size of a seal is known beforehand");
  for (const cell of blob.cells) {
    bytes.set(cell.payload, at);
    at += cell.payload.length;
  }
  return bytes;
}

export function encodeCelledSeal(blob: CelledBlob): Buffer {
  const bytes = Buffer.allocUnsafeSlow(
    sealBytes(blob.id, blob.checksums.length, blob.runs.length, blob.descriptor.length),
  );
  let at = writeHeader(bytes, KIND_CELLED, blob, blob.checksums.length, blob.payloadBytes, blob.runs.length);
  for (const run of blob.runs) {
    at = bytes.writeUInt32LE(run.firstCell, at);
    at = bytes.writeUInt32LE(run.volume, at);
  }
  for (const checksum of blob.checksums) at = bytes.writeBigUInt64LE(checksum, at);
  at = writeDescriptor(bytes, blob.descriptor, at);
  assert(at === bytes.length, "the size of a seal is known beforehand");
  return bytes;
}

/** Checks the frame and gives views into it. @throws {StoreError} `blob_damaged` */
export function parseSeal(bytes: Buffer, id: BlobId): Seal {
  const fail = (reason: string) => blobDamaged(id, `its seal ${reason}`);
  if (bytes.length < HEADER_BYTES + 8) throw fail("is cut short");
  if (bytes[0] !== FORMAT_VERSION) throw fail(`has format ${bytes[0]}, this program knows ${FORMAT_VERSION}`);
  const packed = bytes[1] === KIND_PACKED;
  const cellCount = bytes.readUInt32LE(4);
  const payloadBytes = bytes.readUIntLE(8, 6);
  const runCount = bytes.readUInt32LE(24);
  const idAt = HEADER_BYTES;
  const lengthsAt = idAt + (bytes[2] as number);
  const runsAt = lengthsAt + (packed ? cellCount * 4 : 0);
  const checksumsAt = runsAt + runCount * 8;
  const descriptorAt = checksumsAt + cellCount * 8;
  const frameEnd = descriptorAt + bytes.readUInt32LE(20);
  const end = frameEnd + 8 + (packed ? payloadBytes : 0);
  if (end !== bytes.length) throw fail(`has ${bytes.length} bytes where ${end} belong`);
  if (bytes.readBigUInt64LE(frameEnd) !== checksumOf(bytes.subarray(0, frameEnd))) throw fail("has a wrong checksum");
  if (bytes.toString("latin1", idAt, lengthsAt) !== id) throw fail("is that of another blob");
  const runs: CellRun[] = [];
  for (let at = runsAt; at < checksumsAt; at += 8) {
    runs.push({ firstCell: bytes.readUInt32LE(at), volume: bytes.readUInt32LE(at + 4) });
  }
  return {
    id,
    cellCount,
    payloadBytes,
    sealedAtMs: bytes.readUIntLE(14, 6),
    packed,
    runs,
    descriptor: bytes.subarray(descriptorAt, frameEnd),
    checksums: bytes.subarray(checksumsAt, descriptorAt),
    lengths: bytes.subarray(lengthsAt, runsAt),
    payload: bytes.subarray(frameEnd + 8),
  };
}

export function sealChecksum(seal: Seal, cellIndex: number): CellChecksum {
  return seal.checksums.readBigUInt64LE(cellIndex * 8);
}

/** Payload of one cell of a packed blob, as a view. */
export function packedCells(seal: Seal): Buffer[] {
  const cells: Buffer[] = [];
  let at = 0;
  for (let index = 0; index < seal.cellCount; index += 1) {
    const length = seal.lengths.readUInt32LE(index * 4);
    cells.push(seal.payload.subarray(at, at + length));
    at += length;
  }
  return cells;
}

/** The volume that holds a cell of a celled blob. */
export function volumeOfCell(seal: Seal, cellIndex: number): number {
  let volume = -1;
  for (const run of seal.runs) {
    if (run.firstCell > cellIndex) break;
    volume = run.volume;
  }
  return volume;
}

function writeHeader(
  bytes: Buffer,
  kind: number,
  blob: { readonly id: BlobId; readonly sealedAtMs: number; readonly descriptor: Uint8Array },
  cellCount: number,
  payloadBytes: number,
  runCount: number,
): number {
  bytes[0] = FORMAT_VERSION;
  bytes[1] = kind;
  bytes[2] = blob.id.length;
  bytes[3] = 0;
  bytes.writeUInt32LE(cellCount, 4);
  bytes.writeUIntLE(payloadBytes, 8, 6);
  bytes.writeUIntLE(blob.sealedAtMs, 14, 6);
  bytes.writeUInt32LE(blob.descriptor.length, 20);
  bytes.writeUInt32LE(runCount, 24);
  return HEADER_BYTES + bytes.write(blob.id, HEADER_BYTES, "latin1");
}

/** The descriptor and the checksum of all before. */
function writeDescriptor(bytes: Buffer, descriptor: Uint8Array, at: number): number {
  bytes.set(descriptor, at);
  const end = at + descriptor.length;
  return bytes.writeBigUInt64LE(checksumOf(bytes.subarray(0, end)), end);
}
