import { openEmbeddedStore } from "../compose/embedded.ts";
import { programVersion } from "../compose/system.ts";
import type { Config } from "../config.ts";
import { portOf } from "../config.ts";
import { startRestServer } from "../gateway/rest/server.ts";
import type { RunningProcess } from "./lifecycle.ts";
import { createLifecycle, listeningAddress } from "./lifecycle.ts";
import { restSettingsOf } from "./rest-settings.ts";
import { createSystem } from "./system.ts";

/** Runs all roles in this process: gateway, nodes and recovery, on embedded metadata. */
export async function runAll(config: Config): Promise<RunningProcess> {
  const system = createSystem(config);
  const { clock, random, logger } = system;
  const store = await openEmbeddedStore(config, system);
  logger.info({ dataDir: config.dataDir, ...store.recovered }, "the store is open");
  const lifecycle = createLifecycle(logger, async () => {
    await server.close();
    await store.close();
  });
  const { api, cluster, desk, registry } = store;
  const parts = {
    clock,
    random,
    logger,
    api,
    cluster,
    desk,
    registry,
    version: programVersion(),
    onBug: lifecycle.onBug,
  };
  const server = await startRestServer(parts, restSettingsOf(config, portOf(config, "all"))).catch(
    async (cause: unknown) => {
      await store.close();
      throw cause;
    },
  );
  void store.failed.then(lifecycle.onFailed);
  return { ...lifecycle, name: null, address: listeningAddress(config.host, server.port) };
}
