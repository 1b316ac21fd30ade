/**
 * Many small operations in one request, each answered by itself. The payload of the one `request` frame is a batch, that
 * of each `answer` frame some of its results, in whatever order they were ready.
 *
 * Batch, little endian: item count u16; per item op u8, wait ms u32, then
 * - put: id text8, descriptor bytes32, cell count u16, per cell length u32 and checksum u64, payloads back to back
 * - delete: id count u16, ids text8
 * - read: id text8, first u32, count u32
 * - describe: id text8
 *
 * Results: result count u16; per result item index u16, outcome u8, then for delete how many were there u32; for read
 * cell count u16, per cell index u32, length u32 and checksum u64, payloads back to back; for describe cell count u32,
 * payload bytes u48, sealed-at u48, descriptor bytes32; for an error what `wire-error.ts` makes of it, bytes16.
 */
import type { BlobInfo, Cell } from "../domain/blob.ts";
import type { StoreError } from "../domain/errors.ts";
import type { BlobId } from "../domain/ids.ts";
import { LIMITS } from "../limits.ts";
import type { SealedBlob } from "./blob-store.ts";
import { malformedMessage, WireReader, WireWriter } from "./wire-bytes.ts";
import { decodeWireError, encodeWireError } from "./wire-error.ts";
import { WIRE_LIMITS } from "./wire-limits.ts";

export type BatchOperation =
  | { readonly op: "put"; readonly blob: SealedBlob }
  | { readonly op: "delete"; readonly ids: readonly BlobId[] }
  | { readonly op: "read"; readonly id: BlobId; readonly first: number; readonly count: number }
  | { readonly op: "describe"; readonly id: BlobId };

/** `waitMs`: how long the node may take over this item, from when it has read the batch. */
export type BatchItem = BatchOperation & { readonly waitMs: number };

export type BatchResult =
  | { readonly outcome: "put" }
  | { readonly outcome: "deleted"; readonly count: number }
  | { readonly outcome: "cells"; readonly cells: readonly Cell[] }
  /** What was to be read is too much for a batch. */
  | { readonly outcome: "alone" }
  | { readonly outcome: "described"; readonly found: Omit<BlobInfo, "id"> & { readonly descriptor: Uint8Array } }
  | { readonly outcome: "unknown" }
  | { readonly outcome: "error"; readonly error: StoreError };

const OPS = ["put", "delete", "read", "describe"] as const;
const OUTCOMES = ["put", "deleted", "cells", "alone", "described", "unknown", "error"] as const;

/** Bytes of an item in a batch. */
export function batchItemBytes(item: BatchOperation): number {
  switch (item.op) {
    case "put":
      return 5 + 1 + item.blob.id.length + 4 + item.blob.descriptor.length + 2 + cellsBytes(item.blob.cells, 12);
    case "delete":
      return 5 + 2 + item.ids.reduce((sum, id) => sum + 1 + id.length, 0);
    case "read":
      return 5 + 1 + item.id.length + 8;
    case "describe":
      return 5 + 1 + item.id.length;
  }
}

/** Copies everything: the items' memory is free afterwards. */
export function encodeBatch(items: readonly BatchItem[]): Buffer {
  const writer = new WireWriter(items.reduce((sum, item) => sum + batchItemBytes(item), 2));
  writer.u16(items.length);
  for (const item of items) writeItem(writer, item);
  return writer.bytes;
}

/** Payloads and descriptors are views of `bytes`. @throws {StoreError} `format_unknown` */
export function decodeBatch(bytes: Buffer): BatchItem[] {
  const reader = new WireReader(bytes);
  const count = reader.bounded(reader.u16(), WIRE_LIMITS.batchItemsMax, "items");
  const items: BatchItem[] = [];
  while (items.length < count) items.push(readItem(reader));
  reader.end();
  return items;
}

/** One result; `joinBatchResults` makes a payload of several. */
export function encodeBatchResult(itemIndex: number, result: BatchResult): Buffer {
  const error = result.outcome === "error" ? encodeWireError(result.error) : null;
  const writer = new WireWriter(3 + resultBytes(result, error));
  writer.u16(itemIndex);
  writer.u8(OUTCOMES.indexOf(result.outcome));
  if (result.outcome === "deleted") writer.u32(result.count);
  else if (result.outcome === "cells") writeCells(writer, result.cells);
  else if (result.outcome === "described") writeDescription(writer, result.found);
  else if (error !== null) writer.bytes16(error);
  return writer.bytes;
}

export function joinBatchResults(results: readonly Buffer[]): Buffer {
  const count = Buffer.allocUnsafe(2);
  count.writeUInt16LE(results.length);
  return Buffer.concat([count, ...results]);
}

/** Payloads and descriptors are views of `bytes`. @throws {StoreError} `format_unknown` */
export function decodeBatchResults(bytes: Buffer): { itemIndex: number; result: BatchResult }[] {
  const reader = new WireReader(bytes);
  const count = reader.bounded(reader.u16(), WIRE_LIMITS.batchItemsMax, "results");
  const results: { itemIndex: number; result: BatchResult }[] = [];
  while (results.length < count) results.push({ itemIndex: reader.u16(), result: readResult(reader) });
  reader.end();
  return results;
}

function writeItem(writer: WireWriter, item: BatchItem): void {
  writer.u8(OPS.indexOf(item.op));
  writer.u32(item.waitMs);
  switch (item.op) {
    case "put":
      writer.text8(item.blob.id);
      writer.bytes32(item.blob.descriptor);
      writer.u16(item.blob.cells.length);
      for (const { payload, checksum } of item.blob.cells) {
        writer.u32(payload.length);
        writer.u64(checksum);
      }
      for (const { payload } of item.blob.cells) writer.raw(payload);
      break;
    case "delete":
      writer.u16(item.ids.length);
      for (const id of item.ids) writer.text8(id);
      break;
    case "read":
      writer.text8(item.id);
      writer.u32(item.first);
      writer.u32(item.count);
      break;
    case "describe":
      writer.text8(item.id);
      break;
  }
}

function readItem(reader: WireReader): BatchItem {
  const op = OPS[reader.u8()];
  const waitMs = reader.bounded(reader.u32(), WIRE_LIMITS.waitMsMax, "ms to wait");
  switch (op) {
    case "put":
      return { op, waitMs, blob: readBlob(reader) };
    case "delete": {
      const count = reader.bounded(reader.u16(), WIRE_LIMITS.deleteIdsMax, "ids to delete");
      return { op, waitMs, ids: Array.from({ length: count }, () => reader.blobId()) };
    }
    case "read":
      return { op, waitMs, id: reader.blobId(), first: reader.u32(), count: reader.u32() };
    case "describe":
      return { op, waitMs, id: reader.blobId() };
    default:
      throw malformedMessage("it has an item of an unknown kind");
  }
}

function readBlob(reader: WireReader): SealedBlob {
  const id = reader.blobId();
  const descriptor = reader.bytes32();
  reader.bounded(descriptor.length, WIRE_LIMITS.descriptorBytesMax, "bytes of a descriptor");
  const cellCount = reader.bounded(reader.u16(), WIRE_LIMITS.packedCellsMax, "cells in one step");
  const heads = Array.from({ length: cellCount }, () => ({ length: reader.u32(), checksum: reader.u64() }));
  const payloadBytes = heads.reduce((sum, { length }) => sum + length, 0);
  reader.bounded(payloadBytes, LIMITS.packedBlobBytesMax, "bytes in one step");
  return { id, descriptor, cells: heads.map(({ length, checksum }) => ({ payload: reader.raw(length), checksum })) };
}

function resultBytes(result: BatchResult, error: Buffer | null): number {
  if (result.outcome === "deleted") return 4;
  if (result.outcome === "cells") return 2 + cellsBytes(result.cells, 16);
  if (result.outcome === "described") return 4 + 6 + 6 + 4 + result.found.descriptor.length;
  return error === null ? 0 : 2 + error.length;
}

function cellsBytes(cells: readonly { readonly payload: Uint8Array }[], headBytes: number): number {
  let bytes = 0;
  for (const cell of cells) bytes += headBytes + cell.payload.length;
  return bytes;
}

function writeCells(writer: WireWriter, cells: readonly Cell[]): void {
  writer.u16(cells.length);
  for (const { index, payload, checksum } of cells) {
    writer.u32(index);
    writer.u32(payload.length);
    writer.u64(checksum);
  }
  for (const { payload } of cells) writer.raw(payload);
}

function writeDescription(writer: WireWriter, found: Omit<BlobInfo, "id"> & { readonly descriptor: Uint8Array }): void {
  writer.u32(found.cellCount);
  writer.u48(found.payloadBytes);
  writer.u48(found.sealedAtMs);
  writer.bytes32(found.descriptor);
}

function readResult(reader: WireReader): BatchResult {
  const outcome = OUTCOMES[reader.u8()];
  switch (outcome) {
    case "put":
    case "alone":
    case "unknown":
      return { outcome };
    case "deleted":
      return { outcome, count: reader.u32() };
    case "cells":
      return { outcome, cells: readCells(reader) };
    case "described": {
      const [cellCount, payloadBytes, sealedAtMs] = [reader.u32(), reader.u48(), reader.u48()];
      return { outcome, found: { cellCount, payloadBytes, sealedAtMs, descriptor: reader.bytes32() } };
    }
    case "error":
      return { outcome, error: decodeWireError(reader.bytes16()) };
    default:
      throw malformedMessage("it has a result of an unknown kind");
  }
}

function readCells(reader: WireReader): Cell[] {
  const count = reader.u16();
  const heads = Array.from({ length: count }, () => ({
    index: reader.u32(),
    length: reader.u32(),
    checksum: reader.u64(),
  }));
  return heads.map(({ index, length, checksum }) => ({ index, payload: reader.raw(length), checksum }));
}
