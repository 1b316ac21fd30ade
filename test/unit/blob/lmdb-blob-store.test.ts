import { execFileSync } from "node:child_process";
import { readFile, rename, rm, stat, truncate, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import type { BlobStore } from "../../../src/blob/blob-store.ts";
import { LmdbVolume } from "../../../src/blob/lmdb-volume.ts";
import { cellChecksum } from "../../../src/domain/checksum.ts";
import type { BlobId } from "../../../src/domain/ids.ts";
import { MIB } from "../../../src/lib/bytes.ts";
import { systemClock } from "../../../src/lib/clock.ts";
import type { BlobDirectory } from "../../support/blob-directory.ts";
import { makeBlobDirectory } from "../../support/blob-directory.ts";
import {
  cellBytes,
  descriptorOf,
  FULL_CELL_BYTES,
  listIds,
  nextBlobId,
  readWhole,
  smallBlob,
  soon,
  WAIT_MS,
  writeLarge,
} from "../../support/blobs.ts";
import { startChild } from "../../support/child-process.ts";

const CHILD = join(import.meta.dirname, "../../support/blob-child.ts");

/** All keys of all volumes of a closed node but the counters; a kind byte, then mostly the id. */
async function rawKeys(directory: BlobDirectory): Promise<string[]> {
  const keys: string[] = [];
  for (const file of await directory.dataFiles()) {
    const hooks = { clock: systemClock, commitStallMsMax: WAIT_MS, onDurable() {}, onFailure() {} };
    const volume = await LmdbVolume.open(dirname(file), 1, 16 * MIB, hooks);
    const found = volume.keys({ from: Buffer.from([1]), to: Buffer.from([9]), limit: 1_000_000 });
    keys.push(...found.map((key) => Buffer.from(key).toString("latin1")));
    await volume.close();
  }
  return keys;
}

/** Changes one byte behind the first place where `pattern` stands in a file. */
async function flipAfter(file: string, pattern: Buffer, offset: number): Promise<void> {
  const bytes = await readFile(file);
  const at = bytes.indexOf(pattern);
  if (at < 0) throw new Error("the pattern is not in the file");
  bytes[at + offset] = (bytes[at + offset] as number) ^ 0x40;
  await writeFile(file, bytes);
}

async function beginUnsealed(store: BlobStore, lengths: readonly number[]): Promise<BlobId> {
  const id = nextBlobId();
  const writer = await store.openWriter(id, WAIT_MS);
  await Promise.all(
    lengths.map((length, index) => {
      const payload = cellBytes(id, index, length);
      return writer.writeCell(index, payload, cellChecksum(payload, id, index));
    }),
  );
  return id;
}

describe("openLmdbBlobStore()", () => {
  test("openLmdbBlobStore() finds everything again that was sealed", async () => {
    await using directory = await makeBlobDirectory();
    const store = await directory.open();
    const small = Array.from({ length: 40 }, () => nextBlobId());
    const large = Array.from({ length: 3 }, () => nextBlobId());
    for (const [n, id] of small.entries()) await store.put(smallBlob(id, n * 100, 7), soon());
    for (const id of large) await writeLarge(store, id, [90_000, 90_000, 11]);
    const before = await store.usage();
    const again = await directory.open();
    expect(await listIds(again)).toEqual([...small, ...large].toSorted());
    for (const id of small) expect(await readWhole(again, id)).toBe(2);
    for (const id of large) expect(await readWhole(again, id)).toBe(3);
    expect(await again.usage()).toMatchObject({ blobCount: 43, liveBytes: before.liveBytes, volumeCount: 1 });
  });

  test("openLmdbBlobStore() sweeps what was never sealed", async () => {
    await using directory = await makeBlobDirectory();
    const store = await directory.open();
    const kept = nextBlobId();
    await writeLarge(store, kept, [70_000]);
    await beginUnsealed(store, [70_000, 70_000, 70_000]);
    await beginUnsealed(store, Array(600).fill(100));
    const again = await directory.open();
    expect(await listIds(again)).toEqual([kept]);
    await directory.close();
    expect(await rawKeys(directory)).toHaveLength(2);
  });

  test("openLmdbBlobStore() clears away volumes that a crash left half-made", async () => {
    await using directory = await makeBlobDirectory();
    const id = nextBlobId();
    await (await directory.open()).put(smallBlob(id, 5), soon());
    await directory.close();
    const half = join(directory.path, "volumes", ".new-2");
    execFileSync("cp", ["-r", join(directory.path, "volumes", "000001"), half]);
    const again = await directory.open();
    expect(await directory.dataFiles()).toHaveLength(1);
    expect(await readWhole(again, id)).toBe(1);
    expect(await again.usage()).toMatchObject({ volumeCount: 1, quarantinedCount: 0 });
  });

  test("openLmdbBlobStore() keeps the size of volumes that exist", async () => {
    await using directory = await makeBlobDirectory();
    const id = nextBlobId();
    await (await directory.open()).put(smallBlob(id, 5), soon());
    const again = await directory.open({ settings: { volumeBytesMax: 32 * MIB, freeBytesMin: 0 } });
    expect(await readWhole(again, id)).toBe(1);
    expect(await again.usage()).toMatchObject({ volumeCount: 1, quarantinedCount: 0 });
  });
});

describe("kill -9", () => {
  test("put() has made durable what it acknowledged", async () => {
    await using directory = await makeBlobDirectory();
    await using child = startChild(process.execPath, [CHILD, "put-small", directory.path]);
    await child.linesReach(200);
    await child.kill();
    const store = await directory.open();
    const stored = new Set(await listIds(store));
    for (const id of child.lines as BlobId[]) {
      expect(stored.has(id)).toBe(true);
      expect(await readWhole(store, id)).toBe(1);
    }
    // The counters are written in the same transactions, so they are right after a crash too.
    expect(await store.usage()).toMatchObject({ blobCount: stored.size, liveBytes: stored.size * 1_500 });
  });

  test("seal() has made durable what it acknowledged, and nothing else is left", async () => {
    await using directory = await makeBlobDirectory();
    await using child = startChild(process.execPath, [CHILD, "write-large", directory.path]);
    await child.linesReach(20);
    await child.kill();
    const store = await directory.open();
    const stored = await listIds(store);
    const acknowledged = child.lines.filter((line) => !line.startsWith("begun"));
    expect(stored).toEqual(expect.arrayContaining(acknowledged));
    for (const id of stored) expect(await readWhole(store, id)).toBe(4);
    await directory.close();
    const ids = new Set((await rawKeys(directory)).map((key) => key.slice(1).split("\0")[0]));
    // Markers of blobs that reach over two volumes carry their id, which is a sealed one.
    expect([...ids].toSorted()).toEqual(stored);
  });
});

describe("damage", () => {
  test("verify() names the cell in which a bit flipped on the disk", async () => {
    await using directory = await makeBlobDirectory();
    const store = await directory.open();
    const [small, large] = [nextBlobId(), nextBlobId()];
    await store.put(smallBlob(small, 5_000, 5_000), soon());
    await writeLarge(store, large, [FULL_CELL_BYTES, FULL_CELL_BYTES, FULL_CELL_BYTES]);
    const [file] = (await directory.dataFiles()) as [string];
    await directory.close();
    await flipAfter(file, Buffer.from(`${small}#1/${small}`), 150);
    await flipAfter(file, Buffer.from(`${large}#2/${large}`), 9_000);
    const again = await directory.open();
    expect(await again.verify(small, soon())).toMatchObject([{ id: small, cellIndex: 1 }]);
    expect(await again.verify(large, soon())).toMatchObject([{ id: large, cellIndex: 2 }]);
    const cells = await again.readCells(large, 2, 1, soon());
    expect(cellChecksum(cells[0]?.payload as Uint8Array, large, 2)).not.toBe(cells[0]?.checksum);
    await expect(writeLarge(again, large, [1])).rejects.toMatchObject({ code: "blob_damaged" });
    // A small blob is mended by putting it again, a large one by deleting it first.
    await again.put(smallBlob(small, 5_000, 5_000), soon());
    expect(await readWhole(again, small)).toBe(2);
    await again.delete([large], soon());
    await writeLarge(again, large, [FULL_CELL_BYTES]);
    expect(await readWhole(again, large)).toBe(1);
    expect(await again.usage()).toMatchObject({ blobCount: 2, liveBytes: 10_000 + FULL_CELL_BYTES });
  });

  test("a blob with a broken seal is damaged, not listed, and can be replaced", async () => {
    await using directory = await makeBlobDirectory();
    const store = await directory.open();
    const [small, large, kept] = [nextBlobId(), nextBlobId(), nextBlobId()];
    await store.put(smallBlob(small, 3_000), soon());
    await writeLarge(store, large, [100_000, 100_000]);
    await store.put(smallBlob(kept, 10), soon());
    const [file] = (await directory.dataFiles()) as [string];
    await directory.close();
    await flipAfter(file, descriptorOf(small), 3);
    await flipAfter(file, descriptorOf(large), 3);
    const again = await directory.open();
    for (const id of [small, large]) {
      await expect(again.readCells(id, 0, 1, soon())).rejects.toMatchObject({ code: "blob_damaged" });
      await expect(again.describe(id, soon())).rejects.toMatchObject({ code: "blob_damaged" });
      expect(await again.verify(id, soon())).toMatchObject([{ id, cellIndex: null }]);
    }
    expect(await listIds(again)).toEqual([kept]);
    await again.put(smallBlob(small, 3_000), soon());
    await writeLarge(again, large, [80_000]);
    expect(await readWhole(again, small)).toBe(1);
    expect(await readWhole(again, large)).toBe(1);
    expect(await again.delete([large], soon())).toBe(1);
    await directory.close();
    expect(await rawKeys(directory)).toHaveLength(2);
  });

  test.each([
    ["truncated to half", (file: string) => truncate(file, 8 * MIB)],
    ["truncated to one page", (file: string) => truncate(file, 4_096)],
    ["empty", (file: string) => truncate(file, 0)],
    ["foreign", (file: string) => writeFile(file, Buffer.alloc(16 * MIB, "not LMDB"))],
    ["zeroed", (file: string) => writeFile(file, Buffer.alloc(16 * MIB))],
    ["deleted", (file: string) => rm(file)],
  ])("openLmdbBlobStore() sets aside a volume whose file is %s and goes on without it", async (_what, spoil) => {
    await using directory = await makeBlobDirectory();
    const store = await directory.open();
    const lost = nextBlobId();
    await writeLarge(store, lost, Array(9).fill(FULL_CELL_BYTES));
    const [file] = (await directory.dataFiles()) as [string];
    await directory.close();
    await spoil(file);
    const again = await directory.open();
    expect(await directory.quarantined()).toHaveLength(1);
    expect(await again.usage()).toMatchObject({ blobCount: 0, volumeCount: 1, quarantinedCount: 1 });
    await expect(again.readCells(lost, 0, 9, soon())).rejects.toMatchObject({ code: "blob_not_found" });
    await writeLarge(again, lost, [FULL_CELL_BYTES]);
    const third = await directory.open();
    expect(await readWhole(third, lost)).toBe(1);
    expect(await third.usage()).toMatchObject({ quarantinedCount: 1 });
  });
});

test("openLmdbBlobStore() extends a volume that lost only what it does not use", async () => {
  await using directory = await makeBlobDirectory();
  const id = nextBlobId();
  await (await directory.open()).put(smallBlob(id, 5), soon());
  const [file] = (await directory.dataFiles()) as [string];
  await directory.close();
  await truncate(file, 8 * MIB);
  const again = await directory.open();
  expect(await readWhole(again, id)).toBe(1);
  expect(await again.usage()).toMatchObject({ volumeCount: 1, quarantinedCount: 0 });
  expect((await stat(file)).size).toBe(16 * MIB);
});

describe("a full disk", () => {
  test("put() and openWriter() refuse below the watermark; reads and deletes go on; writes come back with the space", async () => {
    let freeBytes = 10 * MIB;
    let nowMs = 0;
    const clock = { ...systemClock, monotonicMs: () => systemClock.monotonicMs() + nowMs };
    const settings = { volumeBytesMax: 16 * MIB, freeBytesMin: 2 * MIB };
    await using directory = await makeBlobDirectory({ clock, settings, freeBytes: () => freeBytes });
    const store = await directory.open();
    const id = nextBlobId();
    await store.put(smallBlob(id, 1_000), soon());
    const writer = await store.openWriter(nextBlobId(), WAIT_MS);
    freeBytes = 2 * MIB - 1;
    nowMs += 1_000;
    const full = { code: "node_full", retriable: true };
    expect(store.state()).toBe("full");
    await expect(store.put(smallBlob(nextBlobId(), 1_000), soon())).rejects.toMatchObject(full);
    await expect(store.openWriter(nextBlobId(), WAIT_MS)).rejects.toMatchObject(full);
    await expect(writer.writeCell(0, Buffer.alloc(100_000), 0n)).rejects.toMatchObject(full);
    await writer.abort();
    expect(await readWhole(store, id)).toBe(1);
    expect(await store.delete([id], soon())).toBe(1);
    freeBytes = 10 * MIB;
    nowMs += 1_000;
    expect(store.state()).toBe("live");
    await store.put(smallBlob(id, 1_000), soon());
    expect(directory.fences).toEqual([]);
  });

  test("put() counts what is in flight against the watermark", async () => {
    const settings = { volumeBytesMax: 16 * MIB, freeBytesMin: 0 };
    await using directory = await makeBlobDirectory({ settings, freeBytes: () => 200_000 });
    const store = await directory.open();
    const puts = Array.from({ length: 10 }, () => store.put(smallBlob(nextBlobId(), 50_000), soon()));
    const outcomes = await Promise.allSettled(puts);
    expect(outcomes.filter((outcome) => outcome.status === "fulfilled")).toHaveLength(3);
  });
});

describe("a storage error", () => {
  test.each([
    ["deleted", (path: string) => rm(path, { recursive: true })],
    ["moved away", (path: string) => rename(path, `${path}-elsewhere`)],
  ])("put() never acknowledges into a folder that was %s: the node fences itself", async (_what, take) => {
    await using directory = await makeBlobDirectory();
    const store = await directory.open();
    const id = nextBlobId();
    await store.put(smallBlob(id, 10), soon());
    const [file] = (await directory.dataFiles()) as [string];
    await take(dirname(dirname(file)));
    const fenced = { code: "node_fenced" };
    await expect(store.put(smallBlob(nextBlobId(), 10), soon())).rejects.toMatchObject(fenced);
    expect(store.state()).toBe("fenced");
    await expect(store.put(smallBlob(nextBlobId(), 10), soon())).rejects.toMatchObject(fenced);
    await expect(store.readCells(id, 0, 1, soon())).rejects.toMatchObject(fenced);
    await expect(store.delete([id], soon())).rejects.toMatchObject(fenced);
    await expect(store.openWriter(nextBlobId(), WAIT_MS)).rejects.toMatchObject(fenced);
    await expect(store.usage()).rejects.toMatchObject(fenced);
    expect(directory.fences).toMatchObject([fenced]);
  });

  test("seal() never acknowledges into a file that was replaced", async () => {
    await using directory = await makeBlobDirectory();
    const store = await directory.open();
    const id = nextBlobId();
    const writer = await store.openWriter(id, WAIT_MS);
    const payload = cellBytes(id, 0, 100_000);
    await writer.writeCell(0, payload, cellChecksum(payload, id, 0));
    const [file] = (await directory.dataFiles()) as [string];
    const bytes = await readFile(file);
    await rm(file);
    await writeFile(file, bytes);
    await expect(writer.seal(descriptorOf(id))).rejects.toMatchObject({ code: "node_fenced" });
    expect(store.state()).toBe("fenced");
    await expect(writer.abort()).rejects.toMatchObject({ code: "node_fenced" });
  });

  test("state() is fenced, and told once, after a write that the disk refused", async () => {
    await using directory = await makeBlobDirectory();
    const store = await directory.open();
    const kept = nextBlobId();
    await store.put(smallBlob(kept, 10), soon());
    await directory.close();
    // The limit is in units of 1 KiB: writes behind the first 2 MiB of the file fail with EFBIG.
    const command = 'ulimit -f 2048 && exec "$0" "$1" until-failure "$2"';
    await using child = startChild("bash", ["-c", command, process.execPath, CHILD, directory.path]);
    expect(await child.ended()).toBe(0);
    expect(JSON.parse(child.lines.at(-1) as string)).toEqual({
      codes: ["node_fenced"],
      later: "node_fenced",
      state: "fenced",
      fenceCount: 1,
    });
    expect(await readWhole(await directory.open(), kept)).toBe(1);
  });
});

describe("many volumes", () => {
  test("a blob larger than a volume goes on in the next ones and comes back whole after a restart", async () => {
    await using directory = await makeBlobDirectory();
    const store = await directory.open();
    const id = nextBlobId();
    await writeLarge(store, id, Array(40).fill(FULL_CELL_BYTES));
    expect((await store.usage()).volumeCount).toBeGreaterThanOrEqual(3);
    expect(await readWhole(store, id)).toBe(40);
    const unsealed = await beginUnsealed(store, Array(20).fill(FULL_CELL_BYTES));
    const again = await directory.open();
    expect(await readWhole(again, id)).toBe(40);
    expect(await again.verify(id, soon())).toEqual([]);
    await expect(again.readCells(unsealed, 0, 1, soon())).rejects.toMatchObject({ code: "blob_not_found" });
    expect(await again.delete([id], soon())).toBe(1);
    await directory.close();
    expect(await rawKeys(directory)).toEqual([]);
  });

  test("abort() of a blob in several volumes leaves nothing in any", async () => {
    await using directory = await makeBlobDirectory();
    const store = await directory.open();
    const id = nextBlobId();
    const writer = await store.openWriter(id, WAIT_MS);
    for (let index = 0; index < 30; index += 1) {
      const payload = cellBytes(id, index, FULL_CELL_BYTES);
      await writer.writeCell(index, payload, cellChecksum(payload, id, index));
    }
    await writer.abort();
    await directory.close();
    expect(await rawKeys(directory)).toEqual([]);
  });

  test("a missing part of a blob is told as damage of its cells", async () => {
    await using directory = await makeBlobDirectory();
    const store = await directory.open();
    const id = nextBlobId();
    await writeLarge(store, id, Array(20).fill(FULL_CELL_BYTES));
    const [first] = (await directory.dataFiles()) as [string];
    await directory.close();
    await truncate(first, 4_096);
    const again = await directory.open();
    await expect(again.readCells(id, 0, 1, soon())).rejects.toMatchObject({
      code: "blob_damaged",
      details: { cellIndex: 0 },
    });
    const damages = await again.verify(id, soon());
    expect(damages.length).toBeGreaterThan(10);
    expect(damages.length).toBeLessThan(20);
    expect(damages.map((damage) => damage.cellIndex)).toEqual(damages.map((_, n) => n));
    expect(await again.delete([id], soon())).toBe(1);
  });

  test("put() makes volumes as it needs them and finds each blob again", async () => {
    await using directory = await makeBlobDirectory();
    const store = await directory.open();
    const ids: BlobId[] = [];
    for (let round = 0; round < 12; round += 1) {
      const batch = Array.from({ length: 64 }, () => nextBlobId());
      ids.push(...batch);
      await Promise.all(batch.map((id) => store.put(smallBlob(id, 60_000), soon())));
    }
    const usage = await store.usage();
    expect(usage).toMatchObject({ blobCount: ids.length, liveBytes: ids.length * 60_000 });
    expect(usage.volumeCount).toBeGreaterThan(2);
    for (const id of ids) expect(await readWhole(store, id)).toBe(1);
    const again = await directory.open();
    expect(await listIds(again, 100)).toEqual(ids.toSorted());
    expect(await again.usage()).toMatchObject({ blobCount: ids.length, volumeCount: usage.volumeCount });
  });

  test("delete() gives back the space of volumes that it empties, and the rest is used anew", async () => {
    await using directory = await makeBlobDirectory();
    const store = await directory.open();
    let volumeCountMax = 0;
    for (let round = 0; round < 12; round += 1) {
      const ids = Array.from({ length: 12 }, () => nextBlobId());
      await Promise.all(ids.map((id) => writeLarge(store, id, [FULL_CELL_BYTES, 70_000])));
      for (const id of ids) expect(await readWhole(store, id)).toBe(2);
      volumeCountMax = Math.max(volumeCountMax, (await store.usage()).volumeCount);
      expect(await store.delete(ids, soon())).toBe(12);
    }
    expect(volumeCountMax).toBeLessThanOrEqual(4);
    const usage = await (await directory.open()).usage();
    expect(usage).toMatchObject({ blobCount: 0, liveBytes: 0 });
    expect(usage.volumeCount).toBeLessThanOrEqual(3);
    expect(directory.fences).toEqual([]);
  });

  test("delete() works in a volume that is full", async () => {
    await using directory = await makeBlobDirectory();
    const store = await directory.open();
    const ids: BlobId[] = [];
    while ((await store.usage()).volumeCount < 2) {
      const batch = Array.from({ length: 50 }, () => nextBlobId());
      ids.push(...batch);
      await Promise.all(batch.map((id) => store.put(smallBlob(id, 3_000), soon())));
    }
    // Every second one, so that as many pages as possible change.
    const doomed = ids.filter((_, n) => n % 2 === 0);
    expect(await store.delete(doomed, soon())).toBe(doomed.length);
    for (const id of ids.filter((_, n) => n % 2 === 1)) expect(await readWhole(store, id)).toBe(1);
    expect(store.state()).toBe("live");
  });
});
