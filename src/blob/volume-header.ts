import { open } from "node:fs/promises";
import { LIMITS } from "../limits.ts";

/**
 * Looks at an LMDB file before LMDB does. LMDB maps the file into memory, and touching a mapped page that a truncated
 * file no longer has kills the process with SIGBUS; a file that is none of ours may do anything.
 *
 * LMDB alone may leave a file shorter than its last page. Our volumes are extended to their full map size when they are
 * made (the holes cost nothing), so in them every used page lies within the file, or the file was cut.
 */
export type VolumeHeader =
  | {
      readonly verdict: "sound";
      /** What the file should be extended to where it is shorter; behind its last page nothing is lost. */
      readonly mapBytes: number;
      readonly fileBytes: number;
    }
  | { readonly verdict: "missing" | "empty" | "foreign" | "truncated"; readonly reason: string };

// Layout of MDB_page and MDB_meta on 64-bit machines, in liblmdb/mdb.c as lmdb-js ships it.
const PAGE_FLAGS_AT = 18;
const META_AT = 24;
const MAGIC_AT = META_AT;
const VERSION_AT = META_AT + 4;
const MAP_SIZE_AT = META_AT + 16;
const PAGE_SIZE_AT = META_AT + 24;
const LAST_PAGE_AT = META_AT + 120;
const META_BYTES = LAST_PAGE_AT + 8;

const META_PAGE_FLAG = 0x08;
const MAGIC = 0xbeefc0de;
const DATA_VERSION = 2;
const PAGE_BYTES_MAX = 64 * 1_024;

/** Reads at most two pages; the file itself is not changed. Rejects only on an unreadable disk. */
export async function readVolumeHeader(path: string): Promise<VolumeHeader> {
  const file = await open(path, "r").catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === "ENOENT") return null;
    throw cause;
  });
  if (file === null) return { verdict: "missing", reason: "there is no data file" };
  try {
    const fileBytes = (await file.stat()).size;
    if (fileBytes === 0) return { verdict: "empty", reason: "the data file has no bytes" };
    const first = Buffer.alloc(META_BYTES);
    await file.read(first, 0, META_BYTES, 0);
    const pageBytes = first.readUInt32LE(PAGE_SIZE_AT);
    const firstMeta = readMeta(first, pageBytes);
    if (typeof firstMeta === "string") return { verdict: "foreign", reason: firstMeta };
    const second = Buffer.alloc(META_BYTES);
    await file.read(second, 0, META_BYTES, pageBytes);
    const secondMeta = readMeta(second, pageBytes);
    const lastPage = Math.max(firstMeta.lastPage, typeof secondMeta === "string" ? 1 : secondMeta.lastPage);
    const usedBytes = (lastPage + 1) * pageBytes;
    if (fileBytes < usedBytes) {
      return { verdict: "truncated", reason: `the data file has ${fileBytes} bytes and uses ${usedBytes}` };
    }
    if (typeof secondMeta === "string") return { verdict: "foreign", reason: secondMeta };
    return { verdict: "sound", mapBytes: Math.max(firstMeta.mapBytes, secondMeta.mapBytes), fileBytes };
  } finally {
    await file.close();
  }
}

/** What one meta page says, or what is wrong with it. */
function readMeta(bytes: Buffer, pageBytes: number): { mapBytes: number; lastPage: number } | string {
  if (bytes.readUInt32LE(MAGIC_AT) !== MAGIC || (bytes.readUInt16LE(PAGE_FLAGS_AT) & META_PAGE_FLAG) === 0) {
    return "it does not begin like an LMDB file";
  }
  const version = bytes.readUInt32LE(VERSION_AT) & 0xffff;
  if (version !== DATA_VERSION) return `it has LMDB format ${version}, this program knows ${DATA_VERSION}`;
  if (pageBytes < LIMITS.pageBytes || pageBytes > PAGE_BYTES_MAX || (pageBytes & (pageBytes - 1)) !== 0) {
    return `its page size ${pageBytes} is not one of LMDB's`;
  }
  const mapBytes = Number(bytes.readBigUInt64LE(MAP_SIZE_AT));
  const lastPage = Number(bytes.readBigUInt64LE(LAST_PAGE_AT));
  if (!Number.isSafeInteger(mapBytes) || mapBytes < 2 * pageBytes || (lastPage + 1) * pageBytes > mapBytes) {
    return "its page counts contradict each other";
  }
  return { mapBytes, lastPage };
}
