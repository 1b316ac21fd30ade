/**
 * A whole cluster of real processes loses one part after another while clients write to it, and is held to what they
 * were told: every key reads through every gateway as its last acknowledged state or as one whose answer never came.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openInspector, type ClusterInspector } from "../support/cluster-inspector.ts";
import {
  afterWrites,
  checkGateways,
  checkSettled,
  readHealth,
  SOON_COLLECTED,
  underLoad,
  until,
  untilHealth,
} from "../support/cluster-load.ts";
import { startCluster, type LocalCluster } from "../support/cluster.ts";
import { createLoad, type Load } from "../support/load/load.ts";

const CLIENTS = 6;
const FAILOVER_MS_MAX = 10_000;
const TIMEOUT_MS = 180_000;

describe("a cluster under load", () => {
  const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);
  const load: Load = createLoad(seed, CLIENTS);
  let cluster: LocalCluster;
  let inspector: ClusterInspector;

  beforeAll(async () => {
    console.log(`cluster-failover: seed ${seed}; SEED=${seed} repeats the workload`);
    cluster = await startCluster({
      gateways: 3,
      nodes: 6,
      healers: 2,
      nats: 3,
      nginx: true,
      settings: { healing: SOON_COLLECTED },
    });
    inspector = await openInspector(cluster);
  }, TIMEOUT_MS);

  afterAll(async () => {
    await inspector?.[Symbol.asyncDispose]();
    await cluster?.[Symbol.asyncDispose]();
  }, TIMEOUT_MS);

  test(
    "loses nothing with one node killed, nor with a second",
    async () => {
      const [first, second] = cluster.nodes as [LocalCluster["nodes"][0], LocalCluster["nodes"][0]];
      await underLoad(cluster, load, async () => {
        await afterWrites(load, 60);
        await first.kill9();
        await afterWrites(load, 60);
        await second.kill9();
        await afterWrites(load, 20);
      });
      await checkGateways(cluster, load, `seed ${seed}, two nodes gone`, "open");
      await Promise.all([first.restart(), second.restart()]);
      await untilHealth(cluster, "ok");
      await checkGateways(cluster, load, `seed ${seed}, nodes back`, "open");
    },
    TIMEOUT_MS,
  );

  test(
    "goes on when the nats-server that leads is killed, and reads nothing stale",
    async () => {
      const leader = await cluster.leaderOf("KINTSUGI_MAIN_META_0");
      await underLoad(cluster, load, async () => {
        await afterWrites(load, 40);
        await leader.kill9();
        await afterWrites(load, 80);
      });
      await checkGateways(cluster, load, `seed ${seed}, a nats-server gone`, "open");
      await leader.restart();
      await untilHealth(cluster, "ok");
    },
    TIMEOUT_MS,
  );

  test(
    "has a new leading healer within ten seconds of the death of the old one",
    async () => {
      const { url } = cluster.gateways[0] as LocalCluster["gateways"][0];
      const leader = (await readHealth(url))?.coordination.leader ?? "";
      await cluster.member(leader).kill9();
      const killedAt = performance.now();
      await until("another healer to lead", FAILOVER_MS_MAX, async () => {
        const now = (await readHealth(url))?.coordination.leader ?? leader;
        return now !== leader;
      });
      console.log(`cluster-failover: a new leading healer after ${Math.round(performance.now() - killedAt)} ms`);
      await cluster.member(leader).restart();
      await untilHealth(cluster, "ok");
    },
    TIMEOUT_MS,
  );

  test(
    "finishes or undoes what a killed gateway left",
    async () => {
      for (const gateway of cluster.gateways.slice(0, 2)) {
        await underLoad(cluster, load, async () => {
          await afterWrites(load, 40);
          await gateway.kill9();
          await afterWrites(load, 40);
        });
        await gateway.restart();
      }
      await untilHealth(cluster, "ok");
      await checkSettled(inspector, `seed ${seed}, gateways killed`);
      await checkGateways(cluster, load, `seed ${seed}, gateways back`);
    },
    TIMEOUT_MS,
  );

  test(
    "comes back whole when everything is killed at once",
    async () => {
      await underLoad(cluster, load, async () => {
        await afterWrites(load, 40);
        await cluster.killAll();
      });
      await cluster.startAll();
      await untilHealth(cluster, "ok");
      await checkGateways(cluster, load, `seed ${seed}, all restarted`, "open");
      await checkSettled(inspector, `seed ${seed}, all restarted`);
      await checkGateways(cluster, load, `seed ${seed}, settled`);
      expect(load.tally.acknowledged).toBeGreaterThan(300);
    },
    TIMEOUT_MS,
  );

  test(
    "shows appends, commits, batches, barriers, lag and terms of leadership in its metrics",
    async () => {
      for (const { name, url } of cluster.gateways) {
        const target = `${url}/objects/metrics/${name}`;
        const put = { method: "PUT", body: "measured" };
        expect((await fetch(`${target}?strategy=replication`, put)).status).toBe(201);
        expect(await (await fetch(target)).text()).toBe("measured");
        const valueOf = await readMetrics(url);
        for (const counted of [
          "wal_append_seconds",
          "wal_batch_intents",
          "metadata_commit_seconds",
          "metadata_commit_batch_size",
          "metadata_barrier_seconds",
        ]) {
          expect(valueOf(`kintsugi_${counted}_count`), `${counted} of ${name}`).toBeGreaterThan(0);
        }
        expect(valueOf("kintsugi_metadata_index_lag_messages"), name).toBeGreaterThanOrEqual(0);
      }
      const terms = await Promise.all(
        cluster.healers.map(async ({ url }) => (await readMetrics(url))("kintsugi_healer_terms_total")),
      );
      expect(Math.max(...terms)).toBeGreaterThan(0);
    },
    TIMEOUT_MS,
  );
});

/** Answers the value of a metric without labels; not a number where there is none. */
async function readMetrics(url: string): Promise<(name: string) => number> {
  const lines = (await (await fetch(`${url}/metrics`)).text()).split("\n");
  return (name) => Number(lines.find((line) => line.startsWith(`${name} `))?.split(" ")[1] ?? Number.NaN);
}
