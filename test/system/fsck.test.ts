/** `kintsugi fsck` reads what a stopped store holds, tells what is damaged, and changes nothing. */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { readdir, readFile, rm, truncate } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { receiptOf, StoreClient } from "../support/black-box/client.ts";
import { temporaryDirectory } from "../support/black-box/temporary-directory.ts";
import { flipPayloadBytes } from "../support/flip-payload-bytes.ts";
import { cleanEnvironment, commandOf, startServe } from "../support/serve.ts";
import { noise } from "../support/store.ts";

const MAIN = join(import.meta.dirname, "../../src/main.ts");
const ENV = { KINTSUGI_STORAGE_VOLUME_BYTES_MAX: "16MiB" };

type Node = {
  node: string;
  blobs: number;
  damagedBlobs: number;
  unsound: { name: string }[];
  damages: { id: string }[];
};

async function fsck(dir: string): Promise<{ code: number; nodes: Node[]; stderr: string }> {
  const [command, ...prefix] = commandOf("node");
  const args = [...prefix, MAIN, "fsck", dir, "--json"];
  const { stdout, stderr, code } = await promisify(execFile)(command, args, {
    env: cleanEnvironment(),
    cwd: tmpdir(),
  }).then(
    (done) => ({ ...done, code: 0 }),
    (cause: { stdout: string; stderr: string; code: number }) => cause,
  );
  const lines = stdout.split("\n").filter((line) => line !== "");
  return { code, nodes: lines.map((line) => JSON.parse(line) as Node), stderr };
}

/** Of every file of the nodes but LMDB's lock files. */
async function digestOf(dataDir: string): Promise<string> {
  const hash = createHash("sha256");
  const names = (await readdir(join(dataDir, "nodes"), { recursive: true })).sort();
  for (const name of names.filter((each) => each.endsWith("data.mdb"))) {
    hash.update(name).update(await readFile(join(dataDir, "nodes", name)));
  }
  return hash.digest("hex");
}

test("fsck tells of flipped bytes, of a cut and of a missing volume, and changes nothing", async () => {
  await using directory = await temporaryDirectory();
  const dataDir = join(directory.path, "data");
  const volumeOf = (node: string) => join(dataDir, "nodes", node, "volumes", "000001", "data.mdb");
  {
    await using store = await startServe({ dataDir, env: ENV });
    using client = new StoreClient(store.url);
    for (let n = 0; n < 6; n += 1) {
      receiptOf(await client.put(`/objects/ec-${n}?strategy=ec&consistency=all`, noise(700_000, n + 1)));
      receiptOf(await client.put(`/objects/copy-${n}?strategy=replication&consistency=all`, noise(20_000, n + 1)));
    }
    const busy = await fsck(dataDir);
    expect([busy.code, busy.stderr]).toEqual([1, expect.stringContaining("data_dir_locked")]);
    await store.stop();
  }
  const before = await digestOf(dataDir);
  const whole = await fsck(dataDir);
  expect([whole.code, whole.nodes.map(({ node }) => node)]).toEqual([
    0,
    ["node-1", "node-2", "node-3", "node-4", "node-5", "node-6"],
  ]);
  expect(whole.nodes.reduce((sum, { blobs }) => sum + blobs, 0)).toBeGreaterThanOrEqual(6 * 6 + 6 * 3);
  expect(whole.nodes.every(({ damagedBlobs, unsound }) => damagedBlobs === 0 && unsound.length === 0)).toBe(true);

  await flipPayloadBytes(join(dataDir, "nodes", "node-2"));
  await truncate(volumeOf("node-3"), 20_000);
  await rm(volumeOf("node-4"));
  const spoilt = await digestOf(dataDir);
  const { code, nodes } = await fsck(dataDir);
  expect(code).toBe(5);
  const [ok, flipped, cut, missing] = nodes as [Node, Node, Node, Node];
  expect([ok.damagedBlobs, ok.unsound]).toEqual([0, []]);
  expect(flipped.damagedBlobs).toBe(flipped.blobs);
  expect(flipped.damages[0]?.id).toMatch(/^[0-9A-Z]{26}\.(body|record)\.\d+$/);
  expect(cut.unsound).toEqual([{ name: "000001", reason: expect.stringContaining("20000 bytes") as string }]);
  expect(missing.unsound).toEqual([{ name: "000001", reason: "there is no data file" }]);
  expect(await digestOf(dataDir)).toBe(spoilt);
  expect(spoilt).not.toBe(before);
  expect((await readdir(dataDir)).filter((name) => name.startsWith("lock-"))).toEqual([]);

  const nothing = await fsck(directory.path);
  expect([nothing.code, nothing.stderr]).toEqual([1, expect.stringContaining("parameter_invalid")]);
}, 60_000);
