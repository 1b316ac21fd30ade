import { openNode } from "../compose/node.ts";
import type { Config } from "../config.ts";
import type { AssertionError } from "../lib/assert.ts";
import type { RunningProcess } from "./lifecycle.ts";
import { createLifecycle, listeningAddress } from "./lifecycle.ts";
import { createSystem } from "./system.ts";

/** Runs a storage node of a cluster. */
export async function runNode(config: Config): Promise<RunningProcess> {
  const system = createSystem(config);
  const lifecycle = createLifecycle(system.logger, () => node.close());
  const onBug = (cause: AssertionError) => lifecycle.onBug(cause);
  const node = await openNode(config, system, onBug);
  void node.failed.then(lifecycle.onFailed);
  return { ...lifecycle, name: node.name, address: listeningAddress(config.host, node.port) };
}
