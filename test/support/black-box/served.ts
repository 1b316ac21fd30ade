/** What every topic of the black-box suite works with: a served store, a client, and waiting for what comes true. */
import type { ServedStore } from "../serve.ts";
import type { StoreClient } from "./client.ts";

export type Served = { readonly store: ServedStore; readonly client: StoreClient };

/** Known only once the store runs, which is after the tests have been declared. */
export type GetServed = () => Served;

const UNTIL_MS_MAX = 30_000;
const POLL_MS = 20;

/** Resolves when `check` holds; throws with the last state met when it does not within a time. */
export async function until<T>(
  look: () => Promise<T>,
  holds: (state: T) => boolean,
  msMax: number = UNTIL_MS_MAX,
): Promise<T> {
  const endMs = performance.now() + msMax;
  for (;;) {
    const state = await look();
    if (holds(state)) return state;
    if (performance.now() > endMs) throw new Error(`Still not so after ${msMax} ms: ${JSON.stringify(state)}`);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

export type Stats = {
  readonly totals: {
    readonly objectCount: number;
    readonly objectBytes: number;
    readonly blobCount: number;
    readonly liveBytes: number;
    readonly fileBytes: number;
    readonly overhead: number | null;
  };
  readonly health: { readonly status: string; readonly nodesLive: number; readonly nodesTotal: number };
  readonly nodes: readonly {
    readonly name: string;
    readonly state: string;
    readonly usage: { readonly blobCount: number; readonly quarantinedCount: number } | null;
  }[];
  readonly inFlightBytes: number;
  readonly openIntents: number;
  readonly requestsInFlight: number;
  readonly version: string;
  readonly runtime: string;
  readonly uptimeSeconds: number;
};

export async function statsOf(client: StoreClient): Promise<Stats> {
  const answer = await client.get("/cluster/stats");
  if (answer.status !== 200) throw new Error(`/cluster/stats answered ${answer.status}`);
  return JSON.parse(answer.body.toString()) as Stats;
}

/** Waits until nothing of earlier requests is under way: memory is free and every intent is settled. */
export async function quiet(client: StoreClient): Promise<Stats> {
  return await until(
    () => statsOf(client),
    (stats) => stats.inFlightBytes === 0 && stats.openIntents === 0 && stats.requestsInFlight === 1,
  );
}
