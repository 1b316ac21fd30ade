/** A node that drains, one that never comes back, and one that comes back empty. */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import type { HealingStatus } from "../../src/domain/healing.ts";
import { startCluster } from "../support/cluster.ts";

const OBJECTS = 10;
const SETTINGS = { cluster: { bucketDefaults: { k: 2, m: 1 } }, healing: { rebuildAfterMs: "10s" } };
const POLL = { timeout: 60_000, interval: 200 };

test(
  "what a lost node held is made anew elsewhere, what a wiped node held is made anew on it",
  { timeout: 240_000 },
  async () => {
    await using cluster = await startCluster({ gateways: 1, nodes: 4, healers: 1, nats: 1, settings: SETTINGS });
    const body = (n: number) => Buffer.alloc(150_000, n + 1);
    for (let n = 0; n < OBJECTS; n += 1) {
      expect((await fetch(`${cluster.url}/objects/o${n}`, { method: "PUT", body: body(n) })).status).toBe(201);
    }
    const healing = async () => (await (await fetch(`${cluster.url}/cluster/healing`)).json()) as HealingStatus;
    const incidents = async (kind: string) => (await healing()).incidents.filter((one) => one.kind === kind);
    const placesOf = async (n: number) => {
      const info = (await (await fetch(`${cluster.url}/objects/o${n}?info`)).json()) as { placement: unknown };
      return JSON.stringify(info.placement);
    };
    const [lost, wiped] = cluster.nodes;

    const drained = cluster.nodes[3]?.name as string;
    expect((await fetch(`${cluster.url}/cluster/nodes/${drained}/drain`, { method: "POST" })).status).toBe(200);
    const left = async () =>
      (await healing()).tracks.find(({ track }) => track === "balance")?.figures[`left.${drained}`];
    await expect.poll(left, POLL).toBe(0);
    for (let n = 0; n < OBJECTS; n += 1) {
      expect(await placesOf(n)).not.toContain(`"${drained}"`);
      expect(Buffer.from(await (await fetch(`${cluster.url}/objects/o${n}`)).arrayBuffer()).equals(body(n))).toBe(true);
    }
    await fetch(`${cluster.url}/cluster/nodes/${drained}/undrain`, { method: "POST" });

    await lost?.kill9();
    await expect.poll(async () => (await incidents("node_lost"))[0]?.repairMs, POLL).toEqual(expect.any(Number));
    await expect.poll(async () => (await healing()).replicationLag, POLL).toBe(0);
    for (let n = 0; n < OBJECTS; n += 1) expect(await placesOf(n)).not.toContain(`"${lost?.name}"`);

    // One that holds nothing any more can be taken out for good; one that takes writes cannot.
    const remove = async (name = "") => {
      const answer = await fetch(`${cluster.url}/cluster/nodes/${name}`, { method: "DELETE" });
      return [answer.status, ((await answer.json()) as { code?: string }).code];
    };
    expect(await remove(wiped?.name)).toEqual([409, "node_in_use"]);
    expect(await remove(lost?.name)).toEqual([200, undefined]);
    const known = async () => {
      const health = await (await fetch(`${cluster.url}/cluster/health`)).json();
      return (health as { nodes: { name: string }[] }).nodes.map(({ name }) => name);
    };
    await expect.poll(known, POLL).not.toContain(lost?.name);
    await expect(lost?.restart()).rejects.toThrow(/node_removed/);

    await wiped?.kill9();
    await rm(join(wiped?.dataDir as string, "blobs"), { recursive: true });
    await wiped?.restart();
    await expect.poll(async () => (await incidents("node_returned"))[0]?.repairMs, POLL).toEqual(expect.any(Number));
    await expect.poll(async () => (await healing()).replicationLag, POLL).toBe(0);
    const [job] = (await healing()).jobs.filter(({ kind, node }) => kind === "recover_node" && node === wiped?.name);
    await expect.poll(async () => (await healing()).jobs.find(({ id }) => id === job?.id)?.state, POLL).toBe("done");
    expect(job?.result["lacking"]).toBe(0);

    // With two of three shards any object is whole: the wiped node's are there again, or some of these would fail.
    await cluster.nodes[2]?.kill9();
    for (let n = 0; n < OBJECTS; n += 1) {
      const read = Buffer.from(await (await fetch(`${cluster.url}/objects/o${n}`)).arrayBuffer());
      expect(read.equals(body(n)), `o${n}`).toBe(true);
    }
  },
);
