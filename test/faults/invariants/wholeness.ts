/** I6: records, log and nodes agree: nothing dirty, missing or damaged, no intent open, no orphan. */
import { isDirty } from "../../../src/domain/record.ts";
import { openInspector, type ClusterInspector } from "../../support/cluster-inspector.ts";
import type { LocalCluster } from "../../support/cluster.ts";

export type Lack =
  | "open intents"
  | "dirty objects"
  | "missing blobs"
  | "orphans"
  | "outdated records"
  | "damaged blobs";

/** Each answers the names of what is still to be mended. */
const LOOKS: Readonly<Record<Lack, (inspector: ClusterInspector) => Promise<string[]>>> = {
  "open intents": (inspector) => inspector.openIntents(),
  "dirty objects": async (inspector) => {
    const records = await inspector.records();
    return records.filter(({ record }) => record.state === "object" && isDirty(record)).map(({ record }) => record.key);
  },
  "missing blobs": (inspector) => inspector.missing(),
  orphans: (inspector) => inspector.orphans(),
  "outdated records": (inspector) => inspector.outdatedRecords(),
  // Reads everything: asked last, when nothing else is left.
  "damaged blobs": (inspector) => inspector.damaged(),
};

const POLL_MS = 1_000;
const SHOWN_MAX = 5;

/** Waits until there is none of these; answers what is left when the time is over, empty when all is well. */
export async function untilNone(cluster: LocalCluster, kinds: readonly Lack[], msMax: number): Promise<string[]> {
  await using inspector = await openInspector(cluster);
  const overdueAt = performance.now() + msMax;
  for (;;) {
    const left = await firstLack(inspector, kinds);
    if (left === null) return [];
    if (performance.now() > overdueAt) return [describeLack(left.kind, left.names, msMax)];
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

/**
 * Waits until what lacks now does not any more, while others write: what lacks since then was written since then, and
 * has its quorum.
 */
export async function untilMended(cluster: LocalCluster, kinds: readonly Lack[], msMax: number): Promise<string[]> {
  await using inspector = await openInspector(cluster);
  const overdueAt = performance.now() + msMax;
  for (const kind of kinds) {
    let left = await LOOKS[kind](inspector);
    while (left.length > 0) {
      if (performance.now() > overdueAt) return [describeLack(kind, left, msMax)];
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
      const now = new Set(await LOOKS[kind](inspector));
      left = left.filter((name) => now.has(name));
    }
  }
  return [];
}

function describeLack(kind: Lack, names: readonly string[], msMax: number): string {
  return `I6: ${names.length} ${kind} after ${msMax / 1_000} s: ${names.slice(0, SHOWN_MAX).join(", ")}`;
}

async function firstLack(
  inspector: ClusterInspector,
  kinds: readonly Lack[],
): Promise<{ readonly kind: Lack; readonly names: readonly string[] } | null> {
  for (const kind of kinds) {
    const names = await LOOKS[kind](inspector);
    if (names.length > 0) return { kind, names };
  }
  return null;
}
