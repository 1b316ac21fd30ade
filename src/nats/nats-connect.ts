/**
 * The first connection to NATS, which ends. The client by itself dials without end and without pause where each server
 * that refuses it names others which refuse it too, as those of a cluster do when a password is wrong.
 */
import type { ConnectionOptions, NatsConnection } from "@nats-io/transport-node";
import { connect, errors } from "@nats-io/transport-node";
import type { Random } from "../lib/random.ts";

const RECONNECT_WAIT_MS = 250;
const RECONNECT_JITTER_MS = 100;
/** Dials before the first connection: some for each server of a cluster, dead ones included. */
const FIRST_DIALS_MAX = 32;

/** Tries all servers, those that they name too. @throws {Error} of the NATS client, one that refused us rather than any other */
export async function connectFirst(given: ConnectionOptions, random: Random): Promise<NatsConnection> {
  // A trace of every request would cost more than the request.
  const options = { ...given, noAsyncTraces: true };
  let dials = 0;
  let isConnected = false;
  const reconnectDelayHandler = () => {
    dials += 1;
    // Asked before every dial, and the only place where the client lets itself be stopped.
    if (!isConnected && dials > FIRST_DIALS_MAX) throw new TooManyDials();
    return RECONNECT_WAIT_MS + random.next() * RECONNECT_JITTER_MS;
  };
  try {
    const connection = await connect({ ...options, reconnectDelayHandler });
    isConnected = true;
    return connection;
  } catch (cause) {
    if (!(cause instanceof TooManyDials)) throw cause;
    // Without the servers that are named on the way it comes to an end, and to a reason.
    return await connect({ ...options, ignoreClusterUpdates: true });
  }
}

class TooManyDials extends Error {}

/** Whether a server refused the login: a wrong password does not become right by trying. */
export function isLoginRefused(cause: unknown): boolean {
  return cause instanceof errors.AuthorizationError || cause instanceof errors.UserAuthenticationExpiredError;
}

/** Why there is no connection, in words for people. */
export function connectFailureOf(cause: unknown): string {
  if (isLoginRefused(cause)) return "it refuses this login; check user and password, token or credentials";
  return cause instanceof Error ? cause.message : String(cause);
}
