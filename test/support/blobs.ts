/** Blobs for tests: ids in the order they were asked for, bytes that differ from cell to cell. */
import { cellChecksum } from "../../src/domain/checksum.ts";
import type { BlobId, NodeName } from "../../src/domain/ids.ts";
import { blobIdOf, createTxidSource } from "../../src/domain/ids.ts";
import type { BlobStore, SealedBlob } from "../../src/blob/blob-store.ts";
import { systemClock } from "../../src/lib/clock.ts";
import type { Deadline } from "../../src/lib/deadline.ts";
import { deadlineIn } from "../../src/lib/deadline.ts";
import { systemRandom } from "../../src/lib/random.ts";

export const TEST_NODE = "n1" as NodeName;
export const WAIT_MS = 20_000;
/** Payload of a full cell of the default codes. */
export const FULL_CELL_BYTES = 1_048_064;

const nextTxid = createTxidSource(systemClock, systemRandom);

export function nextBlobId(index = 0): BlobId {
  return blobIdOf(nextTxid(), "body", index);
}

export function soon(): Deadline {
  return deadlineIn(systemClock, WAIT_MS);
}

/** Bytes that only this cell of this blob has. */
export function cellBytes(id: BlobId, index: number, length: number): Buffer {
  const pattern = Buffer.from(`${id}#${index}/`);
  const bytes = Buffer.alloc(length, pattern);
  if (length > 4) bytes.writeUInt32LE(index, length - 4);
  return bytes;
}

export function descriptorOf(id: BlobId): Buffer {
  return Buffer.from(`descriptor of ${id}`);
}

export function smallBlob(id: BlobId, ...lengths: number[]): SealedBlob {
  const cells = lengths.map((length, index) => {
    const payload = cellBytes(id, index, length);
    return { payload, checksum: cellChecksum(payload, id, index) };
  });
  return { id, descriptor: descriptorOf(id), cells };
}

/** Writes a blob cell by cell and seals it. */
export async function writeLarge(store: BlobStore, id: BlobId, lengths: readonly number[]): Promise<void> {
  const writer = await store.openWriter(id, WAIT_MS);
  await Promise.all(
    lengths.map((length, index) => {
      const payload = cellBytes(id, index, length);
      return writer.writeCell(index, payload, cellChecksum(payload, id, index));
    }),
  );
  await writer.seal(descriptorOf(id));
}

/** All cells, each compared with what was written; answers how many there are. */
export async function readWhole(store: BlobStore, id: BlobId): Promise<number> {
  const cells = await store.readCells(id, 0, 1_000_000, soon());
  for (const [position, { index, payload, checksum }] of cells.entries()) {
    if (index !== position) throw new Error(`cell ${index} of ${id} stands at ${position}`);
    if (Buffer.compare(payload, cellBytes(id, index, payload.length)) !== 0) {
      throw new Error(`cell ${index} of ${id} has other bytes than were written`);
    }
    if (checksum !== cellChecksum(payload, id, index)) throw new Error(`cell ${index} of ${id} has a wrong checksum`);
  }
  return cells.length;
}

/** Ids of all sealed blobs, page by page. */
export async function listIds(store: BlobStore, pageSize = 1_000): Promise<BlobId[]> {
  const ids: BlobId[] = [];
  for (;;) {
    const page = await store.list(ids.at(-1) ?? "", pageSize, soon());
    ids.push(...page.map((info) => info.id));
    if (page.length < pageSize) return ids;
  }
}

/** Empties every volume that is worth it, as the background work does without a bound. */
export const COMPACT_ALL = {
  below: 1,
  unusedBytesMin: 0,
  waitMs: WAIT_MS,
  signal: new AbortController().signal,
  pace: () => Promise.resolve(),
};
