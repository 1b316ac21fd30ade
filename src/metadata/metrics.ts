import { Counter, Gauge, Histogram, Registry } from "prom-client";

/** What the metadata store of a cluster counts. Registered once per process. */
export type MetadataMetrics = ReturnType<typeof createMetadataMetrics>;

/** `indexLag` is asked whenever the figures are read. */
export function createMetadataMetrics(registry: Registry | null, indexLag: () => number) {
  const registers = [registry ?? new Registry()];
  const seconds = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
  new Gauge({
    name: "kintsugi_metadata_index_lag_messages",
    help: "Messages of the metadata streams that this process knows to exist and has not put into its index yet",
    registers,
    collect() {
      this.set(indexLag());
    },
  });
  return {
    batchSize: new Histogram({
      name: "kintsugi_metadata_commit_batch_size",
      help: "Records committed in one batch",
      buckets: [1, 2, 4, 8, 16, 32, 64, 128, 256, 512],
      registers,
    }),
    commitSeconds: new Histogram({
      name: "kintsugi_metadata_commit_seconds",
      help: "Time from the call of a commit to its answer",
      buckets: seconds,
      registers,
    }),
    barrierSeconds: new Histogram({
      name: "kintsugi_metadata_barrier_seconds",
      help: "Time that a read waits until the index holds everything committed before",
      buckets: seconds,
      registers,
    }),
    conflicts: new Counter({
      name: "kintsugi_metadata_conflicts_total",
      help: "Commits answered with a conflict",
      registers,
    }),
    rounds: new Counter({
      name: "kintsugi_metadata_rounds_total",
      help: "Requests to the metadata streams by outcome: stored, refused (a member conflicted), unknown (no answer)",
      labelNames: ["outcome"],
      registers,
    }),
    rebuilds: new Counter({
      name: "kintsugi_metadata_index_rebuilds_total",
      help: "Times that the index was emptied to be filled anew from the streams",
      registers,
    }),
  };
}
