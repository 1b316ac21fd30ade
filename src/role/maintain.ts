import type { NodeCheck } from "../blob/check-volumes.ts";
import { checkDataDir } from "../compose/check-data-dir.ts";
import { rebuildCluster } from "../compose/rebuild-cluster.ts";
import { rebuildEmbedded, type RebuildOptions } from "../compose/rebuild-embedded.ts";
import type { Config } from "../config.ts";
import type { RebuildReport } from "../healer/rebuild-metadata.ts";
import { systemClock } from "../lib/clock.ts";
import { silentLogger } from "../lib/logger.ts";
import { createSystem } from "./system.ts";

/** `nodes` null: the store in the data directory. */
export async function rebuildMetadata(
  config: Config,
  { nodes, ...options }: RebuildOptions & { readonly nodes: number | null },
): Promise<RebuildReport> {
  const system = createSystem({ ...config, logLevel: config.logLevel === "info" ? "warn" : config.logLevel });
  if (nodes === null) return await rebuildEmbedded(config, system, options);
  return await rebuildCluster(config, system, { ...options, nodes });
}

/** Every node whose blobs are in the directory. */
export function checkNodes(dataDir: string, onProgress: RebuildOptions["onProgress"]): Promise<readonly NodeCheck[]> {
  return checkDataDir(dataDir, { clock: systemClock, logger: silentLogger }, onProgress);
}
