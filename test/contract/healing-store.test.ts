import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { openFileHealingStore } from "../../src/desk/file-healing-store.ts";
import { createMemoryHealingStore } from "../support/leading.ts";
import { healingStoreContract } from "./healing-store.contract.ts";

async function openFiles() {
  const root = await mkdtemp(join(tmpdir(), "kintsugi-healing-"));
  const dir = join(root, "healing");
  const store = openFileHealingStore(dir);
  return {
    ...{ store, dir },
    async reopen() {
      await store.close();
      return openFileHealingStore(dir);
    },
    async [Symbol.asyncDispose]() {
      await store.close();
      await rm(root, { recursive: true, force: true });
    },
  };
}

describe("a healing store in files", () => {
  healingStoreContract(openFiles);

  it("says so when a newer program wrote them", async () => {
    await using opened = await openFiles();
    await opened.store.changeControls((controls) => controls);
    await writeFile(join(opened.dir, "controls"), Buffer.from([9, 0x80]));
    const again = await opened.reopen();
    await expect(again.readControls()).rejects.toMatchObject({ code: "format_unknown" });
  });

  it("survives what a crash left of the next state", async () => {
    await using opened = await openFiles();
    await opened.store.changeControls((controls) => ({
      ...controls,
      scrub: { paused: true, bytesPerSecond: 7, runs: 1 },
    }));
    await writeFile(join(opened.dir, "controls.new"), Buffer.from([1]));
    const again = await opened.reopen();
    expect((await again.readControls()).scrub?.bytesPerSecond).toBe(7);
    await again.changeControls((controls) => ({ ...controls, heat: { paused: true, bytesPerSecond: null, runs: 0 } }));
    expect(Object.keys(await again.readControls()).sort()).toEqual(["heat", "scrub"]);
  });
});

describe("a healing store in memory", () => {
  healingStoreContract(async () => {
    const store = createMemoryHealingStore();
    return { store, reopen: () => Promise.resolve(store), [Symbol.asyncDispose]: () => Promise.resolve() };
  });
});
