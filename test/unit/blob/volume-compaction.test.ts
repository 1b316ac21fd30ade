import { readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { LocalBlobStore } from "../../../src/blob/lmdb-blob-store.ts";
import type { BlobId } from "../../../src/domain/ids.ts";
import { MIB } from "../../../src/lib/bytes.ts";
import type { BlobDirectory } from "../../support/blob-directory.ts";
import { makeBlobDirectory } from "../../support/blob-directory.ts";
import {
  cellBytes,
  COMPACT_ALL,
  FULL_CELL_BYTES,
  listIds,
  nextBlobId,
  readWhole,
  smallBlob,
  soon,
  writeLarge,
} from "../../support/blobs.ts";
import { startChild } from "../../support/child-process.ts";

const CHILD = join(import.meta.dirname, "../../support/blob-child.ts");
const WORTH_IT = { ...COMPACT_ALL, below: 0.7, unusedBytesMin: 1 * MIB };

async function compactAll(store: LocalBlobStore): Promise<string[]> {
  const states: string[] = [];
  while (states.at(-1) !== "nothing_to_do") states.push((await store.compaction.step(WORTH_IT)).state);
  return states;
}

/** Small blobs and large ones, enough for several volumes, some over two of them. */
async function fill(store: LocalBlobStore, count: number): Promise<BlobId[]> {
  const ids = Array.from({ length: count }, () => nextBlobId());
  for (const [n, id] of ids.entries()) {
    if (n % 3 === 0) await writeLarge(store, id, [FULL_CELL_BYTES, FULL_CELL_BYTES, 5_000]);
    else await store.put(smallBlob(id, 30_000, 10), soon());
  }
  return ids;
}

/** All but every fourth. */
async function thinOut(store: LocalBlobStore, ids: readonly BlobId[]): Promise<BlobId[]> {
  await store.delete(
    ids.filter((_, n) => n % 4 !== 0),
    soon(),
  );
  return ids.filter((_, n) => n % 4 === 0);
}

async function flip(directory: BlobDirectory, pattern: Buffer, offset: number): Promise<void> {
  for (const file of await directory.dataFiles()) {
    const bytes = await readFile(file);
    const at = bytes.indexOf(pattern);
    if (at < 0) continue;
    bytes[at + offset] = (bytes[at + offset] as number) ^ 0x40;
    await writeFile(file, bytes);
  }
}

async function blocksOf(directory: BlobDirectory): Promise<number> {
  const sizes = await Promise.all((await directory.dataFiles()).map(async (file) => (await stat(file)).blocks * 512));
  return sizes.reduce((sum, bytes) => sum + bytes, 0);
}

describe("VolumeCompaction", () => {
  test("step() gives the space of deleted blobs back to the file system and keeps all others", async () => {
    await using directory = await makeBlobDirectory();
    let store = await directory.open();
    const kept = await thinOut(store, await fill(store, 60));
    const before = await blocksOf(directory);
    expect(await compactAll(store)).toContain("given_back");
    const after = await blocksOf(directory);
    const { blobCount, liveBytes, fileBytes } = await store.usage();
    expect([blobCount, fileBytes]).toEqual([kept.length, after]);
    expect(after).toBeLessThan(before / 2);
    expect(after).toBeLessThan(liveBytes * 1.5);
    for (let opened = 0; opened < 2; opened += 1) {
      expect(await listIds(store)).toEqual(kept);
      for (const id of kept) {
        await readWhole(store, id);
        expect(await store.verify(id, soon())).toEqual([]);
      }
      store = await directory.open();
    }
    expect((await store.usage()).liveBytes).toBe(liveBytes);
    expect(directory.fences).toEqual([]);
  });

  test("step() leaves volumes alone that are well filled, and an empty store", async () => {
    await using directory = await makeBlobDirectory();
    const store = await directory.open();
    expect(await compactAll(store)).toEqual(["nothing_to_do"]);
    await fill(store, 40);
    expect(await compactAll(store)).toEqual(["nothing_to_do"]);
  });

  test("blobs are read, listed, stored and deleted while their volumes are emptied", async () => {
    await using directory = await makeBlobDirectory();
    const store = await directory.open();
    const kept = await thinOut(store, await fill(store, 60));
    const present = new Set(kept);
    let isDone = false;
    const read = async () => {
      for (let n = 0; !isDone; n += 1) {
        const id = [...present][n % present.size] as BlobId;
        const cells = await readWhole(store, id).catch((cause: { code?: string }) => cause.code);
        if (present.has(id)) expect(cells, id).toBeGreaterThan(0);
        if (n % 10 === 0) expect(await listIds(store)).toEqual(expect.arrayContaining([...present]));
      }
    };
    const change = async () => {
      for (let n = 0; !isDone; n += 1) {
        const id = nextBlobId();
        await (n % 2 === 0 ? store.put(smallBlob(id, 20_000), soon()) : writeLarge(store, id, [300_000, 300_000]));
        present.add(id);
        const doomed = [...present][(n * 7) % present.size] as BlobId;
        present.delete(doomed);
        expect(await store.delete([doomed], soon())).toBe(1);
      }
    };
    const others = Promise.all([read(), read(), change()]);
    const states = await compactAll(store).finally(() => (isDone = true));
    await others;
    expect(states).toContain("given_back");
    expect(await listIds(store)).toEqual([...present].sort());
    for (const id of present) expect(await store.verify(id, soon())).toEqual([]);
  });

  test("a delete of a blob on its way waits for nothing but its end, and wins", async () => {
    await using directory = await makeBlobDirectory();
    const store = await directory.open();
    const kept = await thinOut(store, await fill(store, 60));
    const steps = compactAll(store);
    expect(await store.delete(kept, soon())).toBe(kept.length);
    await steps;
    expect(await listIds(store)).toEqual([]);
    expect(await listIds(await directory.open())).toEqual([]);
    await expect((await directory.open()).usage()).resolves.toMatchObject({ blobCount: 0, liveBytes: 0 });
  });

  test("what is damaged stays damaged and is never taken for whole; a broken seal keeps its volume", async () => {
    await using directory = await makeBlobDirectory();
    let store = await directory.open();
    const kept = await thinOut(store, await fill(store, 60));
    const [large, small] = [kept[0] as BlobId, kept[1] as BlobId];
    const [rotten, broken] = [kept[3] as BlobId, kept[2] as BlobId];
    await directory.close();
    await flip(directory, Buffer.from(`${rotten}#0/`), 200);
    await flip(directory, Buffer.from(`descriptor of ${broken}`), 3);
    store = await directory.open();
    const states = await compactAll(store);
    expect(states).toContain("kept");
    expect((await store.verify(rotten, soon())).map(({ cellIndex }) => cellIndex)).toEqual([0]);
    await expect(store.describe(broken, soon())).rejects.toMatchObject({ code: "blob_damaged" });
    for (const id of [large, small]) expect(await store.verify(id, soon())).toEqual([]);
    // Mended at its new place it is whole again.
    const [cell] = await store.readCells(rotten, 0, 1, soon());
    await store.mendCell(rotten, 0, cellBytes(rotten, 0, cell?.payload.length ?? 0), soon());
    expect(await store.verify(rotten, soon())).toEqual([]);
    // Made anew it leaves the old volume free to go.
    const { volumeCount } = await store.usage();
    await store.put(smallBlob(broken, 30_000, 10), soon());
    await expect.poll(async () => (await store.usage()).volumeCount).toBe(volumeCount - 1);
    expect(await listIds(store)).toEqual(kept);
  });

  test("step() is refused on a disk without room, and goes on when there is some", async () => {
    await using directory = await makeBlobDirectory();
    let freeBytes = 1_000 * MIB;
    const settings = { volumeBytesMax: 16 * MIB, freeBytesMin: 100 * MIB };
    const store = await directory.open({ settings, freeBytes: () => freeBytes });
    const kept = await thinOut(store, await fill(store, 60));
    freeBytes = 40 * MIB;
    await expect.poll(() => store.state()).toBe("full");
    await expect(compactAll(store)).rejects.toMatchObject({ code: "node_full" });
    expect(await listIds(store)).toEqual(kept);
    // Less than writes have to leave is enough: in the end there is more.
    freeBytes = 90 * MIB;
    await expect.poll(() => compactAll(store).catch((cause: { code: string }) => cause.code)).toContain("given_back");
    for (const id of kept) expect(await store.verify(id, soon())).toEqual([]);
  });

  test("an aborted signal ends a move half way, and nothing is left of it", async () => {
    await using directory = await makeBlobDirectory();
    const store = await directory.open();
    const [doomed, large] = [nextBlobId(), nextBlobId()];
    await writeLarge(
      store,
      doomed,
      Array.from({ length: 4 }, () => FULL_CELL_BYTES),
    );
    await writeLarge(
      store,
      large,
      Array.from({ length: 6 }, () => FULL_CELL_BYTES),
    );
    await store.delete([doomed], soon());
    const stop = new AbortController();
    const pace = () => Promise.resolve(stop.abort());
    await store.compaction.step({ ...COMPACT_ALL, signal: stop.signal, pace });
    expect(await readWhole(store, large)).toBe(6);
    expect(await compactAll(store)).toContain("given_back");
    expect(await store.verify(large, soon())).toEqual([]);
    await store.delete([large], soon());
    await compactAll(store);
    expect((await store.usage()).fileBytes).toBeLessThan(1 * MIB);
  });

  test("a process killed at any moment leaves every blob whole, deletes done, and space to be given back", async () => {
    await using directory = await makeBlobDirectory();
    await directory.open();
    await directory.close();
    const present = new Set<string>();
    const maybe = new Set<string>();
    let givenBack = 0;
    for (let round = 0; round < 8; round += 1) {
      const child = startChild(process.execPath, [CHILD, "compact", directory.path]);
      await child.linesReach(150 + round * 41);
      await child.kill();
      for (const line of child.lines) {
        const [what, id] = line.split(" ") as [string, string];
        if (line === "given back") givenBack += 1;
        else if (what === "put") present.add(id);
        else if (what === "deleting") maybe.add(id);
        else if (what === "deleted") maybe.delete(id);
        if (what !== "put") present.delete(id);
      }
      const store = await directory.open();
      const listed = await listIds(store);
      expect(listed).toEqual(expect.arrayContaining([...present]));
      const deleted = listed.filter((id) => child.lines.includes(`deleted ${id}`));
      expect(deleted).toEqual([]);
      for (const id of listed) expect(await store.verify(id, soon()), id).toEqual([]);
      await compactAll(store);
      for (const id of listed) expect(await readWhole(store, id)).toBeGreaterThan(0);
      // What was under way nobody was told of.
      await store.delete(
        listed.filter((id) => !present.has(id)),
        soon(),
      );
      expect(await listIds(store)).toEqual([...present].sort());
      await directory.close();
    }
    expect(givenBack).toBeGreaterThan(0);
    const store = await directory.open();
    await store.delete([...present] as BlobId[], soon());
    await compactAll(store);
    // Nothing is left that belongs to no blob.
    expect((await store.usage()).fileBytes).toBeLessThan(1 * MIB);
  }, 120_000);
});

test("mendCell() of a blob on its way goes to its new place", async () => {
  await using directory = await makeBlobDirectory();
  let store = await directory.open();
  const kept = await thinOut(store, await fill(store, 60));
  const id = kept[1] as BlobId;
  await directory.close();
  await flip(directory, Buffer.from(`${id}#0/`), 200);
  store = await directory.open();
  const steps = compactAll(store);
  const payload = cellBytes(id, 0, 30_000);
  const mended = store.mendCell(id, 0, payload, soon());
  await steps;
  await mended;
  expect(await store.verify(id, soon())).toEqual([]);
});
