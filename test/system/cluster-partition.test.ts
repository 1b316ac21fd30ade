/**
 * A cluster on three sites with a network each, of which one is cut off from the others while clients of all three write.
 * What the lonely site answers then, and whether all agree when it is back, is held against what clients were told.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { StoreClient } from "../support/black-box/client.ts";
import { openInspector, type ClusterInspector } from "../support/cluster-inspector.ts";
import { checkGateways, checkSettled, readHealth, until, untilHealth } from "../support/cluster-load.ts";
import { startCluster, type LocalCluster } from "../support/cluster.ts";
import { CountedKeys } from "../support/load/counted-keys.ts";
import { everyWrite, type EveryWrite } from "../support/load/every-write.ts";
import { LoadClient, type Race, type Tally } from "../support/load/load-client.ts";
import type { Load } from "../support/load/load.ts";
import { isAcknowledged, RecordedClient } from "../support/load/recorded-client.ts";
import { createSeeded } from "../support/load/seeded.ts";
import { makeLeader } from "../support/nats-leader.ts";
import { startNetwork, type TestNetwork } from "../support/network.ts";

/** Each with a nats-server, two nodes and a gateway; a and b with a healer. */
const SITES = ["a", "b", "c"] as const;
type Site = (typeof SITES)[number];

const CLIENTS_PER_SITE = 2;
const COUNTED_KEYS = 4;
/** A lost leader is given up after ten seconds, and a new one elected within nine more. */
const FAILOVER_MS_MAX = 40_000;
const ANSWER_MS_MAX = 45_000;
const TIMEOUT_MS = 180_000;
const LED_BY_THE_LONELY = ["KINTSUGI_MAIN_META_0", "KINTSUGI_MAIN_WAL", "KV_kintsugi_main_lease"];

type World = {
  readonly seed: number;
  readonly network: TestNetwork;
  readonly cluster: LocalCluster;
  readonly inspector: ClusterInspector;
  readonly load: Load;
  readonly counted: CountedKeys;
  [Symbol.asyncDispose](): Promise<void>;
};

type Clients = Readonly<Record<Site, RecordedClient>>;

describe("a cluster on three sites", () => {
  let world: World | string;

  beforeAll(async () => {
    world = await openWorld();
  }, TIMEOUT_MS);

  afterAll(async () => {
    if (typeof world === "object") await world[Symbol.asyncDispose]();
  }, TIMEOUT_MS);

  test.for([
    { what: "is cut off", site: "a", lose: "cutOff" },
    { what: "is heard by nobody", site: "b", lose: "mute" },
    { what: "hears nobody", site: "a", lose: "deafen" },
  ] as const)(
    "goes on without a site that $what and promises nothing, and agrees with it afterwards",
    { timeout: TIMEOUT_MS },
    async ({ site, lose }, context) => {
      if (typeof world === "string") return context.skip(world);
      await loseSite(world, site, lose);
    },
  );

  test("has lost nothing in the end and kept nothing", { timeout: TIMEOUT_MS }, async (context) => {
    if (typeof world === "string") return context.skip(world);
    const { seed, inspector, cluster, load } = world;
    await checkSettled(inspector, `seed ${seed}, settled`);
    await checkGateways(cluster, load, `seed ${seed}, settled`);
    expect(load.tally.acknowledged).toBeGreaterThan(100);
  });
});

async function openWorld(): Promise<World | string> {
  const network = await startNetwork(SITES);
  if (typeof network === "string") return network;
  const stack = new AsyncDisposableStack();
  stack.defer(async () => { console.log("D net"); await network[Symbol.asyncDispose](); console.log("D net gone"); });
  try {
    const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);
    console.log(`cluster-partition: seed ${seed}; SEED=${seed} repeats the workload`);
    const nodes = Array.from({ length: 2 * SITES.length }, (_, index) => `node-${index + 1}`);
    const options = { gateways: SITES.length, nodes: nodes.length, healers: 2, nats: 3 } as const;
    const cluster = await startCluster({ ...(process.env["KEEP_DIR"] ? { dir: process.env["KEEP_DIR"] } : {}),
      ...options,
      hostOf: (name) => network.addressOf(siteOf(name)),
      prefixOf: (name) => network.prefixOf(siteOf(name)),
      env: Object.fromEntries(nodes.map((name) => [name, { KINTSUGI_ZONE: siteOf(name) }])),
      // What four nodes can hold.
      settings: { cluster: { bucketDefaults: { k: 2, m: 1 } } },
    });
    stack.defer(async () => { console.log("D cluster"); await cluster[Symbol.asyncDispose](); console.log("D cluster gone"); });
    const inspector = await openInspector(cluster); stack.defer(async () => { console.log("D inspector"); await inspector[Symbol.asyncDispose](); console.log("D inspector gone"); });
    const opened = stack.move();
    const world = { seed, network, cluster, inspector, load: loadOf(seed), counted: new CountedKeys(COUNTED_KEYS) };
    return { ...world, [Symbol.asyncDispose]: () => opened.disposeAsync() };
  } catch (cause) {
    await stack.disposeAsync();
    throw cause;
  }
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

/** Takes a site from the others and gives it back. */
async function loseSite(world: World, site: Site, lose: "cutOff" | "mute" | "deafen"): Promise<void> {
  const { seed, network, cluster, load, counted } = world;
  const context = `seed ${seed}, ${site} ${lose}`;
  const say = (what: string) => console.log(`cluster-partition: ${site} ${lose}: ${what}`);
  const others = SITES.filter((other) => other !== site);
  const healer = await leadFrom(world, site);
  await makeLeader(cluster, memberOf("nats", site), LED_BY_THE_LONELY);
  const writes = everyWrite(`every/${site}-${lose}`);
  using lonely = new RecordedClient(gatewayAt(world, site).url);
  await writes.prepare(lonely);
  await underLoad(world, others[0] as Site, async (clients) => {
    await Promise.all(SITES.map((each) => afterWrites(clients[each], 0, 8)));
    await network[lose](site);
    const lostMs = performance.now();
    const answers = writes.send(lonely);
    const goesOn = others.map((other) => afterWrites(clients[other], lostMs, 1));
    const takesOver = until("another healer to lead", FAILOVER_MS_MAX, async () => {
      const leader = (await readHealth(gatewayAt(world, others[0] as Site).url))?.coordination.leader ?? null;
      return leader !== null && leader !== healer;
    }).then(() => performance.now());
    say(`the others go on after ${(await Promise.all(goesOn)).map((ms) => Math.round(ms - lostMs)).join(" and ")} ms`);
    say(`another healer leads after ${Math.round((await takesOver) - lostMs)} ms`);
    const calmMs = performance.now();
    const steady = others.map((other) => afterWrites(clients[other], calmMs, 15));
    await Promise.all(steady);
    for (const other of others) {
      const since = clients[other].writesSince(calmMs);
      say(`${other}: ${since.filter(isAcknowledged).length} of ${since.length} since calm; ${summary(since)}`);
    }
    say(`answers ${JSON.stringify([...(await answers)])} after ${Math.round(performance.now() - lostMs)}`);
    const alone = [...clients[site].writesSince(lostMs), ...lonely.writesSince(lostMs)];
    say(`alone ${summary(alone)}; longest ${Math.max(...alone.map((each) => each.endedMs - each.startedMs))}`);
    expect(alone.filter(({ status }) => status < 500)).toEqual([]);
    const healedMs = performance.now();
    await network.heal();
    say(`healed at ${Math.round(healedMs - lostMs)}`);
    const back = afterWrites(clients[site], healedMs, 1);
    await untilHealth(cluster, "ok");
    say(`ok after ${Math.round(performance.now() - healedMs)}`);
    say(`back after ${Math.round((await back) - healedMs)}`);
    await Promise.all(SITES.map((each) => afterWrites(clients[each], performance.now(), 3)));
  }).finally(() => network.heal());
  say(JSON.stringify([...counted.seenCounts]));
  expect(counted.stale).toEqual([]);
  await checkGateways(cluster, load, context, "open");
  await checkEvery(world, writes);
}

function summary(requests: readonly { status: number }[]): string {
  const counts: Record<number, number> = {};
  for (const { status } of requests) counts[status] = (counts[status] ?? 0) + 1;
  return JSON.stringify(counts);
}

async function checkEvery({ cluster }: World, { journals }: EveryWrite): Promise<void> {
  for (const { name, url } of cluster.gateways) {
    using client = new StoreClient(url);
    for (const journal of journals) {
      const { status, body } = await client.get(`/objects/${journal.key}`);
      journal.observe(status === 404 ? null : body, name);
    }
  }
}

/** Makes the healer of a site lead, where there is one, by sending the other away for a moment. Answers its name. */
async function leadFrom(world: World, site: Site): Promise<string> {
  const { cluster } = world;
  const wanted = memberOf("healer", site);
  const url = gatewayAt(world, site).url;
  const isLed = async () => (await readHealth(url))?.coordination.leader === wanted;
  await untilHealth(cluster, "ok");
  if (await isLed()) return wanted;
  const other = cluster.healers.filter(({ name }) => name !== wanted);
  await Promise.all(other.map((each) => each.stop()));
  await until(`${wanted} to lead`, FAILOVER_MS_MAX, isLed);
  await Promise.all(other.map((each) => each.restart()));
  await untilHealth(cluster, "ok");
  return wanted;
}

/** Lets clients write and read at all sites until `fault` has run. Fails when the store contradicts itself meanwhile. */
async function underLoad(
  { cluster, load, counted }: World,
  writer: Site,
  fault: (clients: Clients) => Promise<void>,
): Promise<void> {
  let stopped = false;
  const isOver = () => stopped;
  using stack = new DisposableStack();
  const clientAt = (site: Site) => stack.use(new RecordedClient(gatewayIn(cluster, site).url));
  const clients = { a: clientAt("a"), b: clientAt("b"), c: clientAt("c") };
  const running = Promise.all([
    ...load.clients.map((client, index) => client.run(clients[SITES[index % SITES.length] as Site], isOver)),
    counted.write(clients[writer], isOver),
    ...SITES.flatMap((site) => [0, 1].map(() => counted.read(clients[site], `gateway ${site}`, isOver))),
  ]);
  running.catch(() => {});
  try {
    await Promise.race([fault(clients), running]);
  } finally {
    stopped = true;
    await running;
  }
}

/** Waits until so many writes that began at this time or later were acknowledged; answers when. */
async function afterWrites(client: RecordedClient, sinceMs: number, count: number): Promise<number> {
  const acknowledged = () => client.writesSince(sinceMs).filter(isAcknowledged);
  await until(`${count} writes through ${client.url.host}`, FAILOVER_MS_MAX, () => {
    return Promise.resolve(acknowledged().length >= count);
  });
  return Math.min(...acknowledged().map(({ endedMs }) => endedMs));
}

function gatewayAt({ cluster }: World, site: Site) {
  return gatewayIn(cluster, site);
}

function gatewayIn(cluster: LocalCluster, site: Site) {
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
