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
import { afterWrites, checkGateways, checkSettled } from "../support/cluster-load.ts";
import type { LocalCluster } from "../support/cluster.ts";
import { Ballast } from "../support/load/ballast.ts";
import { createLoad, type Load } from "../support/load/load.ts";
import { startCuttable, type CuttableCluster } from "../support/power-cut.ts";

/**
 * Two clusters, at once because most of a round goes by waiting for elections. JetStream flushes its Raft logs with every
 * message and the files of its streams only when it compacts a log, at 8 MiB: so in one cluster all records are in the
 * logs, and in the other one most are in the files.
 */
const CLUSTERS = [
  ["a young cluster", 0],
  ["a cluster whose Raft logs were compacted", 20 * 1_048_576],
] as const;
const ROUNDS_EACH = 5;
const CLIENTS = 6;
const WRITES_MIN = 10;
const LOAD_MS_MIN = 500;
const LOAD_MS_MAX = 1_200;
const TIMEOUT_MS = 420_000;

const firstSeed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);
const opened: CuttableCluster[] = [];

beforeAll(() => console.log(`cluster-power-cut: seed ${firstSeed}; SEED=${firstSeed} repeats the workload`));

// Also after a test that ran out of time, which goes on by itself: this ends what it uses.
afterAll(async () => void (await Promise.all(opened.map((each) => each[Symbol.asyncDispose]()))), TIMEOUT_MS);

test.concurrent.for(CLUSTERS)(
  "%s loses nothing that it acknowledged when the power of all of it is cut again and again under load",
  { timeout: TIMEOUT_MS },
  async ([, ballastBytes], context) => {
    const seed = firstSeed + (ballastBytes === 0 ? 0 : 1);
    const load = createLoad(seed, CLIENTS);
    const cuttable = await startCuttable({ gateways: 2, nodes: 4, healers: 1 });
    if (typeof cuttable === "string") return context.skip(cuttable);
    opened.push(cuttable);
    const { cluster } = cuttable;
    const identities = await readIdentities(cluster);
    const ballast = new Ballast(seed);
    await throughGateways(cluster, (gateways) => ballast.grow(gateways[0] as StoreClient, ballastBytes));
    for (let round = 1; round < ROUNDS_EACH; round += 1) {
      await cutUnderLoad(cuttable, load, ballast);
      await cuttable.powerOn();
      // What recovery still works on may come to be there later, but nothing that was there may go.
      await checkGateways(cluster, load, `seed ${seed}, round ${round}`, "open");
      await throughGateways(cluster, (gateways) =>
        ballast.check(gateways[round % gateways.length] as StoreClient, `seed ${seed}, round ${round}`),
      );
    }
    await cutUnderLoad(cuttable, load, ballast);
    // Recovery is patient with writers that are there, so the gateways stay away until it is through.
    await cuttable.powerOn({ without: "gateway" });
    await using inspector = await openInspector(cluster);
    await checkSettled(inspector, `seed ${seed}, settled`);
    await cuttable.powerOn();
    await checkGateways(cluster, load, `seed ${seed}, settled`);
    await throughGateways(cluster, (gateways) =>
      Promise.all(gateways.map((gateway) => ballast.check(gateway, `seed ${seed}, settled`))),
    );
    // Whoever came back as somebody else would have to wait until its own name is free.
    expect(await readIdentities(cluster)).toEqual(identities);

    const { acknowledged, unknown } = load.tally;
    console.log(`cluster-power-cut: seed ${seed}: ${acknowledged} writes acknowledged, ${unknown} cut short`);
    expect(unknown, "writes that were under way when the power was cut").toBeGreaterThan(0);
  },
);

async function readIdentities({ gateways, nodes, healers }: LocalCluster): Promise<string[]> {
  const members = [...gateways, ...nodes, ...healers];
  return await Promise.all(members.map(({ dataDir }) => readFile(join(dataDir, "identity"), "utf8")));
}

/** Lets the clients loose, each on one gateway, and cuts the power while they are at it. */
async function cutUnderLoad({ cluster, cutPower }: CuttableCluster, load: Load, ballast: Ballast): Promise<void> {
  const { random, clients } = load;
  let stopped = false;
  await throughGateways(cluster, async (gateways) => {
    const gatewayOf = (index: number) => gateways[index % gateways.length] as StoreClient;
    const writers = [...clients, ballast];
    const running = Promise.all(writers.map((writer, index) => writer.run(gatewayOf(index), () => stopped)));
    running.catch(() => {});
    const loadMs = random.between(LOAD_MS_MIN, LOAD_MS_MAX);
    const loaded = afterWrites(load, WRITES_MIN).then(() => new Promise((resolve) => setTimeout(resolve, loadMs)));
    try {
      await Promise.race([running, loaded]);
      await cutPower(random, () => (stopped = true));
    } finally {
      stopped = true;
      // Requests that the cut met end with their connections.
      await running;
    }
  });
}

async function throughGateways(
  { gateways }: LocalCluster,
  action: (gateways: readonly StoreClient[]) => Promise<unknown>,
): Promise<void> {
  const clients = gateways.map(({ url }) => new StoreClient(url));
  try {
    await action(clients);
  } finally {
    for (const client of clients) client[Symbol.dispose]();
  }
}
