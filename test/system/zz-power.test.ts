/**
 * The power of a whole cluster is cut again and again while clients write to it: of all nodes, gateways, healers and
 * nats-servers at once. It is held to what it told its clients: every key reads through every gateway as its last
 * acknowledged state, or as one whose answer never came.
 */
import { afterAll, expect, test } from "vitest";
import { StoreClient } from "../support/black-box/client.ts";
import { openInspector } from "../support/cluster-inspector.ts";
import { checkGateways, checkSettled, untilHealth } from "../support/cluster-load.ts";
import type { LocalCluster } from "../support/cluster.ts";
import { createLoad, type Load } from "../support/load/load.ts";
import { startCuttable, type CuttableCluster } from "../support/power-cut.ts";

const ROUNDS = Number(process.env["ROUNDS"] ?? 10);
const CLIENTS = 6;
const TIMEOUT_MS = 400_000;

let cuttable: CuttableCluster | string | null = null;

// A test that ran out of time is not cut off: this ends what it uses.
afterAll(async () => {
  if (cuttable !== null && typeof cuttable !== "string") await cuttable[Symbol.asyncDispose]();
}, TIMEOUT_MS);

test(
  "a cluster loses no acknowledged object when the power of all of it is cut, ten times under load",
  async (context) => {
    const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);
    console.log(`cluster-power-cut: seed ${seed}; SEED=${seed} repeats the workload`);
    const load = createLoad(seed, CLIENTS);
    const T = (w: string) => console.log(w, Math.round(performance.now()), new Date().toISOString());
    T("begin");
    cuttable = await startCuttable({ gateways: 2, nodes: 6, healers: 1 });
    T("started");
    if (typeof cuttable === "string") return context.skip(cuttable);
    const { cluster } = cuttable;
    for (let round = 1; round <= ROUNDS; round += 1) {
      await cutUnderLoad(cuttable, load);
      T("cut " + JSON.stringify(load.tally));
      await Promise.all(cluster.members.map(async (m) => { await m.restart(); T(m.name);}));
      T("startAll");
      await checkGateways(cluster, load, `seed ${seed}, round ${round}`, "open");
      T("checked");
    }
    await untilHealth(cluster, "ok");
    await using inspector = await openInspector(cluster);
    const iv = setInterval(async()=>{ T("open "+(await inspector.openIntents()).length+" orphans "+(await inspector.orphans()).length)}, 5000);
    await checkSettled(inspector, `seed ${seed}`);
    T("settled"); clearInterval(iv);
      (await import("node:fs")).cpSync(cluster.dir+"/logs", "/tmp/power/logs", {recursive:true});
    await checkGateways(cluster, load, `seed ${seed}, settled`);
    expect(load.tally.acknowledged).toBeGreaterThan(ROUNDS * 10);
    expect(load.tally.unknown).toBeGreaterThan(0);
  },
  TIMEOUT_MS,
);

/** Lets the clients loose, each on a gateway, and cuts the power while they are at it. */
async function cutUnderLoad({ cluster, cutPower }: CuttableCluster, load: Load): Promise<void> {
  let stopped = false;
  const { random, clients } = load;
  const fronts = cluster.gateways.map(({ url }) => new StoreClient(url, clients.length));
  const running = Promise.all(
    clients.map((client, index) => client.run(fronts[index % fronts.length] as StoreClient, () => stopped)),
  );
  running.catch(() => {});
  try {
    await Promise.race([running, new Promise((resolve) => setTimeout(resolve, random.between(1_000, 1_800)))]);
    await cutPower(random, () => (stopped = true));
  } finally {
    stopped = true;
    await running.finally(() => fronts.forEach((front) => front[Symbol.dispose]()));
  }
}
