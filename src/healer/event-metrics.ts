import type { Registry } from "prom-client";
import { Counter, Gauge } from "prom-client";

/** What the publisher of change events counts, registered by the first term of a leader. */
export function eventMetricsOf(registry: Registry) {
  const published = registry.getSingleMetric(PUBLISHED) as Counter | undefined;
  const lag = registry.getSingleMetric(LAG) as Gauge | undefined;
  const registers = [registry];
  return {
    published: published ?? new Counter({ name: PUBLISHED, help: "Change events handed to subscribers", registers }),
    lag:
      lag ?? new Gauge({ name: LAG, help: "Batches of commits whose change events are not published yet", registers }),
  };
}

const PUBLISHED = "kintsugi_events_published_total";
const LAG = "kintsugi_outbox_lag_batches";
