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

test("an object that is read often gets more copies", async () => {
  await using store = await openTestStore({ flags: { "healing.heatReadsMin": "10" } });
  const bytes = noise(200_000, 4);
  await store.put("hot", bytes, { strategy: "replication" });
  await store.put("cold", bytes, { strategy: "replication" });
  for (let n = 0; n < 20; n += 1) await store.get("hot");
  const copies = async (key: string) => {
    const stored = await store.store.deps.metadata.get(BUCKET, keyOf(key), { atMs: Number.MAX_SAFE_INTEGER });
    return stored === null ? [] : blobSetsOf(stored.record.manifest).map(({ nodes }) => new Set(nodes).size);
  };
  await expect.poll(() => copies("hot"), POLL).toEqual([5]);
  expect(await copies("cold")).toEqual([3]);
  expect((await store.get("hot"))?.equals(bytes)).toBe(true);
});

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
