/** Operators, jobs and leaders of healing on a real cluster. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { HealingJob, HealingStatus, TrackReport } from "../../src/domain/healing.ts";
import { LEDGER_ENTRIES_MAX } from "../../src/desk/healing-ledger.ts";
import type { LocalCluster } from "../support/cluster.ts";
import { startCluster } from "../support/cluster.ts";

const OBJECTS = 12;
const OBJECT_BYTES = 200_000;
const SETTINGS = { cluster: { bucketDefaults: { k: 2, m: 1 } } };
const POLL = { timeout: 60_000, interval: 100 };

let cluster: LocalCluster;
beforeAll(async () => {
  cluster = await startCluster({ gateways: 1, nodes: 3, healers: 2, nats: 1, settings: SETTINGS });
}, 120_000);
afterAll(() => cluster[Symbol.asyncDispose]());

async function ask(method: string, path: string, body?: unknown): Promise<{ status: number; answer: unknown }> {
  const response = await fetch(cluster.url + path, {
    method,
    ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { "content-type": "application/json" } }),
  });
  return { status: response.status, answer: await response.json().catch(() => null) };
}

const healing = async () => (await ask("GET", "/cluster/healing")).answer as HealingStatus;
const reportsOf = async (track: TrackReport["track"]) => (await healing()).tracks.filter((one) => one.track === track);

async function gauge(name: string): Promise<number | null> {
  const text = await (await fetch(`${cluster.url}/metrics`)).text();
  const match = new RegExp(`^${name} ([\\d.e+]+)$`, "m").exec(text);
  return match === null ? null : Number(match[1]);
}

describe("healing of a cluster", () => {
  test("throttles set at run time arrive in every process that works on the track", async () => {
    const set = await ask("PATCH", "/cluster/healing/tracks/repair", { bytesPerSecond: 4_096 });
    expect(set.status).toBe(200);
    await expect
      .poll(
        async () => (await reportsOf("repair")).map(({ process, bytesPerSecondMax }) => [process, bytesPerSecondMax]),
        POLL,
      )
      .toEqual(expect.arrayContaining(cluster.healers.map(({ name }) => [name, 4_096])));
    await ask("PATCH", "/cluster/healing/tracks/scrub", { paused: true });
    const paused = async () => (await reportsOf("scrub")).map(({ process, state }) => `${process} ${state}`).sort();
    await expect.poll(paused, POLL).toEqual(cluster.nodes.map(({ name }) => `${name} paused`).sort());
    await ask("PATCH", "/cluster/healing/tracks/scrub", { paused: false });
  });

  test("the next leader goes on with a job within ten seconds of taking over", async () => {
    for (let n = 0; n < OBJECTS; n += 1) {
      const body = Buffer.alloc(OBJECT_BYTES, n);
      expect((await fetch(`${cluster.url}/objects/o${n}`, { method: "PUT", body })).status).toBe(201);
    }
    // So slow that the job cannot end before its leader.
    const node = cluster.nodes[0]?.name as string;
    const started = await ask("POST", `/cluster/recovery/${node}`);
    expect(started.status).toBe(202);
    const { id } = started.answer as HealingJob;
    const job = async () => (await ask("GET", `/cluster/healing/jobs/${id}`)).answer as HealingJob;
    await expect.poll(async () => (await job()).unit, POLL).toBe("blobs verified");
    const { leader } = await healing();
    await cluster.member(leader as string).kill9();
    // Nobody leads for a while; the control waits for the next leader as an operator would.
    const raise = async () => (await ask("PATCH", "/cluster/healing/tracks/repair", { bytesPerSecond: null })).status;
    await expect.poll(raise, POLL).toBe(200);
    const tookOverAt = performance.now();
    await expect.poll(async () => (await job()).state, POLL).toBe("done");
    expect(performance.now() - tookOverAt).toBeLessThan(10_000);
    expect(await job()).toMatchObject({ kind: "recover_node", node, result: { damaged: 0 } });
    expect((await healing()).leader).not.toBe(leader);
    await cluster.member(leader as string).restart();
  });

  test("a scrub on demand has every node verify what it holds", async () => {
    const { answer } = await ask("POST", "/cluster/healing/scrub");
    const { id } = answer as HealingJob;
    const job = async () => (await ask("GET", `/cluster/healing/jobs/${id}`)).answer as HealingJob;
    await expect.poll(async () => (await job()).state, POLL).toBe("done");
    expect((await job()).result).toMatchObject({ blobsBad: 0, blobsVerified: OBJECTS * cluster.nodes.length });
  });

  test("replication_lag rises when a node stops and falls to 0 by itself when it is back and verified", async () => {
    await expect.poll(() => gauge("replication_lag"), POLL).toBe(0);
    const node = cluster.nodes[1];
    await node?.kill9();
    await expect.poll(async () => (await gauge("replication_lag")) ?? 0, POLL).toBeGreaterThanOrEqual(OBJECTS);
    const { answer } = await ask("GET", "/cluster/health");
    expect((answer as { problems: string[] }).problems.join()).toMatch(/blobs are missing/);
    await node?.restart();
    await expect.poll(() => gauge("replication_lag"), POLL).toBe(0);
    const { incidents, jobs } = await healing();
    const returned = incidents.filter((one) => one.kind === "node_returned" && one.node === node?.name);
    expect(returned).toMatchObject([{ repairMs: expect.any(Number) as number }]);
    expect(jobs.some((one) => one.kind === "recover_node" && one.node === node?.name)).toBe(true);
    expect(jobs.length).toBeLessThanOrEqual(LEDGER_ENTRIES_MAX);
    const summary = (await ask("GET", "/metrics/summary")).answer as { repair: { meanTimeToRepairMs: number } };
    expect(summary.repair.meanTimeToRepairMs).toBeGreaterThan(0);
  });
});
