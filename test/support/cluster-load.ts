/** Keeps clients writing to a cluster while a test breaks it, and holds it to what they were told. */
import { expect } from "vitest";
import { StoreClient } from "./black-box/client.ts";
import type { ClusterInspector } from "./cluster-inspector.ts";
import type { LocalCluster } from "./cluster.ts";
import { checkKeys, checkListing, type Load, type Outcomes } from "./load/load.ts";

const POLL_MS = 250;
const HEALTHY_MS_MAX = 60_000;
/** Recovery leaves writes of gateways that live alone for a while. */
const SETTLED_MS_MAX = 150_000;
const ALIKE_MS_MAX = 10_000;

/**
 * Of clusters that `checkSettled` looks at: a blob that mending made while its object was overwritten is named by nobody, and goes
 * with the collection, by default hours later.
 */
export const SOON_COLLECTED = { auditEveryMs: "10s", orphanGraceMs: "5s" };

/** Lets the clients write through the front door until `fault` has run. Fails when the store contradicts itself meanwhile. */
export async function underLoad(cluster: LocalCluster, load: Load, fault: () => Promise<void>): Promise<void> {
  let stopped = false;
  const front = new StoreClient(cluster.url, load.clients.length);
  const running = Promise.all(load.clients.map((client) => client.run(front, () => stopped)));
  running.catch(() => {});
  try {
    await Promise.race([fault(), running]);
  } finally {
    stopped = true;
    await running.finally(() => front[Symbol.dispose]());
  }
}

/** Waits until `count` more writes were acknowledged. */
export async function afterWrites(load: Load, count: number): Promise<void> {
  const wanted = load.tally.acknowledged + count;
  await until(`${count} acknowledged writes`, HEALTHY_MS_MAX, () => Promise.resolve(load.tally.acknowledged >= wanted));
}

/** Waits until every gateway that runs calls the cluster by one of these words. */
export async function untilHealth(cluster: LocalCluster, ...wanted: readonly string[]): Promise<void> {
  for (const gateway of cluster.gateways.filter(({ isRunning }) => isRunning)) {
    await until(`${gateway.name} to say ${wanted.join(" or ")}`, HEALTHY_MS_MAX, async () => {
      const health = await readHealth(gateway.url);
      return health !== null && wanted.includes(health.status);
    });
  }
}

export type Health = { readonly status: string; readonly coordination: { readonly leader: string | null } };

export async function readHealth(url: string): Promise<Health | null> {
  try {
    return (await (await fetch(`${url}/cluster/health`)).json()) as Health;
  } catch {
    return null;
  }
}

/** Every key reads alike and as promised through every gateway that runs, and so do the listings. */
export async function checkGateways(
  cluster: LocalCluster,
  load: Load,
  context: string,
  outcomes: Outcomes = "settled",
): Promise<void> {
  const gateways = cluster.gateways.filter(({ isRunning }) => isRunning);
  for (const gateway of gateways) {
    using client = new StoreClient(gateway.url, 16);
    const seen = `${context}, ${gateway.name}`;
    const read = async (key: string) => {
      const answer = await client.get(`/objects/${key}`);
      if (answer.status === 404) return null;
      expect(answer.status, `${seen}: ${key}: ${answer.body.toString().slice(0, 300)}`).toBe(200);
      return answer.body;
    };
    await checkKeys(load, seen, read, outcomes);
  }
  const listAlike = async () => {
    const listings = await Promise.all(gateways.map(({ url }) => listAll(url)));
    for (const [index, versions] of listings.entries()) {
      checkListing(load, new Set(versions.keys()), `${context}, ${gateways[index]?.name}`);
    }
    return new Set(listings.map((versions) => JSON.stringify([...versions]))).size === 1;
  };
  // What recovery completes between two looks is seen by one of them.
  if (outcomes === "open") await until(`${context}: gateways to list alike`, ALIKE_MS_MAX, listAlike);
  else expect(await listAlike(), `${context}: gateways list alike`).toBe(true);
}

/** Waits until no intent is open, then sees that nodes hold what records name, and nothing else. */
export async function checkSettled(inspector: ClusterInspector, context: string): Promise<void> {
  let open: readonly string[] = [];
  await until("open intents to be settled", SETTLED_MS_MAX, async () => {
    open = await inspector.openIntents();
    return open.length === 0;
  }).catch((cause: unknown) => {
    throw new Error(`${context}: still open: ${open.slice(0, 5).join("; ")} and ${Math.max(0, open.length - 5)} more`, {
      cause,
    });
  });
  expect(await inspector.missing(), `${context}: blobs that records name and nodes lack`).toEqual([]);
  // Replaced blobs of writes whose intents were settled just now may be on their way out, others wait for the collector.
  await until("orphans to go", HEALTHY_MS_MAX, async () => (await inspector.orphans()).length === 0).catch(async () => {
    expect(await inspector.orphans(), `${context}: orphans`).toEqual([]);
  });
}

export async function until(what: string, msMax: number, isSo: () => Promise<boolean>): Promise<void> {
  const endMs = performance.now() + msMax;
  while (!(await isSo())) {
    if (performance.now() > endMs) throw new Error(`Waited ${msMax} ms for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

/** Versions by key. */
async function listAll(url: string): Promise<Map<string, string>> {
  using client = new StoreClient(url);
  const versions = new Map<string, string>();
  for (let after = ""; ;) {
    const answer = await client.get(`/objects?limit=1000&after=${encodeURIComponent(after)}`);
    const page = JSON.parse(answer.body.toString()) as {
      objects: { key: string; version: string }[];
      next: string | null;
    };
    for (const { key, version } of page.objects) versions.set(key, version);
    if (page.next === null) return versions;
    after = page.next;
  }
}
