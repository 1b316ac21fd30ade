/**
 * The power of a whole cluster is cut again and again while clients write to it: of all nodes, gateways, healers and
 * nats-servers at once. It is held to what it told its clients: every key reads through every gateway as its last
 * acknowledged state, or as one whose answer never came.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { StoreClient } from "../support/black-box/client.ts";
import { openInspector } from "../support/cluster-inspector.ts";
import { checkGateways, checkSettled } from "../support/cluster-load.ts";
import type { LocalCluster } from "../support/cluster.ts";
import { createLoad, type Load } from "../support/load/load.ts";
import { startCuttable, type CuttableCluster } from "../support/power-cut.ts";

/** Most of a round goes by waiting for elections: two clusters at once take little longer than one. */
const CLUSTERS = [0, 1];
const ROUNDS_EACH = 5;
const CLIENTS = 6;
const LOAD_MS_MIN = 900;
const LOAD_MS_MAX = 1_600;
const TIMEOUT_MS = 420_000;

const firstSeed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);
const opened: CuttableCluster[] = [];

beforeAll(() => console.log(`cluster-power-cut: seed ${firstSeed}; SEED=${firstSeed} repeats the workload`));

// Also after a test that ran out of time, which goes on by itself: this ends what it uses.
afterAll(async () => void (await Promise.all(opened.map((each) => each[Symbol.asyncDispose]()))), TIMEOUT_MS);

test.concurrent.for(CLUSTERS)(
  "cluster %i loses nothing that it acknowledged when the power of all of it is cut again and again under load",
  { timeout: TIMEOUT_MS },
  async (index, context) => {
    const seed = firstSeed + index;
    const load = createLoad(seed, CLIENTS);
    const cuttable = await startCuttable({ gateways: 2, nodes: 6, healers: 1 });
    if (typeof cuttable === "string") return context.skip(cuttable);
    opened.push(cuttable);
    const { cluster } = cuttable;
    const identities = await readIdentities(cluster);
    for (let round = 1; round < ROUNDS_EACH; round += 1) {
      await cutUnderLoad(cuttable, load);
      await cuttable.powerOn();
      // What recovery still works on may come to be there later, but nothing that was there may go.
      await checkGateways(cluster, load, `seed ${seed}, round ${round}`, "open");
    }
    await cutUnderLoad(cuttable, load);
    // Recovery is patient with writers that are there, so the gateways stay away until it is through.
    await cuttable.powerOn({ without: "gateway" });
    await using inspector = await openInspector(cluster);
    await checkSettled(inspector, `seed ${seed}, settled`);
    await cuttable.powerOn();
    await checkGateways(cluster, load, `seed ${seed}, settled`);
    // Whoever came back as somebody else would have to wait until its own name is free.
    expect(await readIdentities(cluster)).toEqual(identities);

    const { acknowledged, unknown } = load.tally;
    console.log(`cluster-power-cut: seed ${seed}: ${acknowledged} writes acknowledged, ${unknown} cut short`);
    expect(acknowledged).toBeGreaterThan(ROUNDS_EACH * 5);
    expect(unknown, "writes that were under way when the power was cut").toBeGreaterThan(0);
  },
);

async function readIdentities({ gateways, nodes, healers }: LocalCluster): Promise<string[]> {
  const members = [...gateways, ...nodes, ...healers];
  return await Promise.all(members.map(({ dataDir }) => readFile(join(dataDir, "identity"), "utf8")));
}

/** Lets the clients loose, each on one gateway, and cuts the power while they are at it. */
async function cutUnderLoad({ cluster, cutPower }: CuttableCluster, { random, clients }: Load): Promise<void> {
  let stopped = false;
  const fronts = cluster.gateways.map(({ url }) => new StoreClient(url, clients.length));
  const running = Promise.all(
    clients.map((client, index) => client.run(fronts[index % fronts.length] as StoreClient, () => stopped)),
  );
  running.catch(() => {});
  const loadMs = random.between(LOAD_MS_MIN, LOAD_MS_MAX);
  try {
    await Promise.race([running, new Promise((resolve) => setTimeout(resolve, loadMs))]);
    await cutPower(random, () => (stopped = true));
  } finally {
    stopped = true;
    // Requests that the cut met end with their connections.
    await running.finally(() => fronts.forEach((front) => front[Symbol.dispose]()));
  }
}
