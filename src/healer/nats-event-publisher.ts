/**
 * Publishes change events, for the leading healer alone: from the outbox that each metadata stream holds, where they are
 * stored together with the commits they tell of, to the stream that subscribers read.
 */
import type { Registry } from "prom-client";
import { isStoreError } from "../domain/errors.ts";
import { ensureStream } from "../nats/nats-ensure-stream.ts";
import type { NatsLink } from "../nats/nats-link.ts";
import { eventMetricsOf } from "./event-metrics.ts";
import type { EventLimits } from "./nats-events-stream.ts";
import { eventsStreamConfig } from "./nats-events-stream.ts";
import type { OutboxRelay } from "./nats-outbox-relay.ts";
import { relayOutbox } from "./nats-outbox-relay.ts";

export type EventPublisherOptions = EventLimits & {
  /** Metadata streams of the cluster. */
  readonly streamCount: number;
  readonly registry: Registry | null;
  /** Asked before every batch, so that a leader that was paused publishes nothing more. */
  readonly isHeld?: () => boolean;
};

export type EventPublisher = AsyncDisposable & {
  /** Batches of commits whose events are not published, as far as known. */
  readonly lag: number;
};

const RETRY_MS = 2_000;

/** Begins to publish and goes on until disposed, which waits for the batch under way; at least once, in order per key. */
export function startEventPublisher(link: NatsLink, options: EventPublisherOptions): EventPublisher {
  const { registry, streamCount } = options;
  const metrics = registry === null ? null : eventMetricsOf(registry);
  const stop = new AbortController();
  let relays: readonly OutboxRelay[] = [];
  const lagOf = () => relays.reduce((sum, relay) => sum + relay.lag, 0);

  const starting = (async () => {
    if (!(await ensureEventsStream(link, options, stop.signal))) return;
    relays = Array.from({ length: streamCount }, (_, index) =>
      relayOutbox(link, {
        index,
        isHeld: options.isHeld ?? (() => true),
        onProgress(publishedCount) {
          metrics?.published.inc(publishedCount);
          metrics?.lag.set(lagOf());
        },
      }),
    );
  })();

  return {
    get lag() {
      return lagOf();
    },
    async [Symbol.asyncDispose]() {
      stop.abort();
      await starting;
      await Promise.all(relays.map((relay) => relay[Symbol.asyncDispose]()));
      metrics?.lag.set(0);
    },
  };
}

/** Whether it is there, with these limits; false when `signal` aborts before. */
async function ensureEventsStream(link: NatsLink, limits: EventLimits, signal: AbortSignal): Promise<boolean> {
  const config = eventsStreamConfig(link, limits);
  while (!signal.aborted && !link.connection.isClosed()) {
    try {
      await ensureStream(link, config, { whenDifferent: "update", waitMs: RETRY_MS });
      return true;
    } catch (cause) {
      if (!isStoreError(cause)) throw cause;
      link.logger.error({ code: cause.code, cause: cause.message }, "change events cannot be published yet");
      await link.clock.sleep(RETRY_MS, signal);
    }
  }
  return false;
}
