import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { ClusterSettings } from "../../../src/membership/nats-cluster-settings.ts";
import { joinClusterSettings } from "../../../src/membership/nats-cluster-settings.ts";
import { openKv } from "../../../src/nats/nats-kv.ts";
import type { NatsCluster } from "../../support/nats.ts";
import { startNats } from "../../support/nats.ts";
import { openTestLink } from "../../support/test-link.ts";

const SETTINGS: ClusterSettings = {
  format: 1,
  metadataStreams: 3,
  streamReplicas: 1,
  bucketDefaults: {
    strategy: "auto",
    k: 4,
    m: 2,
    replicas: 3,
    consistency: "quorum",
    inlineBytesMax: 512,
    replicationBytesMax: 65_536,
    hybridBytesMin: 16_384,
    hotFields: ["status", "mode"],
  },
  buckets: {},
};
const SECRET = "a secret of the whole cluster";

let nats: NatsCluster;
beforeAll(async () => void (nats = await startNats()));
afterAll(() => nats[Symbol.asyncDispose]());

let clusters = 0;

function newCluster() {
  const clusterName = `settings-${(clusters += 1)}`;
  const open = new AsyncDisposableStack();
  const link = async () => open.adopt(await openTestLink(nats, { clusterName }), (opened) => opened.close());
  return {
    link,
    join: async (settings = SETTINGS, secret = SECRET) => await joinClusterSettings(await link(), settings, secret),
    [Symbol.asyncDispose]: () => open.disposeAsync(),
  };
}

const mismatch = expect.objectContaining({ code: "cluster_mismatch", retriable: false });

describe("joinClusterSettings()", () => {
  test("takes whoever comes with the same settings, in whatever order they are written", async () => {
    await using cluster = newCluster();
    expect(await cluster.join()).toEqual(SETTINGS);
    const { k, ...others } = SETTINGS.bucketDefaults;
    const bucketDefaults = { ...others, hotFields: ["mode", "status"], k };
    expect(await cluster.join({ ...SETTINGS, bucketDefaults })).toMatchObject({ metadataStreams: 3 });
  });

  test("takes many first ones at once", async () => {
    await using cluster = newCluster();
    await Promise.all([1, 2, 3, 4, 5].map(() => cluster.join()));
  });

  test("lets one of many different first ones decide, and refuses the others", async () => {
    await using cluster = newCluster();
    const joins = [1, 2, 3, 4].map((metadataStreams) => cluster.join({ ...SETTINGS, metadataStreams }));
    const outcomes = await Promise.allSettled(joins);
    expect(outcomes.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
    for (const outcome of outcomes) if (outcome.status === "rejected") expect(outcome.reason).toEqual(mismatch);
  });

  test("names every difference with both values, and says that they are fixed", async () => {
    await using cluster = newCluster();
    await cluster.join();
    const refused = cluster.join({
      ...SETTINGS,
      metadataStreams: 5,
      bucketDefaults: { ...SETTINGS.bucketDefaults, m: 1, hotFields: ["status"] },
      buckets: { telemetry: SETTINGS.bucketDefaults },
    });
    await expect(refused).rejects.toThrow(mismatch);
    await expect(refused).rejects.toThrow("cluster.metadataStreams (there 3, here 5)");
    await expect(refused).rejects.toThrow("cluster.bucketDefaults.m (there 2, here 1)");
    await expect(refused).rejects.toThrow('cluster.bucketDefaults.hotFields (there also "mode", here nothing more)');
    await expect(refused).rejects.toThrow("cluster.buckets.telemetry (there nothing, here {");
    await expect(refused).rejects.toThrow("fixed since it was made");
  });

  test("refuses another secret, and keeps none where it could be read", async () => {
    await using cluster = newCluster();
    await cluster.join();
    const refused = cluster.join(SETTINGS, "another secret, just as long");
    await expect(refused).rejects.toThrow(mismatch);
    await expect(refused).rejects.toThrow(/secret of this process is not the one.*KINTSUGI_CLUSTER_SECRET/);
    await expect(refused).rejects.not.toThrow("another secret, just as long");
    const link = await cluster.link();
    const entry = await (await openKv(link, link.names.settingsBucket)).get("settings");
    expect(Buffer.from(entry!.value).includes(SECRET)).toBe(false);
  });

  test("keeps the same secret under different salts", async () => {
    await using one = newCluster();
    await using two = newCluster();
    const digests = await Promise.all(
      [one, two].map(async (cluster) => {
        await cluster.join();
        const link = await cluster.link();
        const entry = await (await openKv(link, link.names.settingsBucket)).get("settings");
        return Buffer.from(entry!.value).toString("hex");
      }),
    );
    expect(digests[0]).not.toBe(digests[1]);
  });

  test("refuses settings that a program of another time has stored", async () => {
    await using cluster = newCluster();
    const link = await cluster.link();
    await (await openKv(link, link.names.settingsBucket)).put("settings", Uint8Array.of(2, 0xc0));
    await expect(cluster.join()).rejects.toThrow(expect.objectContaining({ code: "format_unknown" }));
  });

  test("waits for servers that are just starting", async () => {
    await using own = await startNats();
    const link = await openTestLink(own, { clusterName: "late" });
    await own.servers[0]!.kill9();
    const joining = joinClusterSettings(link, SETTINGS, SECRET);
    await own.servers[0]!.restart();
    expect(await joining).toEqual(SETTINGS);
    await link.close();
  });
});
