import { expect, test } from "vitest";
import { corruptDisk } from "../../faults/schedule/corrupt-disk.ts";
import { makeBlobDirectory } from "../../support/blob-directory.ts";
import { FULL_CELL_BYTES, nextBlobId, smallBlob, soon, writeLarge } from "../../support/blobs.ts";
import { createSeeded } from "../../support/load/seeded.ts";

test("corruptDisk() spoils cells of a node that runs, and nothing that would end it", async () => {
  await using directory = await makeBlobDirectory();
  const store = await directory.open();
  const [small, large] = [nextBlobId(), nextBlobId()];
  await store.put(smallBlob(small, 9_000, 9_000), soon());
  await writeLarge(store, large, [FULL_CELL_BYTES, FULL_CELL_BYTES]);
  expect(await corruptDisk(createSeeded(3), directory.path, 30)).toBe(30);
  const damages = [...(await store.verify(small, soon())), ...(await store.verify(large, soon()))];
  expect(damages.length).toBeGreaterThan(0);
  expect(damages.every(({ cellIndex }) => cellIndex !== null)).toBe(true);
  expect(directory.fences).toEqual([]);
  // What is damaged can still be written over and deleted.
  await store.put(smallBlob(small, 9_000, 9_000), soon());
  expect(await store.verify(small, soon())).toEqual([]);
  expect(await store.delete([large], soon())).toBe(1);
});

test("corruptDisk() finds nothing to spoil on an empty disk", async () => {
  await using directory = await makeBlobDirectory();
  await directory.open();
  expect(await corruptDisk(createSeeded(1), directory.path, 5)).toBe(0);
});
