import { expect, test } from "vitest";
import type { BlobStore } from "../../src/blob/blob-store.ts";
import { cellChecksum } from "../../src/domain/checksum.ts";
import { cellBytes, descriptorOf, nextBlobId, readWhole, smallBlob, soon, WAIT_MS } from "../support/blobs.ts";
import type { BlobStoreHarness } from "./blob-store.contract.ts";

type Open = () => Promise<BlobStoreHarness>;

/** What a store promises of single cells that are mended in place. */
export function describeMending(open: Open): void {
  /** A packed blob and a streamed one, of three cells each, whose cell 1 has other bytes than its checksum says. */
  const storeDamaged = async (store: BlobStore) => {
    const [small, large] = [nextBlobId(), nextBlobId()];
    const blob = smallBlob(small, 100, 200, 300);
    blob.cells[1]?.payload.fill(9);
    await store.put(blob, soon());
    const writer = await store.openWriter(large, WAIT_MS);
    for (const index of [0, 1, 2]) {
      const payload = cellBytes(large, index, 90_000);
      await writer.writeCell(
        index,
        index === 1 ? Buffer.alloc(90_000, 9) : payload,
        cellChecksum(payload, large, index),
      );
    }
    await writer.seal(descriptorOf(large));
    return { small, large };
  };

  test("mendCell() puts the right bytes back, of a blob of any size, and again without harm", async () => {
    await using harness = await open();
    const { store } = harness;
    const { small, large } = await storeDamaged(store);
    const before = await store.usage();
    for (const [id, length] of [
      [small, 200],
      [large, 90_000],
    ] as const) {
      expect(await store.verify(id, soon())).toMatchObject([{ cellIndex: 1 }]);
      const payload = cellBytes(id, 1, length);
      await store.mendCell(id, 1, payload, soon());
      await store.mendCell(id, 1, payload, soon());
      payload.fill(0);
      expect(await store.verify(id, soon())).toEqual([]);
      expect(await readWhole(store, id)).toBe(3);
    }
    const { blobCount, liveBytes } = await store.usage();
    expect({ blobCount, liveBytes }).toEqual({ blobCount: before.blobCount, liveBytes: before.liveBytes });
  });

  test("mendCell() takes no bytes but those that the blob was sealed with", async () => {
    await using harness = await open();
    const { store } = harness;
    const { small, large } = await storeDamaged(store);
    for (const [id, length] of [
      [small, 200],
      [large, 90_000],
    ] as const) {
      const wrong = [
        cellBytes(id, 2, length),
        cellBytes(id, 1, length - 1),
        cellBytes(id, 1, length + 1),
        Buffer.alloc(0),
      ];
      for (const payload of wrong) {
        await expect(store.mendCell(id, 1, payload, soon())).rejects.toMatchObject({ code: "write_conflict" });
      }
      await expect(store.mendCell(id, 3, cellBytes(id, 3, length), soon())).rejects.toMatchObject({
        code: "write_conflict",
      });
      expect(await store.verify(id, soon())).toMatchObject([{ cellIndex: 1 }]);
    }
  });

  test("mendCell() brings no blob into being, nor one back that was deleted", async () => {
    await using harness = await open();
    const { store } = harness;
    const { large } = await storeDamaged(store);
    const absent = nextBlobId();
    await expect(store.mendCell(absent, 0, cellBytes(absent, 0, 10), soon())).rejects.toMatchObject({
      code: "blob_not_found",
    });
    const [deleted, mended] = await Promise.allSettled([
      store.delete([large], soon()),
      store.mendCell(large, 1, cellBytes(large, 1, 90_000), soon()),
    ]);
    expect(deleted.status).toBe("fulfilled");
    expect(["fulfilled", "rejected"]).toContain(mended.status);
    expect(await store.describe(large, soon())).toBeNull();
    await expect(store.mendCell(large, 1, cellBytes(large, 1, 90_000), soon())).rejects.toMatchObject({
      code: "blob_not_found",
    });
  });
}
