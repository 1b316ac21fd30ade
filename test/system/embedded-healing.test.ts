/** Healing of a store in one process. */
import { join } from "node:path";
import { expect, test } from "vitest";
import type { HealingJob } from "../../src/domain/healing.ts";
import type { NodeName } from "../../src/domain/ids.ts";
import { blobSetsOf } from "../../src/domain/manifest.ts";
import { flipPayloadBytes } from "../support/flip-payload-bytes.ts";
import { BUCKET, keyOf, noise, openTestStore } from "../support/store.ts";

const POLL = { timeout: 30_000, interval: 50 };
const node2 = "node-2" as NodeName;

test("a node drains while the store runs, and drains on after a restart", async () => {
  await using store = await openTestStore();
  const bytes = noise(200_000, 3);
  for (let n = 0; n < 5; n += 1) await store.put(`k${n}`, bytes, { strategy: "replication" });
  await store.store.desk.drain(node2, true);
  const left = async () =>
    (await store.store.desk.status()).tracks.find(({ track }) => track === "balance")?.figures[`left.${node2}`];
  await expect.poll(left, POLL).toBe(0);
  await store.store.close();
  await store.reopen();
  expect(store.store.cluster.nodes().find(({ name }) => name === node2)?.state).toBe("draining");
  for (let n = 0; n < 5; n += 1) expect((await store.get(`k${n}`))?.equals(bytes)).toBe(true);
  await store.store.desk.drain(node2, false);
  expect(store.store.cluster.nodes().find(({ name }) => name === node2)?.state).toBe("live");
});

test("a node that comes into service fills up while clients write, and a run asked for ends", async () => {
  await using store = await openTestStore({ flags: { "healing.balanceBytesMin": "0B" } });
  await store.store.desk.drain(node2, true);
  const bodies = new Map<string, Buffer>();
  const write = async (from: number, count: number) => {
    for (let n = from; n < from + count; n += 1) {
      const strategy = n % 2 === 0 ? "replication" : "ec";
      bodies.set(`k${n}`, noise(100_000, n + 1));
      await store.put(`k${n}`, bodies.get(`k${n}`) as Buffer, { strategy, consistency: n % 2 === 0 ? null : "quorum" });
    }
  };
  await write(0, 60);
  /** As records name them: what has moved is freed later. */
  const bytesOn = async () => {
    const bytes = new Map([...store.store.deps.nodes.keys()].map((name) => [name, 0]));
    const records = await store.store.deps.metadata.scan(null, 1_000, { atMs: Number.MAX_SAFE_INTEGER });
    for (const { sizeBytes, redundancy, nodes } of records.flatMap(({ record }) => blobSetsOf(record.manifest))) {
      const each = sizeBytes / (redundancy.scheme === "ec" ? redundancy.k : 1);
      for (const name of nodes) if (name !== null) bytes.set(name, (bytes.get(name) ?? 0) + each);
    }
    return [...bytes.values()];
  };
  expect((await bytesOn())[1]).toBe(0);
  await store.store.desk.drain(node2, false);
  await write(60, 20);
  const job = await store.store.desk.start("balance", null);
  await expect.poll(async () => (await store.store.desk.job(job.id)).state, { ...POLL, timeout: 100_000 }).toBe("done");
  const bytes = await bytesOn();
  const share = bytes.reduce((sum, each) => sum + each, 0) / bytes.length;
  expect(Math.max(...bytes)).toBeLessThan(share * 1.25);
  expect(bytes[1]).toBeGreaterThan(share * 0.7);
  for (const [key, body] of bodies) expect((await store.get(key))?.equals(body), key).toBe(true);
}, 120_000);

test("objects that are read often get more copies, and lose them again", async () => {
  await using store = await openTestStore({ flags: { "healing.heatReadsMin": "10", "healing.heatCoolMs": "1s" } });
  const bytes = noise(200_000, 4);
  await store.put("replicated", bytes, { strategy: "replication" });
  await store.put("coded", bytes, { strategy: "ec" });
  await store.put("cold", bytes, { strategy: "replication" });
  const copies = async (key: string) => {
    const stored = await store.store.deps.metadata.get(BUCKET, keyOf(key), { atMs: Number.MAX_SAFE_INTEGER });
    return stored === null ? [] : blobSetsOf(stored.record.manifest).map(({ nodes }) => new Set(nodes).size);
  };
  const readUntil = async (key: string, wanted: number[]) => {
    const read = async () => {
      for (let n = 0; n < 20; n += 1) expect((await store.get(key))?.equals(bytes)).toBe(true);
      return await copies(key);
    };
    await expect.poll(read, POLL).toEqual(wanted);
  };
  await Promise.all([readUntil("replicated", [5]), readUntil("coded", [6, 2])]);
  expect(await copies("cold")).toEqual([3]);
  // Whoever comes to lead finds what is read no more.
  await store.store.close();
  await store.reopen();
  await expect.poll(() => copies("replicated"), POLL).toEqual([3]);
  await expect.poll(() => copies("coded"), POLL).toEqual([6]);
  expect((await store.get("coded"))?.equals(bytes)).toBe(true);
}, 120_000);

test("bit rot is found by a scrub on demand and mended", async () => {
  await using store = await openTestStore();
  const bytes = noise(400_000, 5);
  await store.put("k", bytes, { strategy: "ec" });
  await store.store.close();
  await flipPayloadBytes(join(store.dir, "nodes", node2));
  await store.reopen();
  const ended = async ({ id }: HealingJob) => {
    await expect.poll(async () => (await store.store.desk.job(id)).state, POLL).toBe("done");
    return (await store.store.desk.job(id)).result;
  };
  expect((await ended(await store.store.desk.start("scrub", null)))["blobsBad"]).toBeGreaterThan(0);
  const recovered = await ended(await store.store.desk.start("recover_node", node2));
  expect(recovered).toMatchObject({ damaged: 0, lacking: 0 });
  expect((await store.get("k"))?.equals(bytes)).toBe(true);
});
