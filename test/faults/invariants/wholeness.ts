/** I6: records, log and nodes agree: nothing dirty, missing or damaged, no intent open, no orphan. */
import { isDirty } from "../../../src/domain/record.ts";
import { openInspector, type ClusterInspector } from "../../support/cluster-inspector.ts";
import type { LocalCluster } from "../../support/cluster.ts";

/** Each answers the names of what is still to be mended. */
const LOOKS = {
  "open intents": (inspector: ClusterInspector) => inspector.openIntents(),
  "dirty objects": async (inspector: ClusterInspector) => {
    const records = await inspector.records();
    return records.filter(({ record }) => record.state === "object" && isDirty(record)).map(({ record }) => record.key);
  },
  "missing blobs": (inspector: ClusterInspector) => inspector.missing(),
  orphans: (inspector: ClusterInspector) => inspector.orphans(),
  // Reads everything: asked last, when nothing else is left.
  "damaged blobs": (inspector: ClusterInspector) => inspector.damaged(),
} as const;

export type Lack = keyof typeof LOOKS;

const POLL_MS = 1_000;
const SHOWN_MAX = 5;

/** Waits until there is none of these; answers what is left when the time is over, empty when all is well. */
export async function untilNone(cluster: LocalCluster, kinds: readonly Lack[], msMax: number): Promise<string[]> {
  await using inspector = await openInspector(cluster);
  const overdueAt = performance.now() + msMax;
  for (;;) {
    const left = await firstLack(inspector, kinds);
    if (left === null) return [];
    if (performance.now() > overdueAt) {
      const shown = left.names.slice(0, SHOWN_MAX).join(", ");
      return [`I6: ${left.names.length} ${left.kind} after ${msMax / 1_000} s: ${shown}`];
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
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
