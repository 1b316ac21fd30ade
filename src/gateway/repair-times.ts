import type { NodeName } from "../domain/ids.ts";
import type { Clock } from "../lib/clock.ts";
import type { ClusterView } from "./cluster-view.ts";

/** How long nodes were away, for the mean time to repair. */
export type RepairTimes = {
  /** Null before any node came back. */
  meanMs(): number | null;
  count(): number;
  close(): void;
};

/** Counts from the moment this process learnt that a node was not live to the moment it was again. */
export function trackRepairTimes(clock: Clock, cluster: Pick<ClusterView, "nodes" | "watch">): RepairTimes {
  const awaySinceMs = new Map<NodeName, number>();
  let count = 0;
  let totalMs = 0;
  const observe = (nodes: ReturnType<ClusterView["nodes"]>) => {
    const now = clock.monotonicMs();
    for (const node of nodes) {
      const since = awaySinceMs.get(node.name);
      if (node.state !== "live") {
        if (since === undefined) awaySinceMs.set(node.name, now);
      } else if (since !== undefined) {
        awaySinceMs.delete(node.name);
        count += 1;
        totalMs += now - since;
      }
    }
  };
  observe(cluster.nodes());
  const close = cluster.watch(observe);
  return { meanMs: () => (count === 0 ? null : totalMs / count), count: () => count, close };
}
