import { openGateway } from "../compose/gateway.ts";
import { programVersion } from "../compose/system.ts";
import type { Config } from "../config.ts";
import { portOf } from "../config.ts";
import { startNatsDoor } from "../gateway/nats/door.ts";
import { startRestServer } from "../gateway/rest/server.ts";
import type { RunningProcess } from "./lifecycle.ts";
import { createLifecycle, listeningAddress } from "./lifecycle.ts";
import { restSettingsOf } from "./rest-settings.ts";
import { createSystem } from "./system.ts";

/** Runs a gateway of a cluster: the REST and NATS doors. */
export async function runGateway(config: Config): Promise<RunningProcess> {
  const system = createSystem(config);
  const { clock, random, logger } = system;
  const gateway = await openGateway(config, system);
  const doors = new AsyncDisposableStack();
  const lifecycle = createLifecycle(logger, async () => {
    await doors.disposeAsync();
    await gateway.close();
  });
  try {
    const { api, cluster, desk, registry, doorLink } = gateway;
    const parts = { clock, random, logger, api, registry, version: programVersion(), onBug: lifecycle.onBug };
    const rest = await startRestServer({ ...parts, cluster, desk }, restSettingsOf(config, portOf(config, "gateway")));
    doors.defer(() => rest.close());
    const { requestsMax } = config.nats;
    const door = await startNatsDoor(
      { ...parts, connection: doorLink.connection, processName: doorLink.processName },
      { objectBytesMax: config.http.objectBytesMax, drainMs: config.timeouts.drainMs, requestsMax },
    );
    doors.defer(() => door.close());
    void gateway.failed.then(lifecycle.onFailed);
    return { ...lifecycle, name: doorLink.processName, address: listeningAddress(config.host, rest.port) };
  } catch (cause) {
    await lifecycle.close();
    throw cause;
  }
}
