import type { Registry } from "prom-client";
import { Gauge, Histogram } from "prom-client";

/** What the log counts. Registered once per process. */
export type WalMetrics = ReturnType<typeof createWalMetrics>;

export function createWalMetrics(registry: Registry, openCount: () => number) {
  const registers = [registry];
  return {
    appendSeconds: new Histogram({
      name: "kintsugi_wal_append_seconds",
      help: "From the call to a durable intent, retries included",
      buckets: [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1, 5, 10],
      registers,
    }),
    batchIntents: new Histogram({
      name: "kintsugi_wal_batch_intents",
      help: "Intents that shared one message of the log",
      buckets: [1, 2, 4, 8, 16, 32, 64, 128, 256, 512],
      registers,
    }),
    openIntents: new Gauge({
      name: "kintsugi_wal_open_intents",
      help: "Intents known to be open; 0 in a process that never reads the log",
      registers,
      collect() {
        this.set(openCount());
      },
    }),
  };
}
