import type { Registry } from "prom-client";
import { Counter, Gauge } from "prom-client";
import type { CacheFigures, ContentCache } from "./content-cache.ts";

/** What the object paths count. Registered once per process. */
export type ObjectMetrics = ReturnType<typeof createObjectMetrics>;

export function createObjectMetrics(registry: Registry) {
  const registers = [registry];
  return {
    writes: new Counter({
      name: "kintsugi_object_writes_total",
      help: "Committed writes by strategy",
      labelNames: ["strategy"],
      registers,
    }),
    contentBytes: new Counter({
      name: "kintsugi_object_content_bytes_total",
      help: "Bytes of content by direction: in (committed), out (handed to a reader)",
      labelNames: ["direction"],
      registers,
    }),
    nodeBytesWritten: new Counter({
      name: "kintsugi_node_bytes_written_total",
      help: "Payload bytes sent to nodes, copies and parity included",
      registers,
    }),
    hotUpdates: new Counter({
      name: "kintsugi_hot_updates_total",
      help: "Writes that changed hot fields only and touched no node",
      registers,
    }),
    degradedReads: new Counter({
      name: "kintsugi_degraded_reads_total",
      help: "Stripes that were read around a missing or damaged blob",
      registers,
    }),
    hedgesStarted: new Counter({
      name: "kintsugi_hedged_reads_total",
      help: "Cells that were asked for because a node was late with another one",
      registers,
    }),
    hedgesWon: new Counter({
      name: "kintsugi_hedged_reads_won_total",
      help: "Stripes and small objects that were complete before the late node had answered",
      registers,
    }),
    cellsDamaged: new Counter({
      name: "kintsugi_cells_damaged_total",
      help: "Cells whose checksum did not match when read",
      labelNames: ["node"],
      registers,
    }),
    storageErrors: new Counter({
      name: "storage_errors",
      help: "Failures that nodes answered, by code",
      labelNames: ["node", "code"],
      registers,
    }),
    recovered: new Counter({
      name: "kintsugi_intents_recovered_total",
      help: "Intents that recovery settled, by outcome",
      labelNames: ["outcome"],
      registers,
    }),
  };
}

/** What the cache counts anyway, read when somebody asks. */
export function registerCacheMetrics(registry: Registry, cache: ContentCache): void {
  const registers = [registry];
  const count = (name: string, help: string, read: (figures: CacheFigures) => number) => {
    const counter: Counter = new Counter({
      ...{ name, help, registers },
      collect() {
        counter.reset();
        counter.inc(read(cache.figures()));
      },
    });
  };
  const gauge = (name: string, help: string, read: (figures: CacheFigures) => number) => {
    const measured: Gauge = new Gauge({
      ...{ name, help, registers },
      collect: () => measured.set(read(cache.figures())),
    });
  };
  count("kintsugi_cache_hits_total", "Parts of objects read from memory", ({ hits }) => hits);
  count(
    "kintsugi_cache_misses_total",
    "Parts of objects small enough for the cache that nodes were asked for",
    ({ misses }) => misses,
  );
  count(
    "kintsugi_cache_evictions_total",
    "Parts of objects that left the cache because it was full",
    ({ evictions }) => evictions,
  );
  gauge("kintsugi_cache_bytes", "Bytes that the cache takes, its own overhead included", ({ bytes }) => bytes);
  gauge("kintsugi_cache_entries", "Parts of objects in the cache", ({ entries }) => entries);
}
