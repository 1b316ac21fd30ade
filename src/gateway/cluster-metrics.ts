/** Gauges over nodes and buckets, read from the cluster view when somebody asks. */
import { Gauge, type Registry } from "prom-client";
import { NODE_STATES, type NodeUsage } from "../domain/node-info.ts";
import type { ClusterSnapshot, ClusterView } from "./cluster-view.ts";

type Reading = readonly [labels: Record<string, string>, value: number];
type GaugeSpec = {
  readonly name: string;
  readonly help: string;
  readonly labels: readonly string[];
  readonly read: (snapshot: ClusterSnapshot) => readonly Reading[];
};

const GAUGES: readonly GaugeSpec[] = [
  {
    name: "kintsugi_node_state",
    help: "1 for the state a node is in",
    labels: ["node", "state"],
    read: ({ nodes }) =>
      nodes.flatMap(({ info }) =>
        NODE_STATES.map((state): Reading => [{ node: info.name, state }, state === info.state ? 1 : 0]),
      ),
  },
  ofNodes("kintsugi_node_blobs", "Sealed blobs on a node", (usage) => usage.blobCount),
  ofNodes("kintsugi_node_live_bytes", "Payload bytes of a node's sealed blobs", (usage) => usage.liveBytes),
  ofNodes("kintsugi_node_file_bytes", "Bytes of a node's volumes on disk", (usage) => usage.fileBytes),
  ofNodes("kintsugi_node_volumes", "Volumes of a node", (usage) => usage.volumeCount),
  ofNodes("kintsugi_node_volumes_quarantined", "Unreadable volumes of a node", (usage) => usage.quarantinedCount),
  ofNodes("kintsugi_node_disk_free_bytes", "Free bytes of a node's disk", (usage) => usage.diskFreeBytes),
  {
    name: "kintsugi_bucket_objects",
    help: "Readable objects",
    labels: ["bucket"],
    read: ({ buckets }) => buckets.map(({ bucket, objectCount }): Reading => [{ bucket }, objectCount]),
  },
  {
    name: "kintsugi_bucket_bytes",
    help: "Content bytes of readable objects",
    labels: ["bucket"],
    read: ({ buckets }) => buckets.map(({ bucket, objectBytes }): Reading => [{ bucket }, objectBytes]),
  },
  {
    name: "kintsugi_in_flight_bytes",
    help: "Bytes of requests in memory",
    labels: [],
    read: ({ inFlightBytes }) => [[{}, inFlightBytes]],
  },
  {
    name: "kintsugi_intents_open",
    help: "Writes not yet settled in the log",
    labels: [],
    read: ({ openIntents }) => (openIntents === null ? [] : [[{}, openIntents]]),
  },
  {
    name: "replication_lag",
    help: "Blobs that records plan and no node that can be reached is known to hold",
    labels: [],
    read: ({ healing }) => (healing.replicationLag === null ? [] : [[{}, healing.replicationLag]]),
  },
  {
    name: "kintsugi_healing_jobs_open",
    help: "Jobs of healing that have not ended",
    labels: [],
    read: ({ healing }) => [[{}, healing.jobsOpen]],
  },
  {
    name: "kintsugi_repair_seconds_mean",
    help: "Mean time to repair over the latest incidents",
    labels: [],
    read: ({ healing: { meanRepairMs } }) => (meanRepairMs === null ? [] : [[{}, meanRepairMs / 1_000]]),
  },
  {
    name: "kintsugi_process_live",
    help: "1 for a process of the cluster that was heard of lately, 0 for one that is silent",
    labels: ["role", "name"],
    read: ({ processes }) =>
      processes.map(({ role, name, state }): Reading => [{ role, name }, state === "live" ? 1 : 0]),
  },
  {
    name: "kintsugi_healer_leading",
    help: "1 for the healer that leads",
    labels: ["name"],
    read: ({ processes, coordination }) =>
      processes
        .filter(({ role }) => role === "healer")
        .map(({ name }): Reading => [{ name }, name === coordination?.leader ? 1 : 0]),
  },
  {
    name: "kintsugi_stream_messages",
    help: "Messages in a JetStream stream of the store",
    labels: ["stream"],
    read: ({ streams }) => streams.map(({ name, messageCount }): Reading => [{ stream: name }, messageCount]),
  },
  {
    name: "kintsugi_stream_replicas_missing",
    help: "Copies of a JetStream stream that are away or behind",
    labels: ["stream"],
    read: ({ streams }) =>
      streams.map(({ name, replicasTotal, replicasCurrent }): Reading => [
        { stream: name },
        replicasTotal - replicasCurrent,
      ]),
  },
];

/** A scrape asks the cluster once; what cannot be asked is left out, never stale. */
export function registerClusterMetrics(registry: Registry, cluster: ClusterView): void {
  let pending: Promise<ClusterSnapshot | null> | null = null;
  const snapshot = () => {
    // All gauges are collected in the same turn and share one answer.
    pending ??= cluster
      .snapshot()
      .catch(() => null)
      .finally(() => {
        pending = null;
      });
    return pending;
  };
  for (const { name, help, labels, read } of GAUGES) {
    const gauge: Gauge = new Gauge({
      name,
      help,
      labelNames: labels,
      registers: [registry],
      async collect() {
        const taken = await snapshot();
        gauge.reset();
        if (taken !== null) for (const [values, value] of read(taken)) gauge.set(values, value);
      },
    });
  }
}

function ofNodes(name: string, help: string, of: (usage: NodeUsage) => number): GaugeSpec {
  return {
    name,
    help,
    labels: ["node"],
    read: ({ nodes }) =>
      nodes.flatMap(({ info, usage }): Reading[] => (usage === null ? [] : [[{ node: info.name }, of(usage)]])),
  };
}
