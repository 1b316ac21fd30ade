/** A network with faults, between a client and a server on this machine. */
import { once } from "node:events";
import { createConnection, createServer, type Server, type Socket } from "node:net";

export type NetworkProxy = AsyncDisposable & {
  readonly url: string;
  /** From now on what clients send stays here. */
  holdRequests(): void;
  /** From now on what the node answers stays here. */
  holdAnswers(): void;
  bytesHeld(): number;
  /** Breaks every connection, and lets through what comes after. */
  cut(): void;
  /** Breaks each present connection when the next byte of a request comes over it. */
  breakOnNextRequest(): void;
};

/** `target`: `http://127.0.0.1:port`. */
export async function startProxy(target: string): Promise<NetworkProxy> {
  const pairs = new Set<{ client: Socket; node: Socket; doomed: boolean }>();
  let holdsRequests = false;
  let holdsAnswers = false;
  let held = 0;
  const server: Server = createServer((client) => {
    const node = createConnection({ host: "127.0.0.1", port: Number(new URL(target).port) });
    const pair = { client, node, doomed: false };
    pairs.add(pair);
    const end = () => {
      pairs.delete(pair);
      client.destroy();
      node.destroy();
    };
    client.on("data", (chunk) => {
      if (pair.doomed) return end();
      if (!holdsRequests) return void node.write(chunk);
      held += chunk.length;
      client.pause();
    });
    node.on("data", (chunk) => {
      if (holdsAnswers) return void node.pause();
      client.write(chunk);
    });
    for (const socket of [client, node]) socket.on("error", end).on("close", end);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const cut = () => {
    holdsRequests = false;
    holdsAnswers = false;
    for (const { client, node } of pairs) {
      client.destroy();
      node.destroy();
    }
  };
  return {
    url: `http://127.0.0.1:${(server.address() as { port: number }).port}`,
    holdRequests: () => (holdsRequests = true),
    holdAnswers: () => (holdsAnswers = true),
    bytesHeld: () => held,
    cut,
    breakOnNextRequest() {
      for (const pair of pairs) pair.doomed = true;
    },
    async [Symbol.asyncDispose]() {
      cut();
      server.close();
    },
  };
}
