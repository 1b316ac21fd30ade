import { copyFile, mkdtemp, open, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { readVolumeHeader } from "../../../src/blob/volume-header.ts";
import { MIB } from "../../../src/lib/bytes.ts";
import { makeBlobDirectory } from "../../support/blob-directory.ts";
import { nextBlobId, writeLarge } from "../../support/blobs.ts";

let dir: string;
let sound: string;
let copies = 0;

/** A copy of a real volume with about 3 MiB in it. */
async function copyVolume(): Promise<string> {
  const path = join(dir, `copy-${(copies += 1)}.mdb`);
  await copyFile(sound, path);
  return path;
}

async function overwrite(path: string, at: number, bytes: Uint8Array): Promise<void> {
  const file = await open(path, "r+");
  await file.write(bytes, 0, bytes.length, at);
  await file.close();
}

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "kintsugi-header-"));
  sound = join(dir, "sound.mdb");
  await using directory = await makeBlobDirectory();
  const store = await directory.open();
  await writeLarge(store, nextBlobId(), [1_000_000, 1_000_000, 1_000_000]);
  await directory.close();
  await copyFile((await directory.dataFiles())[0] as string, sound);
});

afterAll(() => rm(dir, { recursive: true, force: true }));

test("readVolumeHeader() finds a closed volume sound and tells its size", async () => {
  expect(await readVolumeHeader(sound)).toEqual({ verdict: "sound", mapBytes: 16 * MIB, fileBytes: 16 * MIB });
});

test("readVolumeHeader() draws the line at the last page in use", async () => {
  const path = await copyVolume();
  let [usable, cut] = [16 * MIB, 0];
  while (usable - cut > 4_096) {
    const middle = Math.floor((usable + cut) / 2 / 4_096) * 4_096;
    await truncate(path, middle);
    if ((await readVolumeHeader(path)).verdict === "sound") usable = middle;
    else cut = middle;
    await copyFile(sound, path);
  }
  // Everything was written once, so the file ends with the cells' pages and those of the tree behind them.
  expect(usable).toBeGreaterThan(3_000_000);
  expect(usable).toBeLessThan(3_500_000);
  await truncate(path, usable - 1);
  expect(await readVolumeHeader(path)).toMatchObject({ verdict: "truncated" });
});

test.each([
  ["no file", (path: string) => rm(path), "missing"],
  ["an empty file", (path: string) => truncate(path, 0), "empty"],
  ["half a header", (path: string) => truncate(path, 60), "truncated"],
  ["one page", (path: string) => truncate(path, 4_096), "truncated"],
  ["text", (path: string) => writeFile(path, "x".repeat(100_000)), "foreign"],
  ["a wrong magic number", (path: string) => overwrite(path, 24, Buffer.from("0000")), "foreign"],
  [
    "a wrong magic number on the second page",
    (path: string) => overwrite(path, 4_096 + 24, Buffer.from("0")),
    "foreign",
  ],
  ["another format", (path: string) => overwrite(path, 28, Buffer.from([3])), "foreign"],
  ["an impossible page size", (path: string) => overwrite(path, 48, Buffer.from([1, 0, 0, 0])), "foreign"],
  ["a last page behind the map", (path: string) => overwrite(path, 144, Buffer.from([0, 0, 0xff])), "foreign"],
])("readVolumeHeader() answers for %s", async (_what, spoil, verdict) => {
  const path = await copyVolume();
  await spoil(path);
  expect(await readVolumeHeader(path)).toMatchObject({ verdict });
});
