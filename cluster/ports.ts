/** Which part listens where. */
import { createServer } from "node:net";

export type PortTable = {
  /** Of nginx; without one nobody listens there. */
  readonly front: number;
  readonly gateways: readonly number[];
  readonly nodes: readonly number[];
  readonly healers: readonly number[];
  readonly nats: readonly NatsPorts[];
};

export type NatsPorts = { readonly client: number; readonly route: number; readonly monitor: number };

export type Counts = {
  readonly gateways: number;
  readonly nodes: number;
  readonly healers: number;
  readonly natsServers: number;
};

/** A hundred ports for each kind of part, so that a port tells who listens there. */
export function portsFromBase(base: number, front: number, counts: Counts): PortTable {
  const from = (offset: number, count: number) => Array.from({ length: count }, (_, index) => base + offset + index);
  return {
    front,
    gateways: from(1, counts.gateways),
    nodes: from(101, counts.nodes),
    healers: from(201, counts.healers),
    nats: from(301, counts.natsServers).map((client) => ({ client, monitor: client + 100, route: client + 200 })),
  };
}

/** Ports that nobody listens on, for tests: any number of clusters may start at the same time. */
export async function freePortTable(counts: Counts): Promise<PortTable> {
  const ports = await findFreePorts(1 + counts.gateways + counts.nodes + counts.healers + counts.natsServers * 3);
  const take = (count: number) => ports.splice(0, count);
  const [front] = take(1) as [number];
  return {
    front,
    gateways: take(counts.gateways),
    nodes: take(counts.nodes),
    healers: take(counts.healers),
    nats: Array.from({ length: counts.natsServers }, () => {
      const [client, monitor, route] = take(3) as [number, number, number];
      return { client, monitor, route };
    }),
  };
}

/** Below the range from which systems take ports for outgoing connections, so that none of those comes in between. */
const FREE_MIN = 10_240;
const FREE_MAX = 32_000;
/** Processes that test at the same time begin their search far apart. */
let nextCandidate = FREE_MIN + ((process.pid * 131) % (FREE_MAX - FREE_MIN));

/** Ports of the loopback address that are free now; none is given twice by this process before all have been. */
export async function findFreePorts(count: number): Promise<number[]> {
  const ports: number[] = [];
  for (let tries = 0; ports.length < count; tries += 1) {
    if (tries > FREE_MAX - FREE_MIN) throw new Error(`Cannot find ${count} free ports from ${FREE_MIN} to ${FREE_MAX}`);
    const port = nextCandidate;
    nextCandidate = nextCandidate === FREE_MAX ? FREE_MIN : nextCandidate + 1;
    if ((await findPortProblem("127.0.0.1", port)) === null) ports.push(port);
  }
  return ports;
}

/** Why nobody can listen there, such as `EADDRINUSE`; null when it is free. */
export function findPortProblem(host: string, port: number): Promise<string | null> {
  const server = createServer();
  return new Promise((resolve) => {
    server.once("error", (cause: NodeJS.ErrnoException) => resolve(cause.code ?? cause.message));
    server.listen({ host, port, exclusive: true }, () => server.close(() => resolve(null)));
  });
}
