import type { Registry } from "prom-client";
import type { Config } from "../config.ts";
import { portOf } from "../config.ts";
import type { StoreError } from "../domain/errors.ts";
import { leadWhileHeld } from "../healer/leadership.ts";
import { createHealerMetrics } from "../healer/metrics.ts";
import type { EventPublisher } from "../healer/nats-event-publisher.ts";
import { startEventPublisher } from "../healer/nats-event-publisher.ts";
import type { HealerStatus } from "../healer/status.ts";
import { healerStatus } from "../healer/status.ts";
import type { LeaseGrant } from "../lease/lease.ts";
import { openNatsLease } from "../lease/nats-lease.ts";
import { ContentCache } from "../object/content-cache.ts";
import { openClusterPorts } from "./cluster-ports.ts";
import { HEALER_LEASE } from "./cluster-view.ts";
import type { ClusterTerm } from "./healing.ts";
import { HEALER_THREADS_MAX, openClusterHealing } from "./healing.ts";
import { createObjectDeps, createRegistry } from "./object-paths.ts";
import type { System } from "./system.ts";

export type OpenHealer = {
  readonly name: string;
  readonly registry: Registry;
  readonly status: () => HealerStatus & { readonly eventLag: number | null };
  /** Settles when another process took this one's name. */
  readonly failed: Promise<StoreError>;
  close(): Promise<void>;
};

/** How long a healer that does not lead waits before it tries again. */
const LEASE_RETRY_MS = 1_000;

/**
 * Builds a healer of a cluster. All do the work that waits and compete for the lead; the one that leads looks for more,
 * settles what dead gateways left, answers operators and publishes change events.
 * @throws {StoreError} `data_dir_locked` and those of joining a cluster
 */
export async function openHealer(config: Config, system: System): Promise<OpenHealer> {
  const open = new AsyncDisposableStack();
  const { clock, logger } = system;
  try {
    const registry = createRegistry();
    let term: { readonly healing: ClusterTerm; readonly events: EventPublisher } | null = null;
    let mendedCount = () => Number.NaN;
    const load = () => ({ mendedCount: mendedCount(), ...loadOf(term) });
    const self = { role: "healer", port: portOf(config, "healer"), load } as const;
    const { link, failed, ...ports } = await openClusterPorts(config, system, self, registry, open);
    const lease = await openNatsLease(link);
    open.defer(() => lease.close());
    const healerMetrics = createHealerMetrics(registry, clock);
    const threads = Math.min(HEALER_THREADS_MAX, config.threads);
    const memory = { inFlightBytesMax: config.healing.repairBytesInFlight };
    // What is mended is read once: nothing is kept for the next reader.
    const cache = new ContentCache(clock, { ...config.cache, bytesMax: 0 });
    const parts = { ...ports, cache, registry, processName: link.processName, locality: localityOf(config) };
    const deps = createObjectDeps({ ...config, threads, memory }, system, parts, open);
    open.defer(() => deps.releaser.close());
    const healing = await openClusterHealing({ ...ports, config, registry, link, deps }, open);
    ({ mendedCount } = healing);
    const lead = async (grant: LeaseGrant): Promise<AsyncDisposable> => {
      const begun = await healing.lead(grant, healerMetrics);
      const events = startEventPublisher(link, {
        streamCount: config.cluster.metadataStreams,
        maxAgeMs: config.events.ageMsMax,
        bytesMax: config.events.bytesMax,
        isHeld: () => grant.isHeld(),
        registry,
      });
      term = { healing: begun, events };
      return {
        async [Symbol.asyncDispose]() {
          term = null;
          await Promise.all([begun[Symbol.asyncDispose](), events[Symbol.asyncDispose]()]);
        },
      };
    };
    const competitor = { name: HEALER_LEASE, holder: link.processName, retryMs: LEASE_RETRY_MS };
    const leadership = leadWhileHeld(lease, { ...competitor, clock, logger, metrics: healerMetrics }, lead);
    open.use(leadership);
    const opened = open.move();
    return {
      name: link.processName,
      registry,
      status: () => ({
        ...healerStatus(leadership, term === null ? null : term.healing.recovery()),
        eventLag: term?.events.lag ?? null,
      }),
      failed,
      close: () => opened.disposeAsync(),
    };
  } catch (cause) {
    await open.disposeAsync();
    throw cause;
  }
}

/** What only the leader knows is told by nobody else. */
function loadOf(term: { readonly healing: ClusterTerm; readonly events: EventPublisher } | null) {
  if (term === null) return {};
  const { replicationLag, jobsOpen, meanRepairMs } = term.healing.status();
  return {
    openIntents: term.healing.recovery().openIntents ?? Number.NaN,
    eventLag: term.events.lag,
    replicationLag: replicationLag ?? Number.NaN,
    jobsOpen,
    meanRepairMs: meanRepairMs ?? Number.NaN,
  };
}

function localityOf({ region, zone }: Config) {
  return { region, zone };
}
