import { expect, test } from "vitest";
import { drawCluster } from "../../../src/cli/cluster-map.ts";

const place = { region: "eu", zone: "eu-1", version: "0.1.0", silentMs: 10 };
const processes = [
  {
    ...{
      ...place,
      silentMs: 75_000,
      role: "gateway",
      name: "gateway-0",
      state: "down",
      address: "http://10.0.0.9:8000",
    },
    ...{ uptimeMs: 61_000, load: { cpuPercent: 12, rssBytes: 104_857_600, indexLag: 3 } },
  },
  {
    ...place,
    role: "gateway",
    name: "gateway-1",
    state: "live",
    address: "http://10.0.0.1:8000",
    uptimeMs: 61_000,
    load: { cpuPercent: 12, rssBytes: 104_857_600, indexLag: 3, cacheHits: 30, cacheMisses: 10, cacheBytes: 3_072 },
  },
  {
    ...place,
    role: "healer",
    name: "healer-1",
    state: "live",
    address: "http://10.0.0.1:8200",
    uptimeMs: 5_000,
    load: { cpuPercent: 1, rssBytes: 52_428_800, openIntents: 2, eventLag: 0 },
  },
  {
    ...{ ...place, silentMs: 4_200, role: "healer", name: "healer-2", state: "suspect", address: null },
    ...{ uptimeMs: 5_000, load: { cpuPercent: 7 } },
  },
  {
    ...place,
    role: "node",
    name: "node-1",
    state: "live",
    address: "http://10.0.0.2:8100",
    uptimeMs: 7_200_000,
    load: { cpuPercent: 3, rssBytes: 1_048_576, liveBytes: 1_000, blobCount: 4 },
  },
  {
    ...place,
    role: "node",
    name: "node-2",
    state: "live",
    address: "http://10.0.0.3:8100",
    uptimeMs: 172_800_000,
    load: {},
  },
];
const health = { status: "degraded", nodesLive: 1, nodesTotal: 2, problems: ["healer-2 is suspect", "node-2 is full"] };
const stats = {
  totals: { objectCount: 7, objectBytes: 2_048, liveBytes: 3_072, overhead: 1.5 },
  coordination: { leader: "healer-1", streamsWaiting: ["META_1"] },
  processes,
  nodes: [
    { name: "node-1", state: "live", usage: { blobCount: 5, liveBytes: 2_048, diskFreeBytes: 1_073_741_824 } },
    { name: "node-2", state: "full", usage: null },
  ],
  streams: [{ name: "META_0", leader: "nats-1", replicasCurrent: 2, replicasTotal: 3, messageCount: 9, bytes: 4_096 }],
};

test("drawCluster() says what is wrong, who leads, and what each holds", async () => {
  await expect(
    `${drawCluster(health, stats)
      ?.map((line) => line.trimEnd())
      .join("\n")}\n`,
  ).toMatchFileSnapshot("cluster-map.txt");
});

test("drawCluster() leaves a store of one process, and answers of another shape, to the outline", () => {
  expect(drawCluster(health, { ...stats, processes: [] })).toBeNull();
  expect(drawCluster({}, { nodes: 3 })).toBeNull();
});

test("drawCluster() never hands control characters on to the terminal", () => {
  const evil = { ...stats, processes: [{ ...processes[1], name: "\u001b[2Jgateway" }] };
  expect(drawCluster(health, evil)?.join("\n")).not.toContain("\u001b");
});
