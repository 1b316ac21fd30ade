import { openHealer } from "../compose/healer.ts";
import type { Config } from "../config.ts";
import { portOf } from "../config.ts";
import { startStatusServer } from "../gateway/status-server.ts";
import type { RunningProcess } from "./lifecycle.ts";
import { createLifecycle, listeningAddress } from "./lifecycle.ts";
import { createSystem } from "./system.ts";

/** Runs a healer of a cluster; its HTTP port shows how it is doing. */
export async function runHealer(config: Config): Promise<RunningProcess> {
  const system = createSystem(config);
  const healer = await openHealer(config, system);
  const { name, registry, status, failed } = healer;
  const server = await startStatusServer(
    { clock: system.clock, registry, status },
    { host: config.host, port: portOf(config, "healer"), drainMs: config.timeouts.drainMs },
  ).catch(async (cause: unknown) => {
    await healer.close();
    throw cause;
  });
  const lifecycle = createLifecycle(system.logger, async () => {
    await server.close();
    await healer.close();
  });
  void failed.then(lifecycle.onFailed);
  return { ...lifecycle, name, address: listeningAddress(config.host, server.port) };
}
