/**
 * The kill test: a node goes and comes back, in every way a node can, and nobody lends a hand. Writes go on by quorum, the
 * lag of redundancy rises and falls to nothing by itself, and in the end every blob is where its record says, verified.
 */
import { cp, mkdtemp, readdir, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { StoreClient } from "../support/black-box/client.ts";
import { openInspector, type ClusterInspector } from "../support/cluster-inspector.ts";
import { until, untilHealth } from "../support/cluster-load.ts";
import { startCluster, type ClusterMember, type LocalCluster } from "../support/cluster.ts";
import { mountSmallDisk, type SmallDisk } from "../support/disk/small-disk.ts";
import { noise } from "../support/store.ts";
import { fakeTimeProblem } from "../support/fake-time.ts";

const KIB = 1_024;
const MIB = 1_024 * KIB;
const TIMEOUT_MS = 180_000;
/** A node is heard of no more after some seconds, and its return is looked into at once. */
const LAG_RISES_MS = 30_000;
const LAG_FALLS_MS = 90_000;
const DISK_BYTES = 512 * MIB;
const DISK_FREE_MIN = 160 * MIB;

describe("a node that goes and returns", () => {
  const bodies = new Map<string, Uint8Array>();
  let disk: SmallDisk | string;
  let dir: string;
  let cluster: LocalCluster;
  let inspector: ClusterInspector;
  let client: StoreClient;

  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), "kintsugi-kill-"));
    disk = await mountSmallDisk(DISK_BYTES);
    const withFakeTime = fakeTimeProblem() === null;
    cluster = await startCluster({
      ...{ dir, gateways: 2, nodes: 6, healers: 2, nats: 3 },
      settings: { storage: { volumeBytesMax: "64MiB", freeBytesMin: String(DISK_FREE_MIN) } },
      env: { "node-4": { DONT_FAKE_MONOTONIC: "1" } },
      prefixOf: (name) => (name === "node-4" && withFakeTime ? ["faketime", "-f", "+1h"] : []),
    });
    if (typeof disk !== "string") await moveOnto(disk, cluster.member("node-3"));
    inspector = await openInspector(cluster);
    client = new StoreClient(cluster.url, 8);
    await write("before", 12);
  }, TIMEOUT_MS);

  afterAll(async () => {
    client?.[Symbol.dispose]();
    await inspector?.[Symbol.asyncDispose]();
    await cluster?.[Symbol.asyncDispose]();
    if (typeof disk === "object") await disk[Symbol.asyncDispose]();
    await rm(dir, { recursive: true, force: true });
  }, TIMEOUT_MS);

  test(
    "that was killed is brought up to date",
    async () => {
      const node = cluster.member("node-1");
      await node.kill9();
      await writeWhileAway("killed", node);
      await node.restart();
      await expectMended();
    },
    TIMEOUT_MS,
  );

  test(
    "that was only paused is brought up to date",
    async () => {
      const node = cluster.member("node-2");
      node.pause();
      try {
        await writeWhileAway("paused", node);
      } finally {
        node.resume();
      }
      await expectMended();
    },
    TIMEOUT_MS,
  );

  test(
    "without its data has all of it again",
    async () => {
      const node = cluster.member("node-5");
      await node.kill9();
      await wipe(node);
      await writeWhileAway("wiped", node);
      await node.restart();
      await expectMended();
      expect(await inspector.countBlobs("node-5")).toBeGreaterThan(0);
    },
    TIMEOUT_MS,
  );

  test(
    "whose disk was full takes its share when it has space again",
    async (context) => {
      if (typeof disk === "string") return context.skip(disk);
      await disk.leaveFree(DISK_FREE_MIN / 2);
      await until("node-3 to be known as full", LAG_RISES_MS, async () => (await stateOf("node-3")) === "full");
      await write("full", 6);
      await until("the lag to rise", LAG_RISES_MS, async () => (await readLag()) > 0);
      await disk.leaveFree(Number.MAX_SAFE_INTEGER);
      await expectMended();
    },
    TIMEOUT_MS,
  );

  test(
    "whose clock is an hour ahead is brought up to date like any other",
    async (context) => {
      const problem = fakeTimeProblem();
      if (problem !== null) return context.skip(problem);
      const node = cluster.member("node-4");
      await node.kill9();
      await wipe(node);
      await writeWhileAway("an hour ahead", node);
      await node.restart();
      await expectMended();
    },
    TIMEOUT_MS,
  );

  /** Stores objects of every strategy, each acknowledged. */
  async function write(prefix: string, count: number): Promise<void> {
    const strategies = ["ec", "replication", "field_hybrid", "inline"] as const;
    for (let number = 0; number < count; number += 1) {
      const strategy = strategies[number % strategies.length] as (typeof strategies)[number];
      const key = `${prefix.replaceAll(" ", "-")}/${strategy}-${number}`;
      const body = bodyFor(strategy, bodies.size + 1);
      const answer = await client.put(`/objects/${key}?strategy=${strategy}`, body);
      expect([200, 201], `${key}: ${answer.status} ${answer.body.toString().slice(0, 200)}`).toContain(answer.status);
      bodies.set(key, body);
    }
  }

  async function writeWhileAway(prefix: string, node: ClusterMember): Promise<void> {
    await write(prefix, 8);
    await until(`the lag to rise without ${node.name}`, LAG_RISES_MS, async () => (await readLag()) > 0);
    await write(`${prefix} later`, 4);
    await expectReadable();
  }

  async function expectMended(): Promise<void> {
    await untilHealth(cluster, "ok");
    await until("the lag to fall to nothing", LAG_FALLS_MS, async () => (await readLag()) === 0);
    expect(await inspector.dirtyKeys()).toEqual([]);
    expect(await inspector.missing()).toEqual([]);
    expect(await inspector.damaged()).toEqual([]);
    await expectReadable();
  }

  async function expectReadable(): Promise<void> {
    for (const [key, body] of bodies) {
      const answer = await client.get(`/objects/${key}`);
      expect(answer.status, key).toBe(200);
      expect(answer.body.equals(body), key).toBe(true);
    }
  }

  async function readLag(): Promise<number> {
    const text = (await client.get("/metrics")).body.toString();
    const line = /^replication_lag(?:\{[^}]*\})? (\S+)$/m.exec(text);
    // Nobody knows while no healer leads.
    return line === null ? Number.NaN : Number(line[1]);
  }

  async function stateOf(name: string): Promise<string | undefined> {
    const health = JSON.parse((await client.get("/cluster/health")).body.toString()) as {
      nodes: { name: string; state: string }[];
    };
    return health.nodes.find((node) => node.name === name)?.state;
  }
});

function bodyFor(strategy: string, seed: number): Uint8Array {
  switch (strategy) {
    case "inline":
      return noise(300, seed);
    case "replication":
      return noise(20 * KIB + seed, seed);
    case "field_hybrid":
      return Buffer.from(
        `{"device_id":"d-${seed}", "battery_level": ${seed}.0, "pad":"${Buffer.from(noise(100 * KIB, seed)).toString("hex")}"}`,
      );
    default:
      return noise(3 * MIB + seed, seed);
  }
}

async function moveOnto(disk: SmallDisk, node: ClusterMember): Promise<void> {
  await node.stop();
  const moved = join(disk.path, "node");
  await cp(node.dataDir, moved, { recursive: true });
  await rm(node.dataDir, { recursive: true });
  await symlink(moved, node.dataDir);
  await node.restart();
}

async function wipe(node: ClusterMember): Promise<void> {
  for (const name of await readdir(node.dataDir)) await rm(join(node.dataDir, name), { recursive: true });
}
