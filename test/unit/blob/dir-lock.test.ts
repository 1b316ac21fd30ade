import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { lockDataDir } from "../../../src/lib/dir-lock.ts";
import { startChild } from "../../support/child-process.ts";

const CHILD = join(import.meta.dirname, "../../support/lock-child.ts");

async function makeDir(...deeper: string[]): Promise<AsyncDisposable & { path: string }> {
  const parent = await mkdtemp(join(tmpdir(), "kintsugi-lock-"));
  return {
    path: join(parent, ...deeper),
    [Symbol.asyncDispose]: () => rm(parent, { recursive: true, force: true }),
  };
}

describe("lockDataDir()", () => {
  test("lockDataDir() makes the folder, refuses a second holder and is free after release", async () => {
    await using dir = await makeDir("data");
    const lock = await lockDataDir(dir.path);
    expect(lock).not.toBeNull();
    expect(await lockDataDir(dir.path)).toBeNull();
    await lock?.release();
    expect(await readdir(dir.path)).toEqual([]);
    const again = await lockDataDir(dir.path);
    expect(again).not.toBeNull();
    await again?.release();
  });

  test("lockDataDir() works in folders deeper than a socket's path may be", async () => {
    await using dir = await makeDir("x".repeat(100), "y".repeat(100));
    const lock = await lockDataDir(dir.path);
    expect(lock).not.toBeNull();
    expect(await lockDataDir(dir.path)).toBeNull();
    await lock?.release();
  });

  test("lockDataDir() refuses while another process holds the folder and not after its kill -9", async () => {
    await using dir = await makeDir("data");
    await using child = startChild(process.execPath, [CHILD, dir.path]);
    await child.linesReach(1);
    expect(child.lines).toEqual(["locked"]);
    expect(await lockDataDir(dir.path)).toBeNull();
    await child.kill();
    expect(await readdir(dir.path)).toHaveLength(1);
    const lock = await lockDataDir(dir.path);
    expect(lock).not.toBeNull();
    expect(await readdir(dir.path)).toHaveLength(1);
    await lock?.release();
  });

  test("lockDataDir() never gives the folder to two that ask at once", async () => {
    await using dir = await makeDir("data");
    for (let round = 0; round < 5; round += 1) {
      const locks = await Promise.all(Array.from({ length: 4 }, () => lockDataDir(dir.path)));
      const held = locks.filter((lock) => lock !== null);
      expect(held.length).toBeLessThanOrEqual(1);
      for (const lock of held) await lock.release();
    }
  });
});
