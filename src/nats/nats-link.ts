/**
 * A process's connection to NATS, shared by all adapters. It reconnects for ever: whoever waits has a deadline of its
 * own, and an operation that met a broken connection fails with that.
 */
import { readFileSync } from "node:fs";
import type { ConnectionOptions, NatsConnection } from "@nats-io/transport-node";
import { credsAuthenticator } from "@nats-io/transport-node";
import { StoreError } from "../domain/errors.ts";
import type { Clock } from "../lib/clock.ts";
import { deadlineIn, remainingMs } from "../lib/deadline.ts";
import type { Logger } from "../lib/logger.ts";
import type { Random } from "../lib/random.ts";
import { connectFailureOf, connectFirst, isLoginRefused } from "./nats-connect.ts";
import type { NatsNames } from "./nats-names.ts";
import { natsNamesOf } from "./nats-names.ts";

export type NatsSettings = {
  readonly servers: readonly string[];
  readonly user: string | null;
  readonly password: string | null;
  readonly token: string | null;
  /** Paths of files. */
  readonly credsFile: string | null;
  readonly tlsCaFile: string | null;
  readonly tlsCertFile: string | null;
  readonly tlsKeyFile: string | null;
};

export type NatsLinkSettings = NatsSettings & {
  readonly clusterName: string;
  /** Shown in the servers' lists of connections. */
  readonly processName: string;
  /** Copies of every stream and KV bucket: 1, 3 or 5. */
  readonly streamReplicas: number;
  /** How long the first connection may take. */
  readonly connectMs: number;
};

export type NatsLink = {
  readonly connection: NatsConnection;
  readonly names: NatsNames;
  readonly streamReplicas: number;
  readonly processName: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  /** Sends what was published and ends the connection. */
  close(): Promise<void>;
};

/** One server that accepts and says nothing, as a stopped one does, must not hold up the way to the others. */
const DIAL_MS = 2_000;
const RECONNECT_WAIT_MS = 250;
const PING_INTERVAL_MS = 2_000;
/** Pings without an answer after which a connection is given up: a half-open one is noticed in a few seconds. */
const PINGS_UNANSWERED_MAX = 2;

/** @throws {StoreError} `nats_unavailable`, `config_invalid` for a file that cannot be read */
export async function openNatsLink(
  settings: NatsLinkSettings,
  system: { readonly clock: Clock; readonly random: Random; readonly logger: Logger },
): Promise<NatsLink> {
  const { processName, clusterName, streamReplicas } = settings;
  const connection = await connectWithin(settings, system);
  void logStatus(connection, system.logger);
  return {
    ...system,
    connection,
    names: natsNamesOf(clusterName),
    streamReplicas,
    processName,
    close: () => closeConnection(connection),
  };
}

/** Tries until `connectMs` have passed: servers may start at the same moment as this process. */
async function connectWithin(
  settings: NatsLinkSettings,
  { clock, random }: { readonly clock: Clock; readonly random: Random },
): Promise<NatsConnection> {
  const options = { ...connectionOptionsOf(settings), name: `kintsugi ${settings.processName}` };
  const deadline = deadlineIn(clock, settings.connectMs);
  for (;;) {
    try {
      return await connectFirst(options, random);
    } catch (cause) {
      if (isLoginRefused(cause) || remainingMs(clock, deadline) === 0) {
        const servers = settings.servers.join(", ");
        const message = `Cannot reach NATS at ${servers}: ${connectFailureOf(cause)}`;
        throw new StoreError("nats_unavailable", message, { retriable: true, cause });
      }
    }
    await clock.sleep(RECONNECT_WAIT_MS);
  }
}

/** What every connection has in common, that of a client too. @throws {StoreError} `config_invalid` */
export function connectionOptionsOf(settings: NatsSettings): ConnectionOptions {
  const { user, password, token, credsFile, tlsCaFile, tlsCertFile, tlsKeyFile } = settings;
  const tls = {
    ...(tlsCaFile === null ? {} : { ca: readText(tlsCaFile) }),
    ...(tlsCertFile === null ? {} : { cert: readText(tlsCertFile) }),
    ...(tlsKeyFile === null ? {} : { key: readText(tlsKeyFile) }),
  };
  return {
    servers: [...settings.servers],
    ...(user === null ? {} : { user }),
    ...(password === null ? {} : { pass: password }),
    ...(token === null ? {} : { token }),
    ...(credsFile === null ? {} : { authenticator: credsAuthenticator(Buffer.from(readText(credsFile))) }),
    ...(Object.keys(tls).length === 0 ? {} : { tls }),
    timeout: DIAL_MS,
    maxReconnectAttempts: -1,
    pingInterval: PING_INTERVAL_MS,
    maxPingOut: PINGS_UNANSWERED_MAX,
    ignoreAuthErrorAbort: true,
  };
}

async function logStatus(connection: NatsConnection, logger: Logger): Promise<void> {
  for await (const status of connection.status()) {
    if (status.type === "disconnect" || status.type === "staleConnection")
      logger.warn({ server: connection.getServer() }, "the connection to NATS was lost");
    if (status.type === "reconnect") logger.info({ server: status.server }, "connected to NATS again");
    if (status.type === "slowConsumer") logger.warn({ pending: status.pending }, "a subscription falls behind");
  }
}

async function closeConnection(connection: NatsConnection): Promise<void> {
  if (connection.isClosed()) return;
  await connection.close();
}

function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    throw new StoreError("config_invalid", `Cannot read ${path}, which the NATS settings name`, { cause });
  }
}
