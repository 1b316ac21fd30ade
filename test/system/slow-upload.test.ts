/** Uploads that last longer than everything that might take what they have written so far for rubbish. */
import { expect, test } from "vitest";
import type { HealingJob } from "../../src/domain/healing.ts";
import { openInspector } from "../support/cluster-inspector.ts";
import { checkSettled } from "../support/cluster-load.ts";
import { startCluster } from "../support/cluster.ts";
import { startServe } from "../support/serve.ts";
import { noise } from "../support/store.ts";

const NODE_MS = 2_000;
/** Every horizon as short as it can be set. */
const SETTINGS = {
  healing: { auditEveryMs: "1s", orphanGraceMs: "1s", undeleteMs: "0" },
  timeouts: { nodeMs: `${NODE_MS}ms` },
};
const ENV = {
  KINTSUGI_HEALING_AUDIT_EVERY_MS: "1s",
  KINTSUGI_HEALING_ORPHAN_GRACE_MS: "1s",
  KINTSUGI_HEALING_UNDELETE_MS: "0",
  KINTSUGI_TIMEOUTS_NODE_MS: `${NODE_MS}ms`,
};
const PAUSES = 3;
const AUDITS_PER_PAUSE = 3;
/** Longer than a node waits for anything. */
const PAUSE_MS = 3 * NODE_MS;
const POLL = { timeout: 30_000, interval: 100 };

const BODIES: readonly { readonly key: string; readonly strategy: string; readonly body: Buffer }[] = [
  { key: "shards", strategy: "ec", body: noise(12_000_000, 1) },
  { key: "copies", strategy: "replication", body: noise(5_000_000, 2) },
  { key: "fields", strategy: "field_hybrid", body: Buffer.from(`{"battery":81.0,"pad":"${"x".repeat(900_000)}"}`) },
];

/** Sends a part of each body, then nothing for a while in which audits come and go, and so on; then reads them all. */
async function uploadSlowly(url: string): Promise<void> {
  const uploads = BODIES.map(({ key, strategy, body }) => {
    const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
    const init = { method: "PUT", body: readable, duplex: "half" } as RequestInit;
    return {
      key,
      body,
      writer: writable.getWriter(),
      answer: fetch(`${url}/objects/${key}?strategy=${strategy}`, init),
    };
  });
  for (let part = 0; part <= PAUSES; part += 1) {
    if (part > 0) await Promise.all([runAudits(url), new Promise((resolve) => setTimeout(resolve, PAUSE_MS))]);
    const sendPart = async ({ body, writer }: (typeof uploads)[number]) => {
      const at = (index: number) => Math.floor((body.length * index) / (PAUSES + 1));
      await writer.write(body.subarray(at(part), at(part + 1)));
    };
    await Promise.all(uploads.map(sendPart));
  }
  for (const { key, body, writer, answer } of uploads) {
    await writer.close();
    expect((await answer).status, key).toBe(201);
    expect(Buffer.from(await (await fetch(`${url}/objects/${key}`)).arrayBuffer()).equals(body), key).toBe(true);
  }
  await runAudits(url);
  for (const { key, body } of uploads) {
    expect(Buffer.from(await (await fetch(`${url}/objects/${key}`)).arrayBuffer()).equals(body), key).toBe(true);
  }
}

async function runAudits(url: string): Promise<void> {
  for (let count = 0; count < AUDITS_PER_PAUSE; count += 1) {
    const { id } = (await (await fetch(`${url}/cluster/healing/audit`, { method: "POST" })).json()) as HealingJob;
    const state = async () =>
      ((await (await fetch(`${url}/cluster/healing/jobs/${id}`)).json()) as HealingJob).state as string;
    await expect.poll(state, POLL).toBe("done");
  }
}

test("a store in one process keeps what a slow client sends", { timeout: 120_000 }, async () => {
  await using store = await startServe({ env: ENV });
  await uploadSlowly(store.url);
});

test("a cluster keeps what a slow client sends, and has nothing else in the end", { timeout: 180_000 }, async () => {
  await using cluster = await startCluster({ gateways: 1, nodes: 6, healers: 1, nats: 1, settings: SETTINGS });
  await using inspector = await openInspector(cluster);
  await uploadSlowly(cluster.url);
  await checkSettled(inspector, "after slow uploads");
  expect(await inspector.damaged()).toEqual([]);
});
