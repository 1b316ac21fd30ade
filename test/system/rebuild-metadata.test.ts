/** Metadata that is lost is made anew from the nodes; until then nobody goes on as if nothing had been stored. */
import { execFile } from "node:child_process";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, test } from "vitest";
import { StoreClient } from "../support/black-box/client.ts";
import { temporaryDirectory } from "../support/black-box/temporary-directory.ts";
import { untilHealth } from "../support/cluster-load.ts";
import { startCluster, type LocalCluster } from "../support/cluster.ts";
import { seeObjects, writeObjects, type Sight } from "../support/objects-to-rebuild.ts";
import { cleanEnvironment, commandOf, startServe } from "../support/serve.ts";

const MAIN = join(import.meta.dirname, "../../src/main.ts");
const KEEP_MS = 1_000;
const ENV = { KINTSUGI_HEALING_KEEP_RECORDS_MS: String(KEEP_MS), KINTSUGI_CACHE_BYTES_MAX: "0" };
const TRACKS_MS_MAX = 60_000;

type Summary = { objects: number; tombstones: number; dirty: number; unreadableCount: number; unidentified: number };

async function rebuild(args: readonly string[]) {
  const [command, ...prefix] = commandOf("node");
  const run = promisify(execFile)(command, [...prefix, MAIN, "rebuild-metadata", "--json", ...args], {
    env: cleanEnvironment(),
    cwd: tmpdir(),
  });
  return await run.then(
    ({ stdout }) => ({ code: 0, summary: JSON.parse(stdout) as Summary, stderr: "" }),
    ({ code, stderr }: { code: number; stderr: string }) => ({ code, summary: null, stderr }),
  );
}

/** Waits until nodes keep what metadata alone knows. */
async function untilKept(client: StoreClient): Promise<void> {
  const figures = async () => {
    const { tracks } = JSON.parse((await client.get("/cluster/healing")).body.toString()) as {
      tracks: { track: string; figures: Record<string, number>; stepCount: number }[];
    };
    return tracks.find(({ track }) => track === "keep");
  };
  const steps = (await figures())?.stepCount ?? 0;
  const isDone = async () => {
    const now = await figures();
    return now !== undefined && now.stepCount >= steps + 3 && now.figures["recordsWaiting"] === 0;
  };
  await expect.poll(isDone, { timeout: TRACKS_MS_MAX, interval: 100 }).toBe(true);
}

describe("the metadata of a store in one process", () => {
  test("is made anew, again and again: every object, version and tag, and nothing that was deleted", async () => {
    await using directory = await temporaryDirectory();
    const dataDir = join(directory.path, "data");
    let before: Sight = { keys: [], objects: {} };
    for (const round of ["first", "second"]) {
      {
        await using store = await startServe({ dataDir, env: ENV });
        using client = new StoreClient(store.url);
        expect(await seeObjects(client)).toEqual(before);
        await writeObjects(client, round);
        await untilKept(client);
        before = await seeObjects(client);
        await store.stop();
      }
      await rm(join(dataDir, "metadata"), { recursive: true });
      for (let tries = 0; tries < 2; tries += 1) {
        await expect(startServe({ dataDir, env: ENV })).rejects.toThrow(/metadata_lost.*rebuild-metadata/s);
      }
      const tried = await rebuild(["--data-dir", dataDir, "--dry-run"]);
      expect(tried.summary).toMatchObject({ objects: before.keys.length, unreadableCount: 0, unidentified: 0 });
      const done = await rebuild(["--data-dir", dataDir]);
      expect([done.code, done.stderr]).toEqual([0, ""]);
      expect(done.summary).toEqual(tried.summary);
      expect(done.summary?.tombstones).toBeGreaterThan(0);
    }
    await using store = await startServe({ dataDir, env: ENV });
    using client = new StoreClient(store.url);
    expect(await seeObjects(client)).toEqual(before);
    // It goes on as ever: what is there is written over, and what was deleted can still be brought back.
    expect((await client.put("/objects/first/shards", "new")).status).toBe(200);
    expect((await client.send("POST", "/objects/second/deleted-ec?undelete")).status).toBe(201);
    expect((await client.send("DELETE", "/objects/second/large")).status).toBe(204);
  }, 180_000);

  test("is not made anew where it is there, unless that is wanted, nor while the store runs", async () => {
    await using directory = await temporaryDirectory();
    const dataDir = join(directory.path, "data");
    await using store = await startServe({ dataDir, env: ENV });
    using client = new StoreClient(store.url);
    await writeObjects(client, "one");
    await untilKept(client);
    const before = await seeObjects(client);
    expect(await rebuild(["--data-dir", dataDir])).toMatchObject({
      code: 1,
      stderr: expect.stringContaining("data_dir_locked"),
    });
    await store.stop();
    expect(await rebuild(["--data-dir", dataDir])).toMatchObject({
      code: 4,
      stderr: expect.stringContaining("--force"),
    });
    expect(await rebuild(["--data-dir", dataDir, "--force"])).toMatchObject({ code: 0 });
    expect((await readdir(dataDir)).filter((name) => name.startsWith("metadata.replaced"))).toHaveLength(1);
    await using again = await startServe({ dataDir, env: ENV });
    using other = new StoreClient(again.url);
    expect(await seeObjects(other)).toEqual(before);
  }, 120_000);

  test("of another store is refused", async () => {
    await using directory = await temporaryDirectory();
    const dirs = ["a", "b"].map((name) => join(directory.path, name));
    for (const dataDir of dirs) {
      await using store = await startServe({ dataDir });
      using client = new StoreClient(store.url);
      await client.put("/objects/k", dataDir);
      await store.stop();
    }
    const [a, b] = dirs as [string, string];
    await rm(join(a, "metadata"), { recursive: true });
    await promisify(execFile)("cp", ["-r", join(b, "metadata"), join(a, "metadata")]);
    await expect(startServe({ dataDir: a })).rejects.toThrow(/metadata_lost/);
  });
});

test("the metadata of a cluster whose nats-servers lost their stores is made anew, twice", async () => {
  const settings = { healing: { keepRecordsMs: KEEP_MS }, cluster: { bucketDefaults: { k: 2, m: 1 } } };
  await using cluster = await startCluster({ gateways: 1, nodes: 3, healers: 1, nats: 1, settings });
  const scratch = await mkdtemp(join(tmpdir(), "kintsugi-rebuild-"));
  let before: Sight = { keys: [], objects: {} };
  try {
    for (const round of ["first", "second"]) {
      using client = new StoreClient(cluster.url);
      expect(await seeObjects(client)).toEqual(before);
      await writeObjects(client, round);
      await untilKept(client);
      before = await seeObjects(client);
      await wipeJetStream(cluster);
      const [gateway, healer] = [cluster.gateways[0], cluster.healers[0]];
      // Whoever ran on is told too, within seconds; none of them serves an empty store.
      await Promise.all([gateway?.exited, healer?.exited, ...cluster.nodes.map((node) => node.exited)]);
      expect(gateway?.logs()).toContain("metadata_lost");
      await expect(gateway?.restart()).rejects.toThrow();
      const working = rebuild(["--config", cluster.configFile, "--data-dir", scratch, "--cluster", "--nodes", "3"]);
      await restartUntilReady(cluster);
      const done = await working;
      expect([done.code, done.stderr]).toEqual([0, ""]);
      expect(done.summary).toMatchObject({ objects: before.keys.length, unreadableCount: 0, unidentified: 0 });
      await cluster.startAll();
      await untilHealth(cluster, "ok");
    }
    using client = new StoreClient(cluster.url);
    expect(await seeObjects(client)).toEqual(before);
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}, 300_000);

async function wipeJetStream(cluster: LocalCluster): Promise<void> {
  for (const server of cluster.nats) {
    await server.kill9();
    await rm(server.storeDir, { recursive: true });
    await server.restart();
  }
}

/** As a supervisor does with nodes that refuse to start. */
async function restartUntilReady(cluster: LocalCluster): Promise<void> {
  for (const node of cluster.nodes) {
    while (!node.isRunning) await node.restart().catch(() => {});
  }
}
