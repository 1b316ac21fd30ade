/**
 * Keys whose states are numbered, written by one client and read by others at the same time: what a reader sees tells
 * how old it is. A read that began after state 7 was acknowledged may show 7 or a later one, through whatever gateway.
 *
 * The number of a state is the size of its body, so that listings show it too; every fifth state is a deletion.
 */
import type { Answer, StoreClient } from "../black-box/client.ts";

const DELETION_EVERY = 5;
const PREFIX = "counted/";
const BODY = "x".repeat(60_000);

type CountedKey = {
  readonly key: string;
  /** The last state that was acknowledged, and the last that was asked for. */
  acknowledged: number;
  sent: number;
};

/** A key with the state that was acknowledged when somebody began to look at it. */
type Glance = { readonly key: CountedKey; readonly acknowledged: number };

export class CountedKeys {
  readonly #keys: readonly CountedKey[];
  /** What readers saw that had been replaced before they asked. */
  readonly stale: string[] = [];
  /** States that readers were shown, by what they called themselves. */
  readonly seenCounts = new Map<string, number>();

  constructor(count: number) {
    this.#keys = Array.from({ length: count }, (_, index) => ({
      ...{ key: `${PREFIX}${index}`, acknowledged: 0, sent: 0 },
    }));
  }

  /** Brings one key after the other into its next state. Only one client may. */
  async write(client: StoreClient, stopped: () => boolean): Promise<void> {
    for (let turn = 0; !stopped(); turn += 1) {
      const key = this.#keys[turn % this.#keys.length] as CountedKey;
      const number = (key.sent += 1);
      const deletes = number % DELETION_EVERY === 0;
      const target = `/objects/${key.key}`;
      const written = deletes
        ? client.send("DELETE", target)
        : client.put(`${target}?strategy=inline`, BODY.slice(0, number));
      const status = await written.then((answer) => answer.status).catch(() => 0);
      if ((status >= 200 && status < 300) || (deletes && status === 404)) key.acknowledged = number;
    }
  }

  /** Reads one key after the other in three ways, for as long as `stopped` says. An error is nothing seen. */
  async read(client: StoreClient, reader: string, stopped: () => boolean): Promise<void> {
    for (let turn = 0; !stopped(); turn += 1) {
      if (turn % 3 === 2) {
        await this.#list(client, reader);
        continue;
      }
      const glance = glanceAt(this.#keys[turn % this.#keys.length] as CountedKey);
      const method = turn % 3 === 0 ? "GET" : "HEAD";
      const answer = await client.send(method, `/objects/${glance.key.key}`).catch(() => null);
      const number = answer === null ? null : numberOf(answer);
      if (number !== null) this.#judge(glance, number, `${method} ${reader}`);
    }
  }

  async #list(client: StoreClient, reader: string): Promise<void> {
    const glances = this.#keys.map(glanceAt);
    const answer = await client.get(`/objects?prefix=${PREFIX}`).catch(() => null);
    if (answer?.status !== 200) return;
    const { objects } = JSON.parse(answer.body.toString()) as { objects: { key: string; sizeBytes: number }[] };
    const sizes = new Map(objects.map(({ key, sizeBytes }) => [key, sizeBytes]));
    for (const glance of glances) this.#judge(glance, sizes.get(glance.key.key) ?? 0, `listing ${reader}`);
  }

  /** `number` 0: there is nothing. */
  #judge({ key, acknowledged }: Glance, number: number, how: string): void {
    this.seenCounts.set(how, (this.seenCounts.get(how) ?? 0) + 1);
    const isPossible = (state: number) => (state % DELETION_EVERY === 0 ? number === 0 : number === state);
    for (let state = acknowledged; state <= key.sent; state += 1) if (isPossible(state)) return;
    this.stale.push(`${how}: ${key.key} is ${number || "absent"}, ${acknowledged} had been acknowledged before`);
  }
}

function glanceAt(key: CountedKey): Glance {
  return { key, acknowledged: key.acknowledged };
}

/** Null when the answer shows no state. */
function numberOf({ status, headers }: Answer): number | null {
  if (status === 404) return 0;
  return status === 200 ? Number(headers["content-length"]) : null;
}
