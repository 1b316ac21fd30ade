import { assert } from "./assert.ts";
import type { Clock, Timer } from "./clock.ts";
import { openHttpConnection, type HostAndPort, type HttpConnection } from "./http-connection.ts";

export type HttpPoolSettings = {
  /** How long a connection is kept without use: less than the other side keeps it. */
  readonly idleMs: number;
  /** Connections kept without use. */
  readonly idleMax: number;
  /** How long opening a connection may take. */
  readonly connectMsMax: number;
};

/** Connections to one server, kept for the next request. The most recently used goes out first, so that the others may age. */
export class HttpPool {
  readonly #clock: Clock;
  readonly #settings: HttpPoolSettings;
  readonly #idle: { readonly connection: HttpConnection; readonly timer: Timer }[] = [];
  readonly #inUse = new Set<HttpConnection>();
  #closed = false;

  constructor(clock: Clock, settings: HttpPoolSettings) {
    this.#clock = clock;
    this.#settings = settings;
  }

  /** A connection that has served before and waits, or null. */
  takeIdle(address: HostAndPort): HttpConnection | null {
    for (let entry = this.#idle.pop(); entry !== undefined; entry = this.#idle.pop()) {
      const { connection, timer } = entry;
      timer.cancel();
      connection.onIdleEnd = null;
      const isRight = connection.address.host === address.host && connection.address.port === address.port;
      if (connection.reusable && isRight) {
        this.#inUse.add(connection);
        return connection;
      }
      connection.destroy();
    }
    return null;
  }

  /** @throws {Error} when no connection came about */
  async open(address: HostAndPort): Promise<HttpConnection> {
    const connection = await openHttpConnection(this.#clock, address, this.#settings.connectMsMax);
    this.#inUse.add(connection);
    if (this.#closed) connection.destroy();
    return connection;
  }

  /** Takes a connection back after a request; what cannot carry another one is closed. */
  give(connection: HttpConnection): void {
    assert(this.#inUse.delete(connection), "a connection is given back once");
    if (!connection.reusable || this.#closed || this.#idle.length >= this.#settings.idleMax) {
      return connection.destroy();
    }
    const drop = () => {
      const at = this.#idle.findIndex((entry) => entry.connection === connection);
      if (at !== -1) this.#idle.splice(at, 1)[0]?.timer.cancel();
      connection.onIdleEnd = null;
      connection.destroy();
    };
    connection.onIdleEnd = drop;
    this.#idle.push({ connection, timer: this.#clock.startTimer(this.#settings.idleMs, drop) });
  }

  /** Breaks every connection, also those in use. */
  close(): void {
    this.#closed = true;
    for (const { connection, timer } of this.#idle.splice(0)) {
      timer.cancel();
      connection.onIdleEnd = null;
      connection.destroy();
    }
    for (const connection of this.#inUse) connection.destroy();
  }
}
