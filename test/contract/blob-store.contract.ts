import { describe, expect, test } from "vitest";
import type { BlobStore } from "../../src/blob/blob-store.ts";
import { cellChecksum } from "../../src/domain/checksum.ts";
import { nextTurn } from "../../src/lib/next-turn.ts";
import { LIMITS } from "../../src/limits.ts";
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
} from "../support/blobs.ts";
import { describeMending } from "./blob-mending.contract.ts";

/** An empty store of one node. Deadlines are measured on the system clock. */
export type BlobStoreHarness = AsyncDisposable & { readonly store: BlobStore };

type Open = () => Promise<BlobStoreHarness>;

/** What every `BlobStore` promises. Run by each adapter. */
export function describeBlobStore(name: string, open: Open): void {
  describe(`BlobStore on ${name}`, () => {
    describePut(open);
    describeReading(open);
    describeWriter(open);
    describeWriterConflicts(open);
    describeDelete(open);
    describeListing(open);
    describeVerify(open);
    describeMending(open);
    describeLifetime(open);
  });
}

function describePut(open: Open): void {
  test("put() makes a blob readable, describable and listed", async () => {
    await using harness = await open();
    const id = nextBlobId();
    await harness.store.put(smallBlob(id, 1_000, 1_000, 500), soon());
    expect(await readWhole(harness.store, id)).toBe(3);
    const described = await harness.store.describe(id, soon());
    expect(described?.info).toMatchObject({ id, cellCount: 3, payloadBytes: 2_500 });
    expect(Math.abs((described?.info.sealedAtMs ?? 0) - Date.now())).toBeLessThan(60_000);
    expect(Buffer.from(described?.descriptor ?? [])).toEqual(descriptorOf(id));
    expect(await listIds(harness.store)).toEqual([id]);
  });

  test("put() leaves the memory of its caller free when it has resolved", async () => {
    await using harness = await open();
    const id = nextBlobId();
    const blob = smallBlob(id, 4_000);
    await harness.store.put(blob, soon());
    blob.cells[0]?.payload.fill(0);
    blob.descriptor.fill(0);
    expect(await readWhole(harness.store, id)).toBe(1);
    expect(Buffer.from((await harness.store.describe(id, soon()))?.descriptor ?? [])).toEqual(descriptorOf(id));
  });

  test("put() of the same blob again changes nothing, also at the same time", async () => {
    await using harness = await open();
    const id = nextBlobId();
    await Promise.all([harness.store.put(smallBlob(id, 700), soon()), harness.store.put(smallBlob(id, 700), soon())]);
    await harness.store.put(smallBlob(id, 700), soon());
    expect(await readWhole(harness.store, id)).toBe(1);
    expect(await harness.store.usage()).toMatchObject({ blobCount: 1, liveBytes: 700 });
  });

  test("put() takes a blob without cells and one of the largest size", async () => {
    await using harness = await open();
    const [empty, largest] = [nextBlobId(), nextBlobId()];
    await harness.store.put(smallBlob(empty), soon());
    await harness.store.put(smallBlob(largest, LIMITS.packedBlobBytesMax), soon());
    expect(await readWhole(harness.store, empty)).toBe(0);
    expect((await harness.store.describe(empty, soon()))?.info).toMatchObject({ cellCount: 0, payloadBytes: 0 });
    expect(await readWhole(harness.store, largest)).toBe(1);
  });

  test("put() stores what many callers send at once", async () => {
    await using harness = await open();
    const ids = Array.from({ length: 500 }, () => nextBlobId());
    await Promise.all(ids.map((id, n) => harness.store.put(smallBlob(id, (n * 37) % 5_000), soon())));
    for (const id of ids) await readWhole(harness.store, id);
    expect(await listIds(harness.store)).toEqual(ids.toSorted());
  });
}

function describeReading(open: Open): void {
  test("readCells() gives the window that was asked for and leaves out what is behind the end", async () => {
    await using harness = await open();
    const [small, large] = [nextBlobId(), nextBlobId()];
    await harness.store.put(smallBlob(small, 10, 20, 30, 40), soon());
    await writeLarge(harness.store, large, [70_000, 70_000, 70_000, 70_000, 70_000, 9]);
    const lengths = async (id: typeof small, first: number, count: number) =>
      (await harness.store.readCells(id, first, count, soon())).map((cell) => `${cell.index}:${cell.payload.length}`);
    expect(await lengths(small, 1, 2)).toEqual(["1:20", "2:30"]);
    expect(await lengths(small, 3, 9)).toEqual(["3:40"]);
    expect(await lengths(small, 4, 1)).toEqual([]);
    expect(await lengths(large, 0, 2)).toEqual(["0:70000", "1:70000"]);
    expect(await lengths(large, 4, 9)).toEqual(["4:70000", "5:9"]);
    expect(await lengths(large, 6, 1)).toEqual([]);
  });

  test("readCells() puts the payloads back to back where the caller wants them", async () => {
    await using harness = await open();
    const [small, large] = [nextBlobId(), nextBlobId()];
    await harness.store.put(smallBlob(small, 100, 60), soon());
    await writeLarge(harness.store, large, [200_000, 200_000, 50]);
    for (const [id, first, lengths] of [
      [small, 0, [100, 60]],
      [large, 1, [200_000, 50]],
    ] as const) {
      const into = new Uint8Array(500_000).fill(0xee);
      const cells = await harness.store.readCells(id, first, 2, soon(), into);
      let at = 0;
      for (const [n, cell] of cells.entries()) {
        expect([cell.payload.buffer, cell.payload.byteOffset, cell.payload.length]).toEqual([
          into.buffer,
          at,
          lengths[n],
        ]);
        expect(Buffer.compare(cell.payload, cellBytes(id, first + n, cell.payload.length))).toBe(0);
        at += cell.payload.length;
      }
      expect(into.subarray(at).every((byte) => byte === 0xee)).toBe(true);
    }
  });

  test("readCells() writes nothing any more once its signal has aborted, however far it is", async () => {
    await using harness = await open();
    const [small, large] = [nextBlobId(), nextBlobId()];
    await harness.store.put(smallBlob(small, 3_000), soon());
    await writeLarge(harness.store, large, [FULL_CELL_BYTES]);
    for (const [id, length] of [
      [small, 3_000],
      [large, FULL_CELL_BYTES],
    ] as const) {
      for (let turns = 0; turns < 6; turns += 1) {
        const into = new Uint8Array(length);
        const controller = new AbortController();
        const reading = harness.store.readCells(id, 0, 1, soon(), into, controller.signal).then(
          () => "read",
          (cause: unknown) => (cause as { code?: unknown }).code,
        );
        for (let turn = 0; turn < turns; turn += 1) await nextTurn();
        controller.abort();
        // Now the memory serves something else.
        into.fill(0xee);
        expect(["read", "deadline_exceeded"]).toContain(await reading);
        await nextTurn();
        expect(
          into.every((byte) => byte === 0xee),
          `after ${turns} turns`,
        ).toBe(true);
      }
      const controller = new AbortController();
      controller.abort();
      const refused = harness.store.readCells(id, 0, 1, soon(), new Uint8Array(length), controller.signal);
      await expect(refused).rejects.toMatchObject({ code: "deadline_exceeded" });
      expect(await readWhole(harness.store, id), "others are not disturbed").toBe(1);
    }
  });

  test("readCells() gives memory that later reads leave alone", async () => {
    await using harness = await open();
    const [first, second] = [nextBlobId(), nextBlobId()];
    await harness.store.put(smallBlob(first, 3_000), soon());
    await harness.store.put(smallBlob(second, 3_000), soon());
    const [cell] = await harness.store.readCells(first, 0, 1, soon());
    await harness.store.readCells(second, 0, 1, soon());
    expect(Buffer.compare(cell?.payload ?? Buffer.alloc(0), cellBytes(first, 0, 3_000))).toBe(0);
  });

  test("readCells(), describe() and verify() tell that a blob is unknown", async () => {
    await using harness = await open();
    const id = nextBlobId();
    await harness.store.put(smallBlob(nextBlobId(), 5), soon());
    await expect(harness.store.readCells(id, 0, 1, soon())).rejects.toMatchObject({ code: "blob_not_found" });
    await expect(harness.store.verify(id, soon())).rejects.toMatchObject({ code: "blob_not_found" });
    expect(await harness.store.describe(id, soon())).toBeNull();
  });
}

function describeWriter(open: Open): void {
  test("openWriter() shows nothing before the seal and everything after it", async () => {
    await using harness = await open();
    const id = nextBlobId();
    const writer = await harness.store.openWriter(id, WAIT_MS);
    for (const index of [0, 1]) {
      const payload = cellBytes(id, index, FULL_CELL_BYTES);
      await writer.writeCell(index, payload, cellChecksum(payload, id, index));
      // Its memory is free again, though nothing is sealed.
      payload.fill(0);
    }
    expect(await harness.store.describe(id, soon())).toBeNull();
    expect(await listIds(harness.store)).toEqual([]);
    await expect(harness.store.readCells(id, 0, 1, soon())).rejects.toMatchObject({ code: "blob_not_found" });
    await writer.seal(descriptorOf(id));
    expect(await readWhole(harness.store, id)).toBe(2);
    expect((await harness.store.describe(id, soon()))?.info).toMatchObject({
      cellCount: 2,
      payloadBytes: 2 * FULL_CELL_BYTES,
    });
  });

  test("openWriter() takes overlapping cells of several blobs at once", async () => {
    await using harness = await open();
    const blobs = Array.from({ length: 4 }, (_, n) => ({ id: nextBlobId(), lengths: Array(6 + n).fill(90_000 + n) }));
    await Promise.all(blobs.map(({ id, lengths }) => writeLarge(harness.store, id, lengths)));
    for (const { id, lengths } of blobs) expect(await readWhole(harness.store, id)).toBe(lengths.length);
    expect(await harness.store.usage()).toMatchObject({
      blobCount: 4,
      liveBytes: blobs.reduce((sum, { lengths }) => sum + lengths.length * lengths[0], 0),
    });
  });

  test("openWriter() can seal a blob without cells", async () => {
    await using harness = await open();
    const id = nextBlobId();
    await writeLarge(harness.store, id, []);
    expect(await readWhole(harness.store, id)).toBe(0);
    expect(await harness.store.verify(id, soon())).toEqual([]);
    expect(await harness.store.delete([id], soon())).toBe(1);
  });

  test("abort() leaves nothing behind, any number of times", async () => {
    await using harness = await open();
    const id = nextBlobId();
    const writer = await harness.store.openWriter(id, WAIT_MS);
    for (const index of [0, 1, 2]) {
      const payload = cellBytes(id, index, 100_000);
      await writer.writeCell(index, payload, cellChecksum(payload, id, index));
    }
    await writer.abort();
    await writer.abort();
    expect(await listIds(harness.store)).toEqual([]);
    await expect(writer.seal(descriptorOf(id))).rejects.toMatchObject({ code: "node_unavailable" });
    await writeLarge(harness.store, id, [50_000]);
    expect(await readWhole(harness.store, id)).toBe(1);
  });

  test("abort() is harmless after the seal", async () => {
    await using harness = await open();
    const id = nextBlobId();
    const writer = await harness.store.openWriter(id, WAIT_MS);
    const payload = cellBytes(id, 0, 80_000);
    await writer.writeCell(0, payload, cellChecksum(payload, id, 0));
    await writer.seal(descriptorOf(id));
    await writer.abort();
    expect(await readWhole(harness.store, id)).toBe(1);
  });
}

function describeWriterConflicts(open: Open): void {
  test("openWriter() refuses a second writer of the same blob until the first has ended", async () => {
    await using harness = await open();
    const id = nextBlobId();
    const first = await harness.store.openWriter(id, WAIT_MS);
    await expect(harness.store.openWriter(id, WAIT_MS)).rejects.toMatchObject({
      code: "write_conflict",
      retriable: true,
    });
    await expect(harness.store.put(smallBlob(id, 5), soon())).rejects.toMatchObject({ code: "write_conflict" });
    await first.abort();
    await writeLarge(harness.store, id, [100_000]);
    expect(await readWhole(harness.store, id)).toBe(1);
  });

  test("openWriter() of a blob that is sealed already is harmless", async () => {
    await using harness = await open();
    const id = nextBlobId();
    await writeLarge(harness.store, id, [100_000, 100_000]);
    await writeLarge(harness.store, id, [100_000, 100_000]);
    const third = await harness.store.openWriter(id, WAIT_MS);
    await third.abort();
    expect(await readWhole(harness.store, id)).toBe(2);
    expect(await harness.store.usage()).toMatchObject({ blobCount: 1, liveBytes: 200_000 });
  });
}

function describeDelete(open: Open): void {
  test("delete() answers how many blobs were there and takes them away", async () => {
    await using harness = await open();
    const ids = Array.from({ length: 20 }, () => nextBlobId());
    await Promise.all(ids.map((id) => harness.store.put(smallBlob(id, 300), soon())));
    const [first, second, ...rest] = ids as [(typeof ids)[0], (typeof ids)[0], ...typeof ids];
    expect(await harness.store.delete([first, nextBlobId(), second, first], soon())).toBe(2);
    expect(await harness.store.delete([first], soon())).toBe(0);
    await expect(harness.store.readCells(first, 0, 1, soon())).rejects.toMatchObject({ code: "blob_not_found" });
    expect(await listIds(harness.store)).toEqual(rest.toSorted());
    expect(await harness.store.usage()).toMatchObject({ blobCount: 18, liveBytes: 18 * 300 });
  });

  test("delete() takes a blob of many cells", async () => {
    await using harness = await open();
    const [doomed, kept] = [nextBlobId(), nextBlobId()];
    await writeLarge(harness.store, doomed, Array(600).fill(300));
    await writeLarge(harness.store, kept, Array(10).fill(300));
    expect(await harness.store.delete([doomed], soon())).toBe(1);
    expect(await harness.store.describe(doomed, soon())).toBeNull();
    expect(await readWhole(harness.store, kept)).toBe(10);
    expect(await harness.store.usage()).toMatchObject({ blobCount: 1, liveBytes: 3_000 });
  });

  test("delete() lets the same blob be written anew, also at once", async () => {
    await using harness = await open();
    const [small, large] = [nextBlobId(), nextBlobId()];
    await harness.store.put(smallBlob(small, 10), soon());
    await writeLarge(harness.store, large, [70_000, 70_000]);
    const gone = harness.store.delete([small, large], soon());
    await Promise.all([
      harness.store.put(smallBlob(small, 20), soon()),
      writeLarge(harness.store, large, [80_000]),
      gone,
    ]);
    expect((await harness.store.describe(small, soon()))?.info.payloadBytes).toBe(20);
    expect(await readWhole(harness.store, large)).toBe(1);
    expect(await harness.store.usage()).toMatchObject({ blobCount: 2, liveBytes: 80_020 });
  });

  test("delete() of a blob that has not come yet keeps it away", async () => {
    await using harness = await open();
    const [small, large, begun] = [nextBlobId(), nextBlobId(), nextBlobId()];
    const writer = await harness.store.openWriter(begun, WAIT_MS);
    const payload = cellBytes(begun, 0, 100_000);
    await writer.writeCell(0, payload, cellChecksum(payload, begun, 0));
    expect(await harness.store.delete([small, large, begun], soon())).toBe(0);
    const kept = { code: "write_conflict", retriable: false };
    await expect(harness.store.put(smallBlob(small, 10), soon())).rejects.toMatchObject(kept);
    await expect(writeLarge(harness.store, large, [70_000])).rejects.toMatchObject(kept);
    await expect(writer.seal(descriptorOf(begun))).rejects.toMatchObject(kept);
    await writer.abort();
    expect(await listIds(harness.store)).toEqual([]);
    expect(await harness.store.usage()).toMatchObject({ blobCount: 0, liveBytes: 0 });
  });

  test("delete() leaves nothing of a blob that is just being sealed", async () => {
    await using harness = await open();
    for (let steps = 0; steps < 24; steps += 1) {
      const id = nextBlobId();
      const writer = await harness.store.openWriter(id, WAIT_MS);
      const payload = cellBytes(id, 0, 100_000);
      await writer.writeCell(0, payload, cellChecksum(payload, id, 0));
      const sealed = writer.seal(descriptorOf(id)).catch(() => writer.abort());
      for (let step = 0; step < steps; step += 1) await Promise.resolve();
      await harness.store.delete([id], soon());
      await sealed;
    }
    expect(await listIds(harness.store)).toEqual([]);
  });

  test("delete() never lets a reader see wrong bytes", async () => {
    await using harness = await open();
    const id = nextBlobId();
    await writeLarge(harness.store, id, Array(40).fill(100_000));
    const reads = Array.from({ length: 10 }, async () => {
      try {
        return await readWhole(harness.store, id);
      } catch (cause) {
        return (cause as { code?: string }).code;
      }
    });
    const deleted = harness.store.delete([id], soon());
    for (const outcome of await Promise.all(reads)) expect([40, "blob_not_found"]).toContain(outcome);
    expect(await deleted).toBe(1);
  });
}

function describeListing(open: Open): void {
  test("list() goes through the blobs in order of their ids, page by page", async () => {
    await using harness = await open();
    const ids = Array.from({ length: 25 }, (_, n) => nextBlobId(n % 3));
    for (const id of ids.toReversed()) await harness.store.put(smallBlob(id, 8), soon());
    await writeLarge(harness.store, nextBlobId(), [70_000]);
    const all = await listIds(harness.store);
    expect(all.slice(0, 25)).toEqual(ids.toSorted());
    expect(await listIds(harness.store, 7)).toEqual(all);
    expect(await harness.store.list(all[4] as string, 3, soon())).toMatchObject([
      { id: all[5], cellCount: 1, payloadBytes: 8 },
      { id: all[6] },
      { id: all[7] },
    ]);
    expect(await harness.store.list(all[25] as string, 3, soon())).toEqual([]);
  });
}

function describeVerify(open: Open): void {
  test("verify() finds nothing wrong with what was stored right", async () => {
    await using harness = await open();
    const [small, large] = [nextBlobId(), nextBlobId()];
    await harness.store.put(smallBlob(small, 100, 200), soon());
    await writeLarge(harness.store, large, [FULL_CELL_BYTES, FULL_CELL_BYTES, 13]);
    expect(await harness.store.verify(small, soon())).toEqual([]);
    expect(await harness.store.verify(large, soon())).toEqual([]);
  });

  test("verify() names the cells whose bytes do not match their checksum", async () => {
    await using harness = await open();
    const [small, large] = [nextBlobId(), nextBlobId()];
    const blob = smallBlob(small, 100, 200, 300);
    blob.cells[1]?.payload.fill(9);
    await harness.store.put(blob, soon());
    const writer = await harness.store.openWriter(large, WAIT_MS);
    for (const index of [0, 1, 2]) {
      // The bytes of cell 2 in the place of cell 1: whole, but not here.
      const payload = cellBytes(large, index === 1 ? 2 : index, 90_000);
      await writer.writeCell(index, payload, cellChecksum(cellBytes(large, index, 90_000), large, index));
    }
    await writer.seal(descriptorOf(large));
    expect(await harness.store.verify(small, soon())).toMatchObject([{ id: small, cellIndex: 1 }]);
    expect(await harness.store.verify(large, soon())).toMatchObject([{ id: large, cellIndex: 1 }]);
  });
}

function describeLifetime(open: Open): void {
  test("state() is live until the store is closed; then every call is refused", async () => {
    await using harness = await open();
    const { store } = harness;
    const id = nextBlobId();
    await store.put(smallBlob(id, 5), soon());
    expect(store.state()).toBe("live");
    await store.close();
    expect(store.state()).toBe("down");
    const refused = { code: "node_unavailable", retriable: true };
    await expect(store.put(smallBlob(id, 5), soon())).rejects.toMatchObject(refused);
    await expect(store.openWriter(id, WAIT_MS)).rejects.toMatchObject(refused);
    await expect(store.readCells(id, 0, 1, soon())).rejects.toMatchObject(refused);
    await expect(store.describe(id, soon())).rejects.toMatchObject(refused);
    await expect(store.list("", 1, soon())).rejects.toMatchObject(refused);
    await expect(store.delete([id], soon())).rejects.toMatchObject(refused);
    await expect(store.verify(id, soon())).rejects.toMatchObject(refused);
    await expect(store.usage()).rejects.toMatchObject(refused);
    await store.close();
  });
}
