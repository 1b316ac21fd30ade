/** A node that joins a cluster while clients write comes to hold its share, and nothing is ever less safe for it. */
import { expect, test } from "vitest";
import { blobSetsOf } from "../../src/domain/manifest.ts";
import { openInspector, type ClusterInspector } from "../support/cluster-inspector.ts";
import { checkGateways, checkSettled, SOON_COLLECTED, underLoad, until } from "../support/cluster-load.ts";
import { startCluster } from "../support/cluster.ts";
import { openExtraMembers } from "../support/extra-member.ts";
import { createLoad } from "../support/load/load.ts";
import { noise } from "../support/store.ts";

const TIMEOUT_MS = 240_000;
const BALANCED_MS = 120_000;
const CLIENTS = 4;
const NODES = 4;
const OBJECTS = 60;
const OBJECT_BYTES = 200_000;
const NEW_NODE = "node-new";
/** Of what it would hold if all were alike: the last of it is not worth a move. */
const SHARE_MIN = 0.7;
const SETTINGS = {
  cluster: { bucketDefaults: { k: 2, m: 1 } },
  healing: { ...SOON_COLLECTED, balanceBytesMin: "0B" },
};

test("a new node fills up while clients write", { timeout: TIMEOUT_MS }, async () => {
  const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);
  console.log(`cluster-balance: seed ${seed}; SEED=${seed} repeats the workload`);
  const load = createLoad(seed, CLIENTS);
  await using cluster = await startCluster({ gateways: 1, nodes: NODES, healers: 1, nats: 1, settings: SETTINGS });
  await using nodes = openExtraMembers(cluster, "node");
  await using inspector = await openInspector(cluster);
  const url = (n: number) => `${cluster.url}/objects/o${n}`;
  const body = (n: number) => new Uint8Array(noise(OBJECT_BYTES, n + 1));
  for (let n = 0; n < OBJECTS; n += 1) {
    const strategy = n % 2 === 0 ? "ec" : "replication";
    const answer = await fetch(`${url(n)}?strategy=${strategy}&consistency=all`, { method: "PUT", body: body(n) });
    expect(answer.status).toBe(201);
  }
  const expectReadable = async () => {
    for (let n = 0; n < OBJECTS; n += 1) {
      expect(Buffer.from(await (await fetch(url(n))).arrayBuffer()).equals(body(n)), `o${n}`).toBe(true);
    }
  };

  await underLoad(cluster, load, async () => {
    await nodes.start(NEW_NODE);
    await until(`${NEW_NODE} to hold its share`, BALANCED_MS, async () => {
      const shares = await sharesOf(inspector);
      return (shares.get(NEW_NODE) ?? 0) >= SHARE_MIN;
    });
    await expectReadable();
  });
  await checkSettled(inspector, "after the moves");
  await checkGateways(cluster, load, "after the moves");
  await expectReadable();
  // Every object can lose a node, wherever its blobs are now.
  await cluster.nodes[0]?.kill9();
  await expectReadable();
});

/**
 * What each node is to hold by the records, in parts of what it would hold if all were alike. Sees on the way that no
 * record of the objects named a blob less, or two on one node.
 */
async function sharesOf(inspector: ClusterInspector): Promise<Map<string, number>> {
  const bytes = new Map<string, number>();
  for (const { record } of await inspector.records()) {
    for (const { sizeBytes, redundancy, nodes } of blobSetsOf(record.manifest)) {
      if (record.key.startsWith("o")) {
        expect(nodes, record.key).not.toContain(null);
        expect(new Set(nodes).size, record.key).toBe(nodes.length);
      }
      const each = sizeBytes / (redundancy.scheme === "ec" ? redundancy.k : 1);
      for (const node of nodes) if (node !== null) bytes.set(node, (bytes.get(node) ?? 0) + each);
    }
  }
  const mean = [...bytes.values()].reduce((sum, each) => sum + each, 0) / (NODES + 1);
  return new Map([...bytes].map(([node, each]) => [node, each / mean]));
}
