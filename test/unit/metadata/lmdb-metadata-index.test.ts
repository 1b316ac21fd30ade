import { cp, mkdtemp, open as openFile, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { systemClock } from "../../../src/lib/clock.ts";
import { silentLogger } from "../../../src/lib/logger.ts";
import type { IndexEnvironment, IndexEnvironmentOptions } from "../../../src/metadata/lmdb-index-environment.ts";
import { openIndexEnvironment } from "../../../src/metadata/lmdb-index-environment.ts";
import { MetadataIndex } from "../../../src/metadata/lmdb-metadata-index.ts";
import { slotOf } from "../../../src/metadata/lmdb-metadata-layout.ts";
import { startChild } from "../../support/child-process.ts";
import { indexEntry } from "../../support/index-entries.ts";
import { BUCKET } from "../../support/sample-records.ts";

describe("MetadataIndex", () => {
  test("holds after kill -9 what it held, and the place up to which that reaches", async () => {
    await using directory = await makeDirectory();
    const child = startChild(process.execPath, [
      join(import.meta.dirname, "../../support/index-writer.ts"),
      directory.path,
    ]);
    await child.linesReach(20);
    await child.kill();
    const index = await directory.open();
    const applied = index.placeOf(0)?.applied ?? 0;
    expect(applied).toBeGreaterThanOrEqual(Number(child.lines.at(-1)));
    for (let sequence = applied; sequence > applied - 100; sequence -= 1) {
      const { slot, value } = indexEntry(sequence);
      expect(index.valueOf(slot as string)).toEqual(value);
    }
    const sizes = [...Array(100).keys()].map((n) => applied - n);
    const objectBytes = sizes.reduce((sum, size) => sum + size, 0);
    expect(index.summaries()).toEqual([{ bucket: BUCKET, objectCount: 100, objectBytes }]);
  });

  test("is used again after it was closed in order, also when the machine was started since", async () => {
    await using directory = await makeDirectory();
    await directory.fill();
    await directory.close();
    expect((await directory.open({ bootId: "another run" })).placeOf(0)).toEqual({
      applied: 3,
      createdAt: "yesterday",
    });
  });

  test.each<[string, Partial<IndexEnvironmentOptions>]>([
    ["the machine was started since", { bootId: "another run" }],
    ["nobody knows whether the machine was started since", { bootId: null }],
    ["it is of another cluster", { identity: "another" }],
  ])("begins anew when its process was killed and %s", async (_, options) => {
    await using directory = await makeDirectory();
    await directory.fill();
    await using copy = await directory.copyOfRunning();
    expect((await copy.open(options)).placeOf(0)).toBeNull();
    await using same = await directory.copyOfRunning();
    expect((await same.open()).placeOf(0)?.applied).toBe(3);
  });

  test("begins anew when its last process died before it had lived for a while", async () => {
    await using directory = await makeDirectory();
    await directory.fill({ startingMs: 60_000 });
    await using copy = await directory.copyOfRunning("starting");
    expect((await copy.open()).placeOf(0)).toBeNull();
  });

  test("refuses a record that does not match its checksum, and begins anew the next time", async () => {
    await using directory = await makeDirectory();
    await directory.fill();
    await using copy = await directory.copyOfRunning();
    await copy.replaceInFile("abc", "abd");
    const index = await copy.open();
    const slot = slotOf(BUCKET, "key-1");
    expect(() => index.valueOf(slot)).toThrowError(expect.objectContaining({ code: "metadata_unavailable" }));
    expect(() => index.apply(0, [indexEntry(4)])).toThrowError(
      expect.objectContaining({ code: "metadata_unavailable" }),
    );
    expect((await copy.open()).placeOf(0)).toBeNull();
  });

  test("has no room when the disk has less left than it may have", async () => {
    await using directory = await makeDirectory();
    expect((await directory.open({ diskFreeBytesMin: Number.MAX_SAFE_INTEGER })).hasRoom()).toBe(false);
  });
});

type Directory = AsyncDisposable & {
  readonly path: string;
  open(options?: Partial<IndexEnvironmentOptions>): Promise<MetadataIndex>;
  close(): Promise<void>;
  fill(options?: Partial<IndexEnvironmentOptions>): Promise<void>;
  /** What another process would find if the one that has it open were killed now. */
  copyOfRunning(state?: "starting" | "running"): Promise<Directory>;
  replaceInFile(from: string, to: string): Promise<void>;
};

async function makeDirectory(): Promise<Directory> {
  const path = await mkdtemp(join(tmpdir(), "kintsugi-index-"));
  let environment: IndexEnvironment | null = null;
  const close = async () => await environment?.close();
  const directory: Directory = {
    path,
    close,
    async open(options = {}) {
      await close();
      environment = await openIndexEnvironment({
        path,
        identity: "test",
        clock: systemClock,
        logger: silentLogger,
        startingMs: 0,
        ...options,
      });
      return new MetadataIndex(environment, systemClock);
    },
    async fill(options = {}) {
      const index = await directory.open(options);
      index.clear(["yesterday"]);
      for (const sequence of [1, 2, 3]) index.apply(0, [indexEntry(sequence)]);
    },
    async copyOfRunning(state = "running") {
      while (!(await readFile(join(path, "index.json"), "utf8")).includes(state)) await systemClock.sleep(1);
      const copy = await makeDirectory();
      await cp(join(path, "records"), join(copy.path, "records"), { recursive: true });
      await cp(join(path, "index.json"), join(copy.path, "index.json"));
      return copy;
    },
    async replaceInFile(from, to) {
      const file = await openFile(join(path, "records", "data.mdb"), "r+");
      const bytes = await file.readFile();
      for (let at = bytes.indexOf(from); at !== -1; at = bytes.indexOf(from, at + 1)) await file.write(to, at);
      await file.close();
    },
    async [Symbol.asyncDispose]() {
      await close();
      await rm(path, { recursive: true, force: true });
    },
  };
  return directory;
}
