/** A node that slept through a delete, its burial and the collection brings nothing of it back. */
import { expect, test } from "vitest";
import { KEPT_COPIES } from "../../src/domain/kept-record.ts";
import { isBuried } from "../../src/domain/record.ts";
import { openInspector } from "../support/cluster-inspector.ts";
import { checkSettled, SOON_COLLECTED, until } from "../support/cluster-load.ts";
import { startCluster, type ClusterMember } from "../support/cluster.ts";
import { noise } from "../support/store.ts";

const MENDED_MS = 90_000;
const BODY = new Uint8Array(noise(150_000, 7));
const STRATEGIES = ["inline", "replication", "ec"] as const;
/** Every node holds a part of every object, so also the one that sleeps. */
const NODES = 4;
const SETTINGS = {
  cluster: { bucketDefaults: { k: 2, m: 2, replicas: NODES, inlineBytesMax: "4KiB" } },
  healing: { ...SOON_COLLECTED, auditEveryMs: "2s", undeleteMs: "1s", keepRecordsMs: "1s", rebuildAfterMs: "10s" },
};

test("what was deleted stays deleted when a node returns that still holds it", { timeout: 300_000 }, async () => {
  await using cluster = await startCluster({ gateways: 1, nodes: NODES, healers: 1, nats: 1, settings: SETTINGS });
  await using inspector = await openInspector(cluster);
  const url = (key: string) => `${cluster.url}/objects/${key}`;
  for (const strategy of STRATEGIES) {
    const body = strategy === "inline" ? BODY.subarray(0, 1_000) : BODY;
    for (const name of ["deleted", "replaced"]) {
      const answer = await fetch(`${url(`${name}/${strategy}`)}?strategy=${strategy}`, { method: "PUT", body });
      expect(answer.status).toBe(201);
    }
  }
  const countAll = async () => {
    const counts = await Promise.all(cluster.nodes.map(({ name }) => inspector.countBlobs(name)));
    return counts.reduce((sum, count) => sum + count, 0);
  };
  await until("nodes to keep what only metadata knows", MENDED_MS, async () => {
    return (await countAll()) === 2 * KEPT_COPIES + 4 * NODES;
  });

  const sleeper = cluster.nodes[0] as ClusterMember;
  await sleeper.kill9();
  const next = Buffer.from("of later");
  for (const strategy of STRATEGIES) {
    expect((await fetch(url(`deleted/${strategy}`), { method: "DELETE" })).status).toBe(204);
    expect((await fetch(url(`replaced/${strategy}`), { method: "PUT", body: next })).status).toBe(200);
  }
  await until("burial", MENDED_MS, async () => {
    const tombstones = (await inspector.records()).filter(({ record }) => record.state === "tombstone");
    return tombstones.length === STRATEGIES.length && tombstones.every(({ record }) => isBuried(record));
  });
  await until("others to give up what was deleted", MENDED_MS, async () => (await inspector.orphans()).length === 0);

  await sleeper.restart();
  const expectGone = async () => {
    for (const strategy of STRATEGIES) {
      expect((await fetch(url(`deleted/${strategy}`))).status, strategy).toBe(404);
      expect((await fetch(`${url(`deleted/${strategy}`)}?undelete`, { method: "POST" })).status).toBe(410);
      expect(Buffer.from(await (await fetch(url(`replaced/${strategy}`))).arrayBuffer()).equals(next)).toBe(true);
    }
    const { objects } = (await (await fetch(`${cluster.url}/objects`)).json()) as { objects: unknown };
    expect(JSON.stringify(objects)).not.toContain("deleted/");
  };
  await expectGone();
  await checkSettled(inspector, "after the return");
  await expectGone();
  // What the sleeper still knew of what is gone is told by nobody any more, not even to a rebuild.
  await until("old records to go", MENDED_MS, async () => (await inspector.outdatedRecords()).length === 0);
});
