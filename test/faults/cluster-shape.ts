/** The cluster of a campaign: what its seed decides of it, and settings with which everything that takes days takes seconds. */
import type { SettingsTree } from "../../cluster/plan.ts";
import type { Seeded } from "../support/load/seeded.ts";

/** Each with a nats-server, a gateway, two nodes; the first two with a healer. */
export const SITES = ["a", "b", "c"] as const;
export const NATS_SERVERS = 3;
export const SMALL_DISK_NODE = "node-6";
export const SMALL_DISK_BYTES = 1_024 * 1_048_576;

/** Whose leaders are worth killing. */
export const STREAMS = ["KINTSUGI_MAIN_META_0", "KINTSUGI_MAIN_META_1", "KINTSUGI_MAIN_WAL", "KV_kintsugi_main_lease"];

/** Erasure codes of which a quorum is left when one site is gone, and the default one. */
const CODES = [
  { k: 4, m: 2 },
  { k: 2, m: 2 },
  { k: 2, m: 1 },
] as const;

export type ClusterShape = {
  readonly gateways: number;
  readonly nodes: number;
  readonly healers: number;
  readonly k: number;
  readonly m: number;
  readonly settings: SettingsTree;
};

export function clusterShape(random: Seeded): ClusterShape {
  const { k, m } = random.pick(CODES);
  return {
    ...{ gateways: 3, nodes: 6, healers: 2, k, m },
    settings: {
      cluster: { metadataStreams: 2, bucketDefaults: { k, m } },
      storage: { volumeBytesMax: "64MiB", freeBytesMin: "64MiB" },
      events: { bytesMax: "64MiB" },
      healing: {
        rebuildAfterMs: "20s",
        auditEveryMs: "15s",
        orphanGraceMs: "5s",
        undeleteMs: "15s",
        keepRecordsMs: "2s",
        scrubEveryMs: "60s",
        scrubBytesPerSecond: "off",
        balanceEveryMs: "30s",
        heatReadsMin: 12,
        heatCoolMs: "5s",
      },
    },
  };
}

export function membersOf(role: "gateway" | "node" | "healer" | "nats", count: number): string[] {
  return Array.from({ length: count }, (_, index) => `${role}-${index + 1}`);
}

export function describeShape({ gateways, nodes, healers, k, m }: ClusterShape): string {
  return `${gateways} gateways, ${nodes} nodes, ${healers} healers, ${NATS_SERVERS} nats-servers, RS(${k}+${m})`;
}

export function siteOf(member: string): (typeof SITES)[number] {
  const [role, number] = member.split("-") as [string, string];
  const index = Number(number) - 1;
  return SITES[role === "node" ? Math.floor(index / 2) : index % SITES.length] as (typeof SITES)[number];
}
