/** A node whose process stops reading: what it is sent fills the buffers of the system, and then stays with the sender. */
import { once } from "node:events";
import { createConnection, createServer, type Socket } from "node:net";

export type HungNode = AsyncDisposable & {
  readonly url: string;
  /** Connections so far. */
  accepted(): number;
  bytesTaken(): number;
  stopReading(): void;
  /** Goes on, with new connections too. Resolves with how those ended that were not read from meanwhile, once they have. */
  readOn(): Promise<string[]>;
};

/** In front of the real node at `target`: `http://127.0.0.1:port`. */
export async function startHungNode(target: string): Promise<HungNode> {
  const stopped = new Map<Socket, Promise<string>>();
  const all = new Set<Socket>();
  let isStopped = false;
  let accepted = 0;
  let taken = 0;
  const server = createServer((client) => {
    accepted += 1;
    const node = createConnection({ host: "127.0.0.1", port: Number(new URL(target).port) });
    const ended = new Promise<string>((resolve) => {
      client.on("error", (cause) => resolve((cause as NodeJS.ErrnoException).code ?? cause.message));
      client.on("end", () => resolve("end"));
    });
    client.on("data", (chunk) => {
      taken += chunk.length;
      node.write(chunk);
      if (!isStopped) return;
      client.pause();
      stopped.set(client, ended);
    });
    node.on("data", (chunk) => client.write(chunk));
    for (const [socket, other] of [
      [client, node],
      [node, client],
    ] as const) {
      all.add(socket);
      socket.on("error", () => {}).on("close", () => other.destroy());
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as { port: number }).port}`,
    accepted: () => accepted,
    bytesTaken: () => taken,
    stopReading: () => (isStopped = true),
    async readOn() {
      isStopped = false;
      for (const client of stopped.keys()) client.resume();
      return await Promise.all(stopped.values());
    },
    async [Symbol.asyncDispose]() {
      for (const socket of all) socket.destroy();
      server.close();
    },
  };
}
