import { readSync } from "node:fs";

/**
 * Reads the header of an LMDB data file without LMDB. LMDB maps the file into memory: when the file is shorter than its
 * header says, the first read behind its end kills the process, so the two are compared before it is opened.
 *
 * A header has three copies of the state: one at the start of each of the first two pages, written alternately by the
 * transactions, and one in the middle of page 0 that names the last state which was flushed (`MDB_OVERLAPPINGSYNC`).
 */
export type LmdbHeader = {
  readonly pageBytes: number;
  /** Pages that the newest state may refer to, in use or free. */
  readonly pageCount: number;
  /** Number of the newest transaction. */
  readonly transactionId: number;
};

const MAGIC = 0xbeef_c0de;
const PAGE_HEADER_BYTES = 24;
/** Offsets within one copy of the state. */
const AT = { magic: 0, pageBytes: 24, lastPage: 120, transactionId: 128, end: 136 } as const;
const PAGE_BYTES_MIN = 512;
const PAGE_BYTES_MAX = 65_536;

/** The header of the open file, or null when this is no LMDB file of a 64-bit little-endian machine. */
export function readLmdbHeader(fd: number): LmdbHeader | null {
  const first = readState(fd, 0);
  if (first === null || first.readUInt32LE(AT.magic) !== MAGIC) return null;
  const pageBytes = first.readUInt32LE(AT.pageBytes);
  if (pageBytes < PAGE_BYTES_MIN || pageBytes > PAGE_BYTES_MAX) return null;

  let pageCount = 0;
  let transactionId = 0;
  // The copy of the flushed state has no magic of its own; until the first flush it is all zeros and changes nothing.
  for (const state of [first, readState(fd, pageBytes / 2), readState(fd, pageBytes)]) {
    if (state === null) return null;
    pageCount = Math.max(pageCount, Number(state.readBigUInt64LE(AT.lastPage)) + 1);
    transactionId = Math.max(transactionId, Number(state.readBigUInt64LE(AT.transactionId)));
  }
  return { pageBytes, pageCount, transactionId };
}

function readState(fd: number, offset: number): Buffer | null {
  const state = Buffer.alloc(AT.end);
  const bytesRead = readSync(fd, state, 0, AT.end, offset + PAGE_HEADER_BYTES);
  return bytesRead === AT.end ? state : null;
}
