import { readFile, stat, truncate, writeFile } from "node:fs/promises";
import { closeSync, openSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { KIB, MIB } from "../../../src/lib/bytes.ts";
import type { Clock } from "../../../src/lib/clock.ts";
import { systemClock } from "../../../src/lib/clock.ts";
import type { LmdbEnvironment } from "../../../src/lib/lmdb-environment.ts";
import type { LmdbHeader } from "../../../src/lib/lmdb-header.ts";
import { readLmdbHeader } from "../../../src/lib/lmdb-header.ts";
import type { LmdbDirectory } from "../../support/lmdb-directory.ts";
import { makeLmdbDirectory } from "../../support/lmdb-directory.ts";

const KEY = Buffer.from("key");

describe("openLmdbEnvironment()", () => {
  test("refuses a file that is shorter than its header says, and leaves it as it is", async () => {
    await using directory = await makeLmdbDirectory();
    await putKilobytes(await directory.open(), 400);
    await directory.close();
    const header = headerOf(directory);
    const neededBytes = header.pageCount * header.pageBytes;
    expect(neededBytes).toBeGreaterThan(400 * KIB);

    await truncate(directory.dataFile, neededBytes - 1);
    const before = await readFile(directory.dataFile);
    await expect(directory.open()).rejects.toMatchObject({
      code: "storage_error",
      message: expect.stringContaining(`${neededBytes - 1} bytes`),
    });
    expect(Buffer.compare(await readFile(directory.dataFile), before)).toBe(0);
  });

  test("opens a file that ends just where its header says, and one with room behind that", async () => {
    await using directory = await makeLmdbDirectory();
    await putKilobytes(await directory.open(), 400);
    await directory.close();
    const header = headerOf(directory);
    for (const extraBytes of [0, 10 * MIB]) {
      await truncate(directory.dataFile, header.pageCount * header.pageBytes + extraBytes);
      const environment = await directory.open();
      expect(environment.read((db) => db.getBinary(keyOf(399)))).toHaveLength(KIB);
      await directory.close();
    }
  });

  test.each([
    ["empty", Buffer.alloc(0)],
    ["zeroed", Buffer.alloc(64 * KIB)],
    ["foreign", Buffer.alloc(64 * KIB, "not a database")],
    ["cut within its header", null],
  ])("refuses a file that is %s", async (_, contents) => {
    await using directory = await makeLmdbDirectory();
    await putKilobytes(await directory.open(), 1);
    await directory.close();
    await writeFile(directory.dataFile, contents ?? (await readFile(directory.dataFile)).subarray(0, 4_100));
    await expect(directory.open()).rejects.toMatchObject({ code: "storage_error" });
  });

  test("takes a directory with a dot in its name", async () => {
    await using directory = await makeLmdbDirectory();
    const dotted = `${directory.path}.v1`;
    const environment = await directory.openAt(dotted);
    await environment.write({ entryCount: 1, valueBytes: 1 }, (db) => void db.put(KEY, Buffer.from("1")));
    expect((await stat(`${dotted}/data.mdb`)).isFile()).toBe(true);
  });
});

describe("LmdbEnvironment", () => {
  test("keeps the file longer than its header says, also beyond several extensions and the mapped size", async () => {
    await using directory = await makeLmdbDirectory({ growthBytes: 1 * MIB, mapBytes: 1 * MIB });
    const environment = await directory.open();
    for (let round = 0; round < 12; round += 1) {
      await Promise.all([...Array(8).keys()].map((n) => putKilobytes(environment, 100, (round * 8 + n) * 100)));
      const header = headerOf(directory);
      const { size } = await stat(directory.dataFile);
      expect(size % MIB).toBe(0);
      expect(size).toBeGreaterThanOrEqual(header.pageCount * header.pageBytes);
    }
    expect((await stat(directory.dataFile)).size).toBeGreaterThan(9 * MIB);
    expect(environment.read((db) => db.getBinary(keyOf(9_599)))).toHaveLength(KIB);
  });

  test("write() resolves when what it put can be read", async () => {
    await using directory = await makeLmdbDirectory();
    const environment = await directory.open();
    // Reading first, so that a cached read transaction would show.
    for (let n = 0; n < 50; n += 1) {
      environment.read((db) => db.getBinary(KEY));
      await environment.write({ entryCount: 1, valueBytes: 9 }, (db) => void db.put(KEY, Buffer.from(`${n}`)));
      expect(environment.read((db) => db.getBinary(KEY))?.toString()).toBe(`${n}`);
    }
  });

  test("write() refuses while the disk is nearly full, which writes nothing and fences nothing", async () => {
    const clock = { ...systemClock, monotonicMs: () => nowMs };
    let nowMs = 0;
    const limits = { diskFreeBytesMin: Number.MAX_SAFE_INTEGER };
    await using directory = await makeLmdbDirectory({ clock, ...limits });
    const environment = await directory.open();
    const put = () => environment.write({ entryCount: 1, valueBytes: 1 }, (db) => void db.put(KEY, Buffer.from("1")));
    await expect(put()).rejects.toMatchObject({ reason: "refused" });
    expect(environment.read((db) => db.getBinary(KEY))).toBeUndefined();
    nowMs += 10_000;
    await expect(put()).rejects.toMatchObject({ reason: "refused" });
    expect(directory.fences).toEqual([]);
  });

  test("a write that stalls fences the environment once: no more reads or writes", async () => {
    await using directory = await makeLmdbDirectory({ clock: impatientClock });
    const environment = await directory.open();
    const put = () => environment.write({ entryCount: 1, valueBytes: 1 }, (db) => void db.put(KEY, Buffer.from("1")));
    const writes = [put(), put()];
    for (const write of writes) await expect(write).rejects.toMatchObject({ reason: "fenced" });
    await expect(put()).rejects.toMatchObject({ reason: "fenced" });
    expect(() => environment.read((db) => db.getBinary(KEY))).toThrow(/no more reads or writes/);
    expect(directory.fences).toHaveLength(1);
  });

  test("close() waits for writes under way", async () => {
    await using directory = await makeLmdbDirectory();
    const environment = await directory.open();
    const writing = putKilobytes(environment, 100);
    await environment.close();
    await writing;
    const reopened = await directory.open();
    expect(reopened.read((db) => db.getBinary(keyOf(99)))).toHaveLength(KIB);
  });
});

/** Every wait is over before it begins. */
const impatientClock: Clock = {
  ...systemClock,
  startTimer(_, action) {
    action();
    return { cancel() {} };
  },
};

function keyOf(n: number): Buffer {
  return Buffer.from(`key-${n}`);
}

async function putKilobytes(environment: LmdbEnvironment, count: number, from = 0): Promise<void> {
  await environment.write({ entryCount: count, valueBytes: count * KIB }, (db) => {
    for (let n = from; n < from + count; n += 1) void db.put(keyOf(n), Buffer.alloc(KIB, n));
  });
}

function headerOf(directory: LmdbDirectory): LmdbHeader {
  const fd = openSync(directory.dataFile, "r");
  try {
    return readLmdbHeader(fd) as LmdbHeader;
  } finally {
    closeSync(fd);
  }
}
