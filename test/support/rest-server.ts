/** A REST server over objects in memory, for tests of the door: in this process, or a child on any runtime. */
import { Registry } from "prom-client";
import type { NodeInfo } from "../../src/domain/node-info.ts";
import type { BucketName, NodeName } from "../../src/domain/ids.ts";
import type { ClusterView } from "../../src/gateway/cluster-view.ts";
import { registerProcessMetrics } from "../../src/gateway/metrics.ts";
import { startRestServer, type RestServerParts, type RestSettings } from "../../src/gateway/rest/server.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { systemRandom } from "../../src/lib/random.ts";
import { createMemoryObjects } from "./memory-objects.ts";
import { createTestDesk } from "./test-desk.ts";

/** Where a REST door listens, whatever is behind it. */
export type RestTarget = AsyncDisposable & { readonly url: string };
export type StartRest = () => Promise<RestTarget>;

export const REST_SETTINGS: RestSettings = {
  host: "127.0.0.1",
  port: 0,
  objectBytesMax: 2 ** 40,
  connectionsMax: 1_000,
  bodyBytesPerSecondMin: 1_024,
  writesPerSecondMax: null,
  trustedProxies: [],
  drainMs: 5_000,
};

export type TestRest = RestTarget & { readonly port: number; close(): Promise<void>; connections(): number };

export async function startTestRest(
  settings: Partial<RestSettings> = {},
  parts: Partial<RestServerParts> = {},
): Promise<TestRest> {
  const registry = new Registry();
  registerProcessMetrics(registry);
  const server = await startRestServer(
    {
      ...{ clock: systemClock, random: systemRandom, logger: silentLogger, registry, version: "0.0.0-test" },
      api: createMemoryObjects(
        settings.objectBytesMax === undefined ? {} : { objectBytesMax: settings.objectBytesMax },
      ),
      cluster: createTestCluster(),
      desk: createTestDesk(),
      onBug: (cause) => {
        throw cause;
      },
      ...parts,
    },
    { ...REST_SETTINGS, ...settings },
  );
  return {
    ...server,
    url: `http://127.0.0.1:${server.port}`,
    [Symbol.asyncDispose]: () => server.close(),
  };
}

const HEALING = { replicationLag: 0, jobsOpen: 0, meanRepairMs: null };

export function createTestCluster(states: readonly NodeInfo["state"][] = ["live", "live", "live"]): ClusterView {
  const nodes = states.map((state, index): NodeInfo => ({
    ...{ name: `n${index + 1}` as NodeName, state, region: "r", zone: "z", weight: 1 },
  }));
  const usage = {
    ...{ blobCount: 2, liveBytes: 300, fileBytes: 4_096, volumeCount: 1, quarantinedCount: 0, diskFreeBytes: 1e9 },
  };
  return {
    nodes: () => nodes,
    watch: () => () => {},
    writeNodesMin: 2,
    cache: () => ({ hits: 30, misses: 10, hitRate: 0.75, evictions: 1, entries: 2, bytes: 3_000, bytesMax: 64_000 }),
    processes: () => [],
    coordination: () => Promise.resolve(null),
    healing: () => HEALING,
    snapshot: () =>
      Promise.resolve({
        nodes: nodes.map((info) => ({ info, usage: info.state === "down" ? null : usage })),
        buckets: [{ bucket: "default" as BucketName, objectCount: 3, objectBytes: 600 }],
        ...{ inFlightBytes: 7, inFlightBytesMax: 1_000, openIntents: 1 },
        ...{ processes: [], coordination: null, streams: [], healing: HEALING },
      }),
  };
}
