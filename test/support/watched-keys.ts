/** What the keys of a cluster may hold while recovery is at work, and what they must hold when it is done. */
import { expect } from "vitest";
import type { StoreClient } from "./black-box/client.ts";
import { until } from "./cluster-load.ts";
import { describeBody, describeState, KeyJournal, matches, type KeyState } from "./load/journal.ts";

export type KeyContent = { readonly body: Buffer | null; readonly version: string | null };

export type KeyPromise = {
  /** Now; later too, unless it is one of `finally`. */
  readonly now: KeyState;
  /** One of these when recovery is done. */
  readonly finally: readonly KeyState[];
  /** The version that must be the one, where that is known. */
  readonly version?: string;
};

const ANSWER_MS_MAX = 30_000;

export class WatchedKeys {
  readonly #keys = new Map<string, KeyPromise & { journal: KeyJournal }>();

  add(key: string, promise: KeyPromise): void {
    const journal = new KeyJournal(key);
    journal.acknowledge(promise.now);
    for (const state of promise.finally.filter((state) => state !== promise.now)) journal.doubt(state);
    this.#keys.set(key, { ...promise, journal });
  }

  /** Reads the keys that may still change: what has become new never becomes old again, and nothing is ever half there. */
  async observe(client: StoreClient): Promise<void> {
    for (const { journal } of this.#keys.values()) {
      if (journal.certain === null)
        journal.observe((await readKey(client, journal.key)).body, "while recovery is at work");
    }
  }

  /** Holds all keys to what was promised; answers what was wrong. The listing must agree with the reads. */
  async check(client: StoreClient): Promise<string[]> {
    const problems: string[] = [];
    const present: string[] = [];
    for (const [key, promise] of this.#keys) {
      const { body, version } = await readKey(client, key);
      if (body !== null) present.push(`${key}@${version}`);
      if (!promise.finally.some((state) => matches(state, body))) {
        problems.push(`${key} is ${describeBody(body)}, not ${promise.finally.map(describeState).join(" or ")}`);
      } else if (body !== null && promise.version !== undefined && version !== promise.version) {
        problems.push(`${key} has version ${version}, not ${promise.version}`);
      }
    }
    const listed = await listKeys(client);
    const [unread, unlisted] = [
      listed.filter((name) => !present.includes(name)),
      present.filter((name) => !listed.includes(name)),
    ];
    if (unread.length > 0) problems.push(`only listed: ${unread.join(", ")}`);
    if (unlisted.length > 0) problems.push(`not listed: ${unlisted.join(", ")}`);
    return problems;
  }
}

/** Null for what is not there. Waits while the gateway says that it cannot tell. */
export async function readKey(client: StoreClient, key: string): Promise<KeyContent> {
  let found: KeyContent | null = null;
  await until(`an answer about ${key}`, ANSWER_MS_MAX, async () => {
    const { status, headers, body } = await client.get(`/objects/${key}`);
    if (status === 503) return false;
    expect([200, 404], `${key}: ${status} ${body.toString("latin1", 0, 300)}`).toContain(status);
    found = status === 404 ? { body: null, version: null } : { body, version: String(headers["x-kintsugi-version"]) };
    return true;
  });
  return found as unknown as KeyContent;
}

async function listKeys(client: StoreClient): Promise<string[]> {
  const { body } = await client.get("/objects?limit=1000");
  const { objects } = JSON.parse(body.toString()) as { objects: { key: string; version: string }[] };
  return objects.map(({ key, version }) => `${key}@${version}`);
}
