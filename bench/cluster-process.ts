/**
 * The cluster as `npm run cluster` starts it: everything on this machine, the client beside it on the same cores. Without
 * a cache in the gateways: the few keys of a benchmark would all be in memory, and it is the nodes that are measured.
 */
import { join } from "node:path";
import { startCluster, type LocalCluster } from "../test/support/cluster.ts";

export function startBenchCluster(directory: string): Promise<LocalCluster> {
  return startCluster({ gateways: 3, nodes: 6, healers: 2, nats: 3, nginx: true, dir: join(directory, "cluster") });
}
