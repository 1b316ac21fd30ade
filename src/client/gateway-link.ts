/**
 * A client's connection: the inbox that frames of its transfers arrive in, and what happens to the connection itself.
 */
import { createInbox, type ConnectionOptions, type Msg, type NatsConnection } from "@nats-io/transport-node";
import type { Clock } from "../lib/clock.ts";
import type { Random } from "../lib/random.ts";
import { connectFailureOf, connectFirst } from "../nats/nats-connect.ts";
import { decodeFrame, type Frame } from "../nats/transfer-frame.ts";
import { KintsugiError } from "./kintsugi-error.ts";

export type FrameListener = (frame: Frame) => void;

/** One transfer's own subject. */
export type Ear = { readonly subject: string; close(): void };

export class GatewayLink {
  readonly connection: NatsConnection;
  readonly clock: Clock;
  readonly random: Random;
  /** How long a call may take, and a transfer may make no progress. */
  readonly timeoutMs: number;
  readonly #inbox: string;
  readonly #listeners = new Map<string, FrameListener>();
  readonly #onReconnect = new Set<() => void>();
  #listenersMade = 0;
  #connected = true;

  constructor(connection: NatsConnection, options: { clock: Clock; random: Random; timeoutMs: number; inbox: string }) {
    this.connection = connection;
    this.clock = options.clock;
    this.random = options.random;
    this.timeoutMs = options.timeoutMs;
    this.#inbox = options.inbox;
    const callback = (failure: Error | null, message: Msg) => {
      if (failure === null) this.#hear(message);
    };
    connection.subscribe(`${options.inbox}.*`, { callback });
    void this.#followStatus();
  }

  /** What is published while this is false may never be sent. */
  get connected(): boolean {
    return this.#connected && !this.connection.isClosed();
  }

  /** Gives frames that arrive under a subject of its own to `listener`. */
  listen(listener: FrameListener): Ear {
    const token = (this.#listenersMade += 1).toString(36);
    this.#listeners.set(token, listener);
    return { subject: `${this.#inbox}.${token}`, close: () => void this.#listeners.delete(token) };
  }

  /** Calls `listener` each time the connection stands again, and when it was closed; the function given back ends that. */
  onReconnect(listener: () => void): () => void {
    this.#onReconnect.add(listener);
    return () => void this.#onReconnect.delete(listener);
  }

  /** Resolves when the connection stands, or after `waitMs`. */
  async untilConnected(waitMs: number): Promise<void> {
    if (this.connected || this.connection.isClosed()) return;
    const stop = new AbortController();
    const end = this.onReconnect(() => stop.abort());
    await this.clock.sleep(waitMs, stop.signal);
    end();
  }

  /** Best effort: who needs an answer asks again. */
  publish(subject: string, bytes: Uint8Array): void {
    if (!this.connected) return;
    this.connection.publish(subject, bytes);
  }

  #hear(message: Msg): void {
    const listener = this.#listeners.get(message.subject.slice(this.#inbox.length + 1));
    if (listener === undefined) return;
    try {
      listener(decodeFrame(message.data));
    } catch {
      // Bytes that are no frame are as good as a frame that got lost.
    }
  }

  async #followStatus(): Promise<void> {
    for await (const status of this.connection.status()) {
      if (status.type === "disconnect") this.#connected = false;
      if (status.type !== "reconnect") continue;
      this.#connected = true;
      for (const listener of this.#onReconnect) listener();
    }
    this.#connected = false;
    for (const listener of this.#onReconnect) listener();
  }
}

/** @throws {KintsugiError} `nats_unavailable` (retriable) */
export async function openLink(
  options: ConnectionOptions,
  parts: { readonly clock: Clock; readonly random: Random; readonly timeoutMs: number },
): Promise<GatewayLink> {
  const inbox = createInbox(options.inboxPrefix);
  try {
    const connection = await connectFirst({ ...options, timeout: parts.timeoutMs }, parts.random);
    return new GatewayLink(connection, { ...parts, inbox });
  } catch (cause) {
    const servers = Array.isArray(options.servers) ? options.servers.join(", ") : options.servers;
    throw new KintsugiError("nats_unavailable", `Cannot reach NATS at ${servers}: ${connectFailureOf(cause)}`, {
      retriable: true,
      cause,
    });
  }
}
