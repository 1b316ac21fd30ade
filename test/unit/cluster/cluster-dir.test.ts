import { mkdir, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { openClusterDir } from "../../../cluster/cluster-dir.ts";
import { temporaryDirectory } from "../../support/black-box/temporary-directory.ts";

const OPTIONS = { clean: false, natsServers: 3, nodes: 6 };

async function openAndRelease(dir: string, options = OPTIONS) {
  const folder = await openClusterDir(dir, options);
  await folder.release();
  return folder;
}

describe("openClusterDir()", () => {
  it("makes secrets once, each its own, that nobody else may read", async () => {
    await using temporary = await temporaryDirectory();
    const dir = join(temporary.path, "cluster");
    const first = await openAndRelease(dir);
    expect(first).toMatchObject({ isNew: true, nodesFounded: 6 });
    const again = await openAndRelease(dir, { ...OPTIONS, nodes: 3 });
    expect(again).toMatchObject({ isNew: false, nodesFounded: 6, natsPassword: first.natsPassword });
    const secret = await readFile(join(dir, "secrets/cluster-secret"), "utf8");
    expect(secret).toMatch(/^[0-9a-f]{64}\n$/);
    expect(first.natsPassword).toMatch(/^[0-9a-f]{64}$/);
    expect(secret.trim()).not.toBe(first.natsPassword);
    for (const name of ["cluster-secret", "nats-password"]) {
      expect((await stat(join(dir, "secrets", name))).mode & 0o777).toBe(0o600);
    }
  });

  it("forgets everything with clean, and makes new secrets", async () => {
    await using temporary = await temporaryDirectory();
    const dir = join(temporary.path, "cluster");
    const first = await openAndRelease(dir);
    await mkdir(join(dir, "node-1"));
    await writeFile(join(dir, "node-1/volume"), "blobs");
    const clean = await openAndRelease(dir, { clean: true, natsServers: 1, nodes: 3 });
    expect(clean).toMatchObject({ isNew: true, nodesFounded: 3 });
    expect(clean.natsPassword).not.toBe(first.natsPassword);
    expect(await readdir(dir)).not.toContain("node-1");
  });

  it("touches no folder that holds something else, with clean least of all", async () => {
    await using temporary = await temporaryDirectory();
    await writeFile(join(temporary.path, "thesis.txt"), "years of work");
    for (const clean of [false, true]) {
      await expect(openClusterDir(temporary.path, { ...OPTIONS, clean })).rejects.toThrow(/holds something else/);
    }
    expect(await readdir(temporary.path)).toEqual(["thesis.txt"]);
  });

  it("refuses another number of nats-servers: their streams would lose their copies", async () => {
    await using temporary = await temporaryDirectory();
    const dir = join(temporary.path, "cluster");
    await openAndRelease(dir);
    await expect(openClusterDir(dir, { ...OPTIONS, natsServers: 1 })).rejects.toThrow(/give --nats 3, or --clean/);
  });

  it("is one cluster's at a time", async () => {
    await using temporary = await temporaryDirectory();
    const dir = join(temporary.path, "cluster");
    const holder = await openClusterDir(dir, OPTIONS);
    await expect(openClusterDir(dir, { ...OPTIONS, clean: true })).rejects.toThrow(/Another cluster runs/);
    await holder.release();
    await openAndRelease(dir);
  });
});
