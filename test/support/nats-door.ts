/** A NATS door over any object paths, with a connection of its own. */
import { connect } from "@nats-io/transport-node";
import { Registry } from "prom-client";
import { startNatsDoor, type NatsDoorParts, type NatsDoorSettings } from "../../src/gateway/nats/door.ts";
import type { ObjectApi } from "../../src/gateway/object-api.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { systemRandom } from "../../src/lib/random.ts";

export type TestDoor = AsyncDisposable & {
  readonly registry: Registry;
  /** As a gateway that is stopped: what is under way may end. */
  close(): Promise<void>;
  /** As a gateway that is killed: its connection is gone at once. */
  kill(): Promise<void>;
};

export const DOOR_SETTINGS: NatsDoorSettings = { objectBytesMax: 2 ** 40, drainMs: 2_000, requestsMax: 256 };

export async function startTestDoor(
  servers: readonly string[],
  api: ObjectApi,
  settings: Partial<NatsDoorSettings> = {},
  parts: Partial<NatsDoorParts> = {},
): Promise<TestDoor> {
  const connection = await connect({ servers: [...servers], maxReconnectAttempts: -1, reconnectTimeWait: 50 });
  const registry = new Registry();
  const door = await startNatsDoor(
    {
      ...{ clock: systemClock, random: systemRandom, logger: silentLogger, api, connection, registry },
      ...{ version: "0.0.0-test", processName: "gateway-test" },
      onBug: (cause) => {
        throw cause;
      },
      ...parts,
    },
    { ...DOOR_SETTINGS, ...settings },
  );
  const kill = async () => {
    if (!connection.isClosed()) await connection.close();
  };
  const close = async () => {
    if (!connection.isClosed()) await door.close();
    await kill();
  };
  return { registry, close, kill, [Symbol.asyncDispose]: close };
}
