import type { Registry } from "prom-client";
import type { Config } from "../config.ts";
import { portOf } from "../config.ts";
import type { HealingDesk } from "../desk/healing-desk.ts";
import { openNatsHealingDesk } from "../desk/nats-healing-desk.ts";
import type { StoreError } from "../domain/errors.ts";
import type { ClusterView } from "../gateway/cluster-view.ts";
import type { ObjectApi } from "../gateway/object-api.ts";
import { createNatsHeatReporter } from "../heat/nats-heat-channel.ts";
import { openNatsLease } from "../lease/nats-lease.ts";
import type { NatsLink } from "../nats/nats-link.ts";
import { openClusterPorts } from "./cluster-ports.ts";
import { createClusterView } from "./cluster-view.ts";
import { spoilGateway } from "./deliberate-bugs.ts";
import { openLink } from "./join-cluster.ts";
import { bindObjectApi, createContentCache, createObjectDeps, createRegistry, reportHeat } from "./object-paths.ts";
import type { System } from "./system.ts";

export type OpenGateway = {
  /** For the NATS door alone. */
  readonly doorLink: NatsLink;
  readonly api: ObjectApi;
  readonly cluster: ClusterView;
  readonly desk: HealingDesk;
  readonly registry: Registry;
  /** Settles when another process took this one's name, or its index met a storage error. */
  readonly failed: Promise<StoreError>;
  close(): Promise<void>;
};

/**
 * Builds a gateway of a cluster: the object paths over NATS and remote nodes. Its doors are opened by the role.
 * @throws {StoreError} `data_dir_locked` and those of joining a cluster
 */
export async function openGateway(config: Config, system: System): Promise<OpenGateway> {
  const open = new AsyncDisposableStack();
  try {
    const registry = createRegistry();
    const cache = createContentCache(config, system, registry);
    const load = () => {
      const { hits, misses, bytes } = cache.figures();
      return { cacheHits: hits, cacheMisses: misses, cacheBytes: bytes };
    };
    const self = { role: "gateway", port: portOf(config, "gateway"), load } as const;
    const { link, failed, ...ports } = await openClusterPorts(config, system, self, registry, open);
    const doorLink = await openLink(config, system, "gateway", open);
    const lease = await openNatsLease(link);
    open.defer(() => lease.close());
    const locality = { region: config.region, zone: config.zone };
    const metadata = spoilGateway(ports.metadata, config.testBug, system.clock);
    const parts = { ...ports, metadata, cache, registry, processName: link.processName, locality };
    const deps = createObjectDeps(config, system, parts, open);
    open.defer(() => deps.releaser.close());
    open.use(reportHeat(config, deps, createNatsHeatReporter(link)));
    const { metadataStreams } = config.cluster;
    const indexLag = () => ports.metadata.indexLag();
    const cluster = createClusterView(deps, config, { link, lease, indexLag, metadataStreams });
    const desk = openNatsHealingDesk(link);
    open.defer(() => desk.close());
    const opened = open.move();
    return {
      ...{ doorLink, registry, cluster, desk },
      failed,
      api: bindObjectApi(deps),
      close: () => opened.disposeAsync(),
    };
  } catch (cause) {
    await open.disposeAsync();
    throw cause;
  }
}
