/**
 * Requests that go alone and their answers, and what frames say of their payloads. All numbers little endian.
 *
 * An answer's meta: state of the node u8, flags u8 (1: the last frame of the message). A cell's meta: index u32, checksum
 * u64. A writer's id and wait stand in the target of its request, which the request's proof covers. The version byte of
 * all of them is that of the frame around them.
 */
import type { BlobInfo, CellChecksum } from "../domain/blob.ts";
import type { BlobId } from "../domain/ids.ts";
import { parseBlobId } from "../domain/ids.ts";
import { NODE_STATES, type NodeState, type NodeUsage } from "../domain/node-info.ts";
import type { BlobDamage } from "./blob-store.ts";
import { malformedMessage, WireReader, WireWriter } from "./wire-bytes.ts";
import { WIRE_LIMITS } from "./wire-limits.ts";

export const WIRE_PATHS = Object.freeze({
  session: "/v1/session",
  batch: "/v1/batch",
  write: "/v1/write",
  read: "/v1/read",
  list: "/v1/list",
  verify: "/v1/verify",
  mend: "/v1/mend",
  stats: "/v1/stats",
});

export const PROOF_HEADER = "Kintsugi-Proof";
const ANSWER_META_BYTES = 2;
const CELL_META_BYTES = 12;
const LAST = 1;

export type AnswerMeta = { readonly state: NodeState; readonly isLast: boolean };
export type ReadRequest = {
  readonly id: BlobId;
  readonly first: number;
  readonly count: number;
  readonly waitMs: number;
};
export type ListRequest = { readonly after: string; readonly limit: number; readonly waitMs: number };
export type MendRequest = {
  readonly id: BlobId;
  readonly index: number;
  readonly waitMs: number;
  readonly payload: Uint8Array;
};
export type VerifyRequest = { readonly id: BlobId; readonly waitMs: number };

export function encodeAnswerMeta({ state, isLast }: AnswerMeta): Buffer {
  return Buffer.from([NODE_STATES.indexOf(state), isLast ? LAST : 0]);
}

export function decodeAnswerMeta(meta: Buffer): AnswerMeta {
  const state = NODE_STATES[meta[0] ?? NODE_STATES.length];
  if (meta.length !== ANSWER_META_BYTES || state === undefined) {
    throw malformedMessage("an answer does not say what it is");
  }
  return { state, isLast: meta[1] === LAST };
}

export function encodeCellMeta(index: number, checksum: CellChecksum): Buffer {
  const writer = new WireWriter(CELL_META_BYTES);
  writer.u32(index);
  writer.u64(checksum);
  return writer.bytes;
}

export function decodeCellMeta(meta: Buffer): { index: number; checksum: CellChecksum } {
  const reader = new WireReader(meta);
  const decoded = { index: reader.u32(), checksum: reader.u64() };
  reader.end();
  return decoded;
}

export function writeTarget(id: BlobId, waitMs: number): string {
  return `${WIRE_PATHS.write}?id=${id}&waitMs=${waitMs}`;
}

/** @throws {StoreError} `format_unknown` */
export function parseWriteTarget(query: string): { id: BlobId; waitMs: number } {
  const match = /^id=([\w.]{1,64})&waitMs=(\d{1,8})$/.exec(query);
  const id = parseBlobId(match?.[1] ?? "")?.id;
  const waitMs = Number(match?.[2]);
  if (id === undefined || waitMs > WIRE_LIMITS.waitMsMax) throw malformedMessage("a writer's target names no blob");
  return { id, waitMs };
}

/** Layout: id text8, first u32, count u32, wait ms u32. */
export function encodeReadRequest(request: ReadRequest): Buffer {
  const writer = new WireWriter(1 + request.id.length + 12);
  writer.text8(request.id);
  writer.u32(request.first);
  writer.u32(request.count);
  writer.u32(request.waitMs);
  return writer.bytes;
}

export function decodeReadRequest(bytes: Buffer): ReadRequest {
  return decodeWhole(bytes, (reader) => ({
    id: reader.blobId(),
    first: reader.u32(),
    count: reader.u32(),
    waitMs: readWait(reader),
  }));
}

/** The answer behind the cells of a read: whether asking on from the next cell may give more, u8. */
export function encodeReadEnd(hasMore: boolean): Buffer {
  return Buffer.from([hasMore ? 1 : 0]);
}

export function decodeReadEnd(bytes: Buffer): boolean {
  return decodeWhole(bytes, (reader) => reader.u8() === 1);
}

/** Layout: after text8, limit u32, wait ms u32. */
export function encodeListRequest(request: ListRequest): Buffer {
  const writer = new WireWriter(1 + request.after.length + 8);
  writer.text8(request.after);
  writer.u32(request.limit);
  writer.u32(request.waitMs);
  return writer.bytes;
}

export function decodeListRequest(bytes: Buffer): ListRequest {
  return decodeWhole(bytes, (reader) => ({
    after: reader.text8(),
    limit: reader.bounded(reader.u32(), WIRE_LIMITS.listMax, "blobs to list"),
    waitMs: readWait(reader),
  }));
}

/** Layout: count u32; per blob id text8, cell count u32, payload bytes u48, sealed-at u48. */
export function encodeListAnswer(infos: readonly BlobInfo[]): Buffer {
  const writer = new WireWriter(infos.reduce((sum, { id }) => sum + 1 + id.length + 16, 4));
  writer.u32(infos.length);
  for (const info of infos) {
    writer.text8(info.id);
    writer.u32(info.cellCount);
    writer.u48(info.payloadBytes);
    writer.u48(info.sealedAtMs);
  }
  return writer.bytes;
}

export function decodeListAnswer(bytes: Buffer): BlobInfo[] {
  return decodeWhole(bytes, (reader) =>
    readMany(reader, WIRE_LIMITS.listMax, () => ({
      id: reader.blobId(),
      cellCount: reader.u32(),
      payloadBytes: reader.u48(),
      sealedAtMs: reader.u48(),
    })),
  );
}

/** Layout: id text8, wait ms u32. */
export function encodeVerifyRequest(request: VerifyRequest): Buffer {
  const writer = new WireWriter(1 + request.id.length + 4);
  writer.text8(request.id);
  writer.u32(request.waitMs);
  return writer.bytes;
}

export function decodeVerifyRequest(bytes: Buffer): VerifyRequest {
  return decodeWhole(bytes, (reader) => ({ id: reader.blobId(), waitMs: readWait(reader) }));
}

/** Layout: id text8, cell index u32, wait ms u32, payload bytes32. */
export function encodeMendRequest(request: MendRequest): Buffer {
  const writer = new WireWriter(1 + request.id.length + 12 + request.payload.length);
  writer.text8(request.id);
  writer.u32(request.index);
  writer.u32(request.waitMs);
  writer.bytes32(request.payload);
  return writer.bytes;
}

/** The payload is a view of `bytes`. */
export function decodeMendRequest(bytes: Buffer): MendRequest {
  return decodeWhole(bytes, (reader) => ({
    id: reader.blobId(),
    index: reader.u32(),
    waitMs: readWait(reader),
    payload: reader.bytes32(),
  }));
}

/** A blob has at most so many damages told; the first is enough to rebuild it. */
const DAMAGES_MAX = 1_000;
const DAMAGE_REASON_BYTES_MAX = 255;

/** Layout: count u32; per damage has-a-cell u8, cell index u32, reason text8 in UTF-8. */
export function encodeVerifyAnswer(damages: readonly BlobDamage[]): Buffer {
  const told = damages.slice(0, DAMAGES_MAX).map(({ cellIndex, reason }) => ({
    cellIndex,
    reason: Buffer.from(reason).subarray(0, DAMAGE_REASON_BYTES_MAX),
  }));
  const writer = new WireWriter(told.reduce((sum, { reason }) => sum + 6 + reason.length, 4));
  writer.u32(told.length);
  for (const { cellIndex, reason } of told) {
    writer.u8(cellIndex === null ? 0 : 1);
    writer.u32(cellIndex ?? 0);
    writer.u8(reason.length);
    writer.raw(reason);
  }
  return writer.bytes;
}

export function decodeVerifyAnswer(bytes: Buffer, id: BlobId): BlobDamage[] {
  return decodeWhole(bytes, (reader) =>
    readMany(reader, DAMAGES_MAX, () => {
      const hasCell = reader.u8() === 1;
      const cellIndex = reader.u32();
      return { id, cellIndex: hasCell ? cellIndex : null, reason: reader.raw(reader.u8()).toString() };
    }),
  );
}

/** Layout: six u48: blobs, live bytes, file bytes, volumes, quarantined volumes, free bytes of the disk. */
export function encodeStatsAnswer(usage: NodeUsage): Buffer {
  const writer = new WireWriter(36);
  for (const value of usageValues(usage)) writer.u48(Math.min(value, 2 ** 48 - 1));
  return writer.bytes;
}

export function decodeStatsAnswer(bytes: Buffer): NodeUsage {
  return decodeWhole(bytes, (reader) => ({
    blobCount: reader.u48(),
    liveBytes: reader.u48(),
    fileBytes: reader.u48(),
    volumeCount: reader.u48(),
    quarantinedCount: reader.u48(),
    diskFreeBytes: reader.u48(),
  }));
}

function usageValues(usage: NodeUsage): number[] {
  const { blobCount, liveBytes, fileBytes, volumeCount, quarantinedCount, diskFreeBytes } = usage;
  return [blobCount, liveBytes, fileBytes, volumeCount, quarantinedCount, diskFreeBytes];
}

function readWait(reader: WireReader): number {
  return reader.bounded(reader.u32(), WIRE_LIMITS.waitMsMax, "ms to wait");
}

function readMany<T>(reader: WireReader, max: number, read: () => T): T[] {
  const count = reader.bounded(reader.u32(), max, "entries");
  const values: T[] = [];
  while (values.length < count) values.push(read());
  return values;
}

function decodeWhole<T>(bytes: Buffer, decode: (reader: WireReader) => T): T {
  const reader = new WireReader(bytes);
  const value = decode(reader);
  reader.end();
  return value;
}
