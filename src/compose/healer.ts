import type { Registry } from "prom-client";
import type { Config } from "../config.ts";
import { portOf } from "../config.ts";
import type { StoreError } from "../domain/errors.ts";
import { leadWhileHeld } from "../healer/leadership.ts";
import { createHealerMetrics } from "../healer/metrics.ts";
import type { EventPublisher } from "../healer/nats-event-publisher.ts";
import { startEventPublisher } from "../healer/nats-event-publisher.ts";
import type { Recovery } from "../healer/recovery-loop.ts";
import { startRecovery } from "../healer/recovery-loop.ts";
import type { HealerStatus } from "../healer/status.ts";
import { healerStatus } from "../healer/status.ts";
import type { LeaseGrant } from "../lease/lease.ts";
import { openNatsLease } from "../lease/nats-lease.ts";
import { ActiveWrites } from "../object/active-writes.ts";
import { createObjectMetrics } from "../object/metrics.ts";
import { openClusterPorts } from "./cluster-ports.ts";
import { HEALER_LEASE } from "./cluster-view.ts";
import { createRegistry } from "./object-paths.ts";
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
 * Builds a healer of a cluster. All compete; the one that leads settles what dead gateways left and publishes change
 * events.
 * @throws {StoreError} `data_dir_locked` and those of joining a cluster
 */
export async function openHealer(config: Config, system: System): Promise<OpenHealer> {
  const open = new AsyncDisposableStack();
  const { clock, logger } = system;
  try {
    const registry = createRegistry();
    let term: { readonly recovery: Recovery; readonly events: EventPublisher } | null = null;
    const load = () => {
      const recovery = term?.recovery.status();
      return { openIntents: recovery?.openIntents ?? Number.NaN, eventLag: term?.events.lag ?? Number.NaN };
    };
    const self = { role: "healer", port: portOf(config, "healer"), load } as const;
    const { link, failed, ...ports } = await openClusterPorts(config, system, self, registry, open);
    const lease = await openNatsLease(link);
    open.defer(() => lease.close());
    const healerMetrics = createHealerMetrics(registry, clock);
    const recoveryDeps = {
      ...{ ...ports, clock, logger, healerMetrics },
      metrics: createObjectMetrics(registry),
      active: new ActiveWrites(),
      waitMs: config.timeouts.nodeMs,
    };
    const lead = (grant: LeaseGrant): AsyncDisposable => {
      const recovery = startRecovery(recoveryDeps, { kind: "leading", grant });
      const events = startEventPublisher(link, {
        streamCount: config.cluster.metadataStreams,
        maxAgeMs: config.events.ageMsMax,
        bytesMax: config.events.bytesMax,
        isHeld: () => grant.isHeld(),
        registry,
      });
      term = { recovery, events };
      return {
        async [Symbol.asyncDispose]() {
          term = null;
          await Promise.all([recovery[Symbol.asyncDispose](), events[Symbol.asyncDispose]()]);
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
      status: () => ({ ...healerStatus(leadership, term?.recovery ?? null), eventLag: term?.events.lag ?? null }),
      failed,
      close: () => opened.disposeAsync(),
    };
  } catch (cause) {
    await open.disposeAsync();
    throw cause;
  }
}
