/**
 * A cluster on three sites with a network each, of which one is cut off from the others while clients of all three write.
 * What the lonely site answers then, and whether all agree when it is back, is held against what clients were told.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { StoreClient } from "../support/black-box/client.ts";
import { openInspector, type ClusterInspector } from "../support/cluster-inspector.ts";
import {
  checkGateways,
  checkSettled,
  readHealth,
  SOON_COLLECTED,
  until,
  untilHealth,
} from "../support/cluster-load.ts";
import { startCluster, type LocalCluster } from "../support/cluster.ts";
import { CountedKeys } from "../support/load/counted-keys.ts";
import { everyWrite, type EveryWrite } from "../support/load/every-write.ts";
import { LoadClient, type Race, type Tally } from "../support/load/load-client.ts";
import type { Load } from "../support/load/load.ts";
import { isAcknowledged, RecordedClient } from "../support/load/recorded-client.ts";
import { createSeeded } from "../support/load/seeded.ts";
import { makeLeader } from "../support/nats-leader.ts";
import { startNetwork, type TestNetwork } from "../support/network.ts";

/** Each with a nats-server, two nodes and a gateway; the first two with a healer. */
const SITES = ["a", "b", "c"] as const;
type Site = (typeof SITES)[number];

const CLIENTS_PER_SITE = 2;
const READERS_PER_SITE = 2;
const COUNTED_KEYS = 4;
/** A leader that lost its followers gives up after ten seconds, and electing another takes up to nine. */
const FAILOVER_MS_MAX = 40_000;
const STEADY_WRITES = 15;
const TIMEOUT_MS = 180_000;
/** What is led from the site that is cut off, so that all of it has to find another leader. */
const STREAMS_LED = ["KINTSUGI_MAIN_META_0", "KINTSUGI_MAIN_WAL", "KV_kintsugi_main_lease"];
const SETTINGS = {
  // Three of the four nodes that are left hold a write.
  cluster: { metadataStreams: 2, bucketDefaults: { k: 2, m: 1 } },
  // What cannot be done is refused after these.
  timeouts: { metadataMs: 6_000, nodeMs: 4_000 },
  healing: SOON_COLLECTED,
};

type World = AsyncDisposable & {
  readonly seed: number;
  readonly network: TestNetwork;
  readonly cluster: LocalCluster;
  readonly inspector: ClusterInspector;
  readonly load: Load;
  readonly counted: CountedKeys;
};

type Clients = Readonly<Record<Site, RecordedClient>>;
type Loss = "cutOff" | "mute" | "deafen";

describe("a cluster on three sites", () => {
  let world: World | string;

  beforeAll(async () => {
    world = await openWorld();
  }, TIMEOUT_MS);

  afterAll(async () => {
    if (typeof world === "object") await world[Symbol.asyncDispose]();
  }, TIMEOUT_MS);

  test(
    "goes on without a site that is cut off, which promises nothing, and agrees with it afterwards",
    async (context) => {
      if (typeof world === "string") return context.skip(world);
      const leading = await leadingSite(world);
      await makeLeader(world.cluster, memberOf("nats", leading), STREAMS_LED);
      await partition(world, "cut-off", [{ site: leading, loss: "cutOff" }]);
    },
    TIMEOUT_MS,
  );

  test(
    "goes on without a site that nobody hears and then without one that hears nobody",
    async (context) => {
      if (typeof world === "string") return context.skip(world);
      const leading = await leadingSite(world);
      await makeLeader(world.cluster, memberOf("nats", leading), STREAMS_LED);
      await partition(world, "one-way", [
        { site: leading, loss: "mute" },
        { site: leading === "a" ? "b" : "a", loss: "deafen" },
      ]);
    },
    TIMEOUT_MS,
  );

  test(
    "has lost nothing in the end and kept nothing",
    async (context) => {
      if (typeof world === "string") return context.skip(world);
      const { seed, inspector, cluster, load } = world;
      // Recovery leaves what gateways wrote that still run alone for a while; new ones have nothing under way.
      await Promise.all(cluster.gateways.map((gateway) => gateway.stop().then(() => gateway.restart())));
      await checkSettled(inspector, `seed ${seed}, settled`);
      await checkGateways(cluster, load, `seed ${seed}, settled`);
      expect(load.tally.acknowledged).toBeGreaterThan(100);
    },
    TIMEOUT_MS,
  );
});

async function openWorld(): Promise<World | string> {
  const network = await startNetwork(SITES);
  if (typeof network === "string") return network;
  await using stack = new AsyncDisposableStack();
  stack.use(network);
  const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);
  console.log(`cluster-partition: seed ${seed}; SEED=${seed} repeats the workload`);
  const nodes = Array.from({ length: 2 * SITES.length }, (_, index) => `node-${index + 1}`);
  const cluster = await startCluster({
    ...{ gateways: SITES.length, nodes: nodes.length, healers: 2, nats: 3, settings: SETTINGS },
    hostOf: (name) => network.addressOf(siteOf(name)),
    prefixOf: (name) => network.prefixOf(siteOf(name)),
    env: Object.fromEntries(nodes.map((name) => [name, { KINTSUGI_ZONE: siteOf(name) }])),
  });
  stack.use(cluster);
  const inspector = stack.use(await openInspector(cluster));
  const world = { seed, network, cluster, inspector, load: loadOf(seed), counted: new CountedKeys(COUNTED_KEYS) };
  const opened = stack.move();
  return { ...world, [Symbol.asyncDispose]: () => opened.disposeAsync() };
}

/** Clients with keys of their own, the first at the first site and so on; and keys that all of them fight over. */
function loadOf(seed: number): Load {
  const races: Race[] = [{ key: "race/0", attempts: [] }];
  const tally: Tally = { acknowledged: 0, unknown: 0, refused: 0 };
  const clients = Array.from({ length: SITES.length * CLIENTS_PER_SITE }, (_, index) => {
    return new LoadClient(`client-${index}`, createSeeded(seed * 100 + index), races, tally);
  });
  return { random: createSeeded(seed), clients, races, tally };
}

/** Loses one site after the other under load, the next in the same moment in which the one before is back. */
async function partition(world: World, name: string, losses: readonly { site: Site; loss: Loss }[]): Promise<void> {
  const { seed, network, cluster, load, counted } = world;
  const writes = losses.map(({ site }) => ({ site, every: everyWrite(`every/${name}/${site}`) }));
  for (const { site, every } of writes) {
    using client = new StoreClient(gatewayAt(cluster, site).url);
    await every.prepare(client);
  }
  try {
    await underLoad(world, async (clients) => {
      await Promise.all(SITES.map((site) => untilAcknowledged(clients[site], 0, 8)));
      for (const [index, { site, loss }] of losses.entries()) {
        await network[loss](site);
        await loseSite(world, clients, { site, loss, every: (writes[index] as (typeof writes)[number]).every });
      }
      await network.heal();
      const healedMs = performance.now();
      await untilHealth(cluster, "ok");
      say(`${name}: all is well ${secondsSince(healedMs)} s after it healed`);
      const wholeMs = performance.now();
      await Promise.all(SITES.map((site) => untilAcknowledged(clients[site], wholeMs, 3)));
    });
  } finally {
    await network.heal();
  }
  say(`${name}: seen ${[...counted.seenCounts].map(([how, count]) => `${count} ${how}`).join(", ")}`);
  expect(counted.stale).toEqual([]);
  await checkGateways(cluster, load, `seed ${seed}, ${name}`, "open");
  for (const { every } of writes) await checkEvery(cluster, every, `seed ${seed}, ${name}`);
}

/** Resolves when the others have gone on for a while without the site, which has answered by then all that it was asked. */
async function loseSite(
  { cluster, counted }: World,
  clients: Clients,
  { site, loss, every }: { site: Site; loss: Loss; every: EveryWrite },
): Promise<void> {
  const lostMs = performance.now();
  const others = SITES.filter((other) => other !== site);
  const [other] = others as [Site, Site];
  const healer = memberOf("healer", site);
  const refused = every.send(clients[site]);
  const goOn = others.map(async (each) => secondsBetween(lostMs, await untilAcknowledged(clients[each], lostMs, 1)));
  const takesOver = until("a healer of the others to lead", FAILOVER_MS_MAX, async () => {
    const leader = (await readHealth(gatewayAt(cluster, other).url))?.coordination.leader ?? null;
    return leader !== null && leader !== healer;
  }).then(() => secondsSince(lostMs));
  say(`${site} ${loss}: writes at ${others.join(" and ")} go on after ${(await Promise.all(goOn)).join(" and ")} s`);
  say(`${site} ${loss}: a healer of the others leads after ${await takesOver} s`);

  const calmMs = performance.now();
  const recoveredByLonely = await readRecovered(cluster, healer);
  await Promise.all(others.map((each) => untilAcknowledged(clients[each], calmMs, STEADY_WRITES)));
  expect(counted.stale).toEqual([]);
  for (const each of others) {
    const since = clients[each].writesSince(calmMs);
    const failed = since.filter(({ status }) => status >= 500);
    expect(failed.length * 5, `${each} without ${site}: ${JSON.stringify(failed)}`).toBeLessThanOrEqual(since.length);
  }
  for (const [kind, status] of await refused) expect(status, `${kind} at ${site}, ${loss}`).toBeGreaterThanOrEqual(500);
  say(`${site} ${loss}: all writes there were refused after ${secondsSince(lostMs)} s`);
  expect(clients[site].writesSince(lostMs).filter(({ status }) => status < 500)).toEqual([]);
  expect(await readRecovered(cluster, healer)).toEqual(recoveredByLonely);
}

/** Through every gateway each key is as it was or as the write wanted it. */
async function checkEvery(cluster: LocalCluster, { journals }: EveryWrite, context: string): Promise<void> {
  for (const { name, url } of cluster.gateways) {
    using client = new StoreClient(url);
    for (const journal of journals) {
      const { status, body } = await client.get(`/objects/${journal.key}`);
      journal.observe(status === 404 ? null : body, `${context}, ${name}`);
    }
  }
}

/** Lets clients write and read at all sites until `fault` has run. Fails when the store contradicts itself meanwhile. */
async function underLoad({ cluster, load, counted }: World, fault: (clients: Clients) => Promise<void>): Promise<void> {
  let stopped = false;
  const isOver = () => stopped;
  using stack = new DisposableStack();
  const clientAt = (site: Site) => stack.use(new RecordedClient(gatewayAt(cluster, site).url));
  const clients = { a: clientAt("a"), b: clientAt("b"), c: clientAt("c") };
  const readAt = (site: Site) =>
    Array.from({ length: READERS_PER_SITE }, () => counted.read(clients[site], `at ${site}`, isOver));
  const running = Promise.all([
    ...load.clients.map((client, index) => client.run(clients[SITES[index % SITES.length] as Site], isOver)),
    // The site that is never lost.
    counted.write(clients.c, isOver),
    ...SITES.flatMap(readAt),
  ]);
  running.catch(() => {});
  try {
    await Promise.race([fault(clients), running]);
  } finally {
    stopped = true;
    await running;
  }
}

/** Waits until so many writes that began at this time or later were acknowledged; answers when the first was. */
async function untilAcknowledged(client: RecordedClient, sinceMs: number, count: number): Promise<number> {
  const acknowledged = () => client.writesSince(sinceMs).filter(isAcknowledged);
  const isThere = () => Promise.resolve(acknowledged().length >= count);
  await until(`${count} acknowledged writes at ${client.url.host}`, FAILOVER_MS_MAX, isThere);
  return Math.min(...acknowledged().map(({ endedMs }) => endedMs));
}

async function leadingSite({ cluster }: World): Promise<Site> {
  await untilHealth(cluster, "ok");
  const leader = (await readHealth(cluster.url))?.coordination.leader;
  return siteOf(leader ?? "nobody");
}

/** Whether a healer takes itself for the leader, and what it has done about open intents in its life. */
async function readRecovered(cluster: LocalCluster, healer: string): Promise<unknown> {
  const { url } = cluster.member(healer);
  const { leading } = (await (await fetch(`${url}/status`)).json()) as { leading: boolean };
  const metrics = await (await fetch(`${url}/metrics`)).text();
  expect(leading, `${healer} leads`).toBe(false);
  return metrics.match(/^kintsugi_intents_recovered_total.*$/gm);
}

function gatewayAt(cluster: LocalCluster, site: Site) {
  return cluster.member(memberOf("gateway", site));
}

function memberOf(role: "gateway" | "healer" | "nats", site: Site): string {
  return `${role}-${SITES.indexOf(site) + 1}`;
}

function siteOf(member: string): Site {
  const [role, number] = member.split("-") as [string, string];
  const index = Number(number) - 1;
  return SITES[role === "node" ? Math.floor(index / 2) : index] as Site;
}

function say(text: string): void {
  console.log(`cluster-partition: ${text}`);
}

function secondsSince(ms: number): string {
  return secondsBetween(ms, performance.now());
}

function secondsBetween(fromMs: number, toMs: number): string {
  return ((toMs - fromMs) / 1_000).toFixed(1);
}
