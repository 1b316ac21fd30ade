/** What a cluster mends by itself: rotten bytes that a reader met, a write that lacked a node, a wiped node whose healer keeps dying. */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { blobSetsOf } from "../../src/domain/manifest.ts";
import { corruptDisk } from "../faults/schedule/corrupt-disk.ts";
import { receiptOf, StoreClient } from "../support/black-box/client.ts";
import { openInspector, type ClusterInspector } from "../support/cluster-inspector.ts";
import { checkSettled, until } from "../support/cluster-load.ts";
import { startCluster, type ClusterMember, type LocalCluster } from "../support/cluster.ts";
import { createSeeded } from "../support/load/seeded.ts";
import { noise } from "../support/store.ts";

const TIMEOUT_MS = 240_000;
const MENDED_MS = 90_000;
const OBJECT_BYTES = 200_000;
const FLIPS = 12;
const OBJECTS_TO_REBUILD = 40;
const HEALER_DEATHS = 4;
/** About one object a second, so that every death of the healer meets work that is under way. */
const SLOW_BYTES_PER_SECOND = 400_000;
/** Every set has a blob on each node, so no other takes the place of one that is gone. */
const NODES = 4;
const SETTINGS = { cluster: { bucketDefaults: { k: 2, m: 2, replicas: NODES } }, storage: { volumeBytesMax: "64MiB" } };

describe("a cluster whose nodes all hold a part of everything", () => {
  const bodies = new Map<string, Buffer>();
  let cluster: LocalCluster;
  let inspector: ClusterInspector;
  let client: StoreClient;

  beforeAll(async () => {
    cluster = await startCluster({ gateways: 1, nodes: NODES, healers: 1, nats: 1, settings: SETTINGS });
    inspector = await openInspector(cluster);
    client = new StoreClient(cluster.url, 8);
  }, TIMEOUT_MS);

  afterAll(async () => {
    client?.[Symbol.dispose]();
    await inspector?.[Symbol.asyncDispose]();
    await cluster?.[Symbol.asyncDispose]();
  }, TIMEOUT_MS);

  test(
    "answers a read right that meets rotten bytes, and mends them where they are",
    async () => {
      await setTrack("scrub", { paused: true });
      await put("rotten/ec", "ec");
      await put("rotten/replication", "replication");
      const before = await inspector.records();
      // Shard 0 is content, which every read wants.
      const [coded] = before.flatMap(({ record }) => (record.key === "rotten/ec" ? blobSetsOf(record.manifest) : []));
      const node = cluster.member(coded?.nodes[0] as string);
      expect(await corruptDisk(createSeeded(4), join(node.dataDir, "blobs"), FLIPS)).toBe(FLIPS);
      const damaged = await inspector.damaged();
      expect(damaged).not.toEqual([]);
      expect(damaged.every((blob) => blob.includes(`@${node.name}: `))).toBe(true);

      await until("readers to have it mended", MENDED_MS, async () => {
        await expectReadable();
        return (await inspector.damaged()).length === 0;
      });
      // Neither moved nor committed again.
      expect(await inspector.records()).toEqual(before);
      expect(await inspector.missing()).toEqual([]);
      await setTrack("scrub", { paused: false });
    },
    TIMEOUT_MS,
  );

  test(
    "makes a write clean by itself that was dirty because a node was down",
    async () => {
      const [node, ...others] = cluster.nodes as [ClusterMember, ...ClusterMember[]];
      await node.kill9();
      const receipts = new Map<string, string>();
      for (const strategy of ["ec", "replication", "field_hybrid"]) {
        const { dirty, version } = await put(`dirty/${strategy}`, strategy);
        expect(dirty, strategy).toBe(true);
        receipts.set(`dirty/${strategy}`, version);
      }
      expect((await inspector.dirtyKeys()).sort()).toEqual([...receipts.keys()].sort());
      await node.restart();
      await expectWhole("dirty");
      const versions = (await inspector.records()).map(({ record }) => [
        record.key as string,
        record.version as string,
      ]);
      expect(Object.fromEntries(versions)).toMatchObject(Object.fromEntries(receipts));
      // With two gone no read does without what was added later.
      const gone = others.slice(0, 2);
      await Promise.all(gone.map((other) => other.kill9()));
      await expectReadable();
      await Promise.all(gone.map((other) => other.restart()));
      await expectWhole("back");
    },
    TIMEOUT_MS,
  );

  test(
    "ends whole when its healer is killed again and again while a wiped node is rebuilt",
    async () => {
      for (let number = 0; number < OBJECTS_TO_REBUILD; number += 1) await put(`rebuilt/${number}`, "ec");
      await expectWhole("before");
      const node = cluster.nodes[1] as ClusterMember;
      const healer = cluster.healers[0] as ClusterMember;
      await setTrack("repair", { bytesPerSecond: SLOW_BYTES_PER_SECOND });
      await node.kill9();
      await rm(join(node.dataDir, "blobs"), { recursive: true });
      await node.restart();
      let left = (await inspector.missing()).length;
      expect(left).toBeGreaterThanOrEqual(OBJECTS_TO_REBUILD);
      for (let deaths = 0; deaths < HEALER_DEATHS; deaths += 1) {
        await until("another blob to be rebuilt", MENDED_MS, async () => (await inspector.missing()).length < left);
        await healer.kill9();
        left = (await inspector.missing()).length;
        expect(left, "blobs that are still to be rebuilt").toBeGreaterThan(0);
        await expectReadable();
        await healer.restart();
      }
      await until("a leader", MENDED_MS, async () => (await setTrack("repair", { bytesPerSecond: null })) === 200);
      await expectWhole("rebuilt");
    },
    TIMEOUT_MS,
  );

  async function put(key: string, strategy: string) {
    const seed = bodies.size + 1;
    const bytes = noise(strategy === "field_hybrid" ? OBJECT_BYTES / 2 : OBJECT_BYTES, seed);
    const document = `{"battery_level":${seed},"pad":"${bytes.toString("hex")}"}`;
    const body = strategy === "field_hybrid" ? Buffer.from(document) : bytes;
    const answer = await client.put(`/objects/${key}?strategy=${strategy}`, body);
    bodies.set(key, body);
    return receiptOf(answer);
  }

  async function setTrack(track: string, control: object): Promise<number> {
    const headers = { "content-type": "application/json" };
    const body = JSON.stringify(control);
    return (await client.send("PATCH", `/cluster/healing/tracks/${track}`, { headers, body })).status;
  }

  /** Waits until nothing lacks, then sees that every blob is where its record says, has its bytes, and that there are no others. */
  async function expectWhole(context: string): Promise<void> {
    await until(`${context}: nothing to lack`, MENDED_MS, async () => {
      const [missing, dirty] = await Promise.all([inspector.missing(), inspector.dirtyKeys()]);
      return missing.length === 0 && dirty.length === 0;
    });
    await until(`${context}: the lag to be 0`, MENDED_MS, async () => {
      const healing = await client.get("/cluster/healing");
      return healing.status === 200 && JSON.parse(healing.body.toString()).replicationLag === 0;
    });
    await checkSettled(inspector, context);
    expect(await inspector.damaged(), context).toEqual([]);
    await expectReadable();
  }

  async function expectReadable(): Promise<void> {
    for (const [key, body] of bodies) {
      const answer = await client.get(`/objects/${key}`);
      expect(answer.status, key).toBe(200);
      expect(answer.body.equals(body), key).toBe(true);
    }
  }
});
