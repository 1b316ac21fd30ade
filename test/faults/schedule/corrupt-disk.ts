/** Flips bytes of blobs in the LMDB volumes of a node, as a disk that rots does; the node may run meanwhile. */
import { open, readdir, type FileHandle } from "node:fs/promises";
import { join } from "node:path";
import type { Seeded } from "../../support/load/seeded.ts";

const PAGE_BYTES = 4_096;
/** Head of a page: its number, its transaction, flags, and how many pages follow. */
const HEAD_BYTES = 24;
const FLAGS_AT = 18;
const PAGES_AT = 20;
/** Values too large for a leaf: whole pages of payload behind one head. */
const OVERFLOW = 0x04;
/** A run of pages that is longer is none. */
const PAGES_MAX = 1_024;

type Payload = { readonly file: string; readonly from: number; readonly to: number };

/** Answers how many bytes it flipped; fewer than asked for where there is little to spoil. */
export async function corruptDisk(random: Seeded, blobsDir: string, flips: number): Promise<number> {
  const payloads: Payload[] = [];
  for (const file of await findVolumes(blobsDir)) payloads.push(...(await findPayloads(file)));
  let flipped = 0;
  for (; flipped < flips && payloads.length > 0; flipped += 1) {
    const { file, from, to } = random.pick(payloads);
    await flip(file, random.between(from, to - 1), 1 << random.between(0, 7));
  }
  return flipped;
}

async function findVolumes(dir: string): Promise<string[]> {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true });
  return entries.filter(({ name }) => name === "data.mdb").map((entry) => join(entry.parentPath, entry.name));
}

async function findPayloads(file: string): Promise<Payload[]> {
  const payloads: Payload[] = [];
  await using handle = await open(file, "r");
  const { blocks } = await handle.stat();
  const head = Buffer.alloc(HEAD_BYTES);
  // Volumes are longer than what was written to them, and what was not written is all zeroes.
  const bytesMax = blocks * 512 + 2 * PAGE_BYTES;
  for (let page = 2; page * PAGE_BYTES < bytesMax;) {
    const pages = await overflowAt(handle, head, page);
    if (pages > 0) payloads.push({ file, from: page * PAGE_BYTES + HEAD_BYTES, to: (page + pages) * PAGE_BYTES });
    page += Math.max(1, pages);
  }
  return payloads;
}

/** How many pages of payload begin here. */
async function overflowAt(handle: FileHandle, head: Buffer, page: number): Promise<number> {
  const { bytesRead } = await handle.read(head, 0, HEAD_BYTES, page * PAGE_BYTES);
  if (bytesRead < HEAD_BYTES || head.readBigUInt64LE(0) !== BigInt(page)) return 0;
  const pages = head.readUInt32LE(PAGES_AT);
  return head.readUInt16LE(FLAGS_AT) === OVERFLOW && pages <= PAGES_MAX ? pages : 0;
}

async function flip(file: string, at: number, mask: number): Promise<void> {
  await using handle = await open(file, "r+");
  const byte = Buffer.alloc(1);
  await handle.read(byte, 0, 1, at);
  byte[0] = (byte[0] as number) ^ mask;
  await handle.write(byte, 0, 1, at);
}
