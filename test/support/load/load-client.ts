/**
 * One client of a store under load: random writes of every kind to keys of its own, each noted in a journal, and a
 * share in keys that all clients fight over.
 */
import { createHash } from "node:crypto";
import { noise } from "../store.ts";
import type { Answer, StoreClient } from "../black-box/client.ts";
import { ABSENT, bytesState, describeBody, KeyJournal, matches, type KeyState } from "./journal.ts";
import type { Seeded } from "./seeded.ts";

const KEYS_EACH = 4;
const BODY_BYTES_MAX = 6 * 1_048_576;
const INLINE_BYTES_MAX = 65_536;
const DOCUMENT_BYTES_MAX = 400_000;
const STRATEGIES = ["auto", "inline", "replication", "ec", "ec", "field_hybrid"] as const;
const NOISE = noise(BODY_BYTES_MAX, 71);

/** A key that everybody tries to create, each with a body of its own: at most one may succeed. */
export type Race = { readonly key: string; readonly attempts: { body: string; outcome: "won" | "unknown" }[] };

export type Tally = { acknowledged: number; unknown: number; refused: number };

export class LoadClient {
  readonly #name: string;
  readonly #random: Seeded;
  readonly #races: Race[];
  readonly journals: readonly KeyJournal[];
  readonly #tally: Tally;
  #serial = 0;

  constructor(name: string, random: Seeded, races: Race[], tally: Tally) {
    this.#name = name;
    this.#random = random;
    this.#races = races;
    this.#tally = tally;
    this.journals = Array.from({ length: KEYS_EACH }, (_, index) => new KeyJournal(`${name}/${index}`));
  }

  /** Writes until the connection breaks or `stopped` says so. */
  async run(client: StoreClient, stopped: () => boolean): Promise<void> {
    while (!stopped()) {
      const journal = this.#random.pick(this.journals);
      const choice = this.#random.next();
      if (choice < 0.08) await this.#race(client);
      else if (choice < 0.16) await this.#read(client, journal);
      else if (choice < 0.26) await this.#delete(client, journal);
      else if (choice < 0.56 && journal.certain?.kind === "document")
        await this.#patch(client, journal, journal.certain);
      else await this.#put(client, journal);
    }
  }

  async #put(client: StoreClient, journal: KeyJournal): Promise<void> {
    const random = this.#random;
    const strategy = random.pick(STRATEGIES);
    const chunked = random.next() < 0.3;
    const { body, state } = strategy === "field_hybrid" ? this.#document() : this.#bytes(strategy);
    const condition = await this.#condition(client, journal);
    const target = `/objects/${journal.key}?strategy=${strategy}`;
    const answer = await this.#write(journal, state, () =>
      client.send("PUT", target, { body, chunked, headers: condition.headers }),
    );
    if (answer === null) return;
    const wanted = condition.holds ? [200, 201] : [412];
    if (!wanted.includes(answer.status)) throw surprise(target, answer);
  }

  /** Now and then a write on condition: the true tag, or one that cannot match. */
  async #condition(
    client: StoreClient,
    journal: KeyJournal,
  ): Promise<{ headers: Record<string, string>; holds: boolean }> {
    const choice = this.#random.next();
    const { certain } = journal;
    if (certain === null || choice > 0.3) return { headers: {}, holds: true };
    if (choice < 0.1) return { headers: { "if-none-match": "*" }, holds: certain.kind === "absent" };
    if (choice < 0.15 || certain.kind === "absent") return { headers: { "if-match": '"stale"' }, holds: false };
    const head = await client.send("HEAD", `/objects/${journal.key}`).catch(() => null);
    const etag = head?.status === 200 ? head.headers.etag : undefined;
    return etag === undefined ? { headers: {}, holds: true } : { headers: { "if-match": etag }, holds: true };
  }

  async #patch(
    client: StoreClient,
    journal: KeyJournal,
    { value }: Extract<KeyState, { kind: "document" }>,
  ): Promise<void> {
    const hot = this.#random.next() < 0.7;
    const name = hot ? this.#random.pick(["battery_level", "status", "rssi"]) : "cold";
    const content = this.#random.next() < 0.2 ? null : this.#stamp();
    const next: Record<string, unknown> = { ...value, [name]: content };
    if (content === null) delete next[name];
    const target = `/objects/${journal.key}`;
    const answer = await this.#write(journal, { kind: "document", value: next }, () =>
      client.patch(target, JSON.stringify({ [name]: content })),
    );
    if (answer !== null && answer.status !== 200) throw surprise(`PATCH ${target}`, answer);
  }

  async #delete(client: StoreClient, journal: KeyJournal): Promise<void> {
    const existed = journal.certain === null ? null : journal.certain.kind !== "absent";
    const target = `/objects/${journal.key}`;
    const answer = await this.#write(journal, ABSENT, () => client.send("DELETE", target));
    if (answer === null) return;
    if (existed !== null && answer.status !== (existed ? 204 : 404)) throw surprise(`DELETE ${target}`, answer);
  }

  async #read(client: StoreClient, journal: KeyJournal): Promise<void> {
    const { certain } = journal;
    const answer = await client.get(`/objects/${journal.key}`).catch(() => null);
    if (answer === null || certain === null || answer.status >= 500) return;
    const body = answer.status === 404 ? null : answer.body;
    if (!matches(certain, body)) throw new Error(`While serving: ${journal.key} is ${describeBody(body)}`);
  }

  async #race(client: StoreClient): Promise<void> {
    const race = this.#random.pick(this.#races.slice(-3));
    const body = `${race.key} by ${this.#stamp()}`;
    const attempt: Race["attempts"][number] = { body, outcome: "unknown" };
    race.attempts.push(attempt);
    const strategy = this.#random.pick(["inline", "replication", "ec"] as const);
    const answer = await client
      .put(`/objects/${race.key}?strategy=${strategy}`, body, { "if-none-match": "*" })
      .catch(() => null);
    if (answer === null || answer.status >= 500) return;
    if (answer.status === 201) attempt.outcome = "won";
    else race.attempts.splice(race.attempts.indexOf(attempt), 1);
    if (this.#races.at(-1) === race) this.#races.push({ key: `race/${this.#races.length}`, attempts: [] });
  }

  /** Sends a write and notes what is known of it. Null when that is nothing. */
  async #write(journal: KeyJournal, state: KeyState, send: () => Promise<Answer>): Promise<Answer | null> {
    const answer = await send().catch(() => null);
    if (answer === null || answer.status >= 500 || answer.status === 409) {
      journal.doubt(state);
      this.#tally.unknown += 1;
      return null;
    }
    if (answer.status < 300) {
      journal.acknowledge(state);
      this.#tally.acknowledged += 1;
    } else if (answer.status === 404 && state === ABSENT) {
      // A delete that found nothing has changed nothing: a write before it whose answer never came may still come.
      journal.observe(null, "a delete that was answered 404");
      this.#tally.acknowledged += 1;
    } else this.#tally.refused += 1;
    return answer;
  }

  #bytes(strategy: string): { body: Buffer; state: KeyState } {
    const sizeBytes = this.#random.size(1, strategy === "inline" ? INLINE_BYTES_MAX : BODY_BYTES_MAX);
    const stamp = Buffer.from(this.#stamp());
    const body = Buffer.from(NOISE.subarray(0, sizeBytes));
    // At both ends, so that halves of two versions would show.
    stamp.copy(body, 0);
    stamp.copy(body, Math.max(0, sizeBytes - stamp.length));
    return { body, state: bytesState(body) };
  }

  #document(): { body: Buffer; state: KeyState } {
    const padBytes = this.#random.size(10, DOCUMENT_BYTES_MAX);
    const pad = createHash("sha256")
      .update(this.#stamp())
      .digest("hex")
      .repeat(Math.ceil(padBytes / 64));
    const value = { device_id: this.#stamp(), battery_level: this.#serial, pad, cold: { by: this.#stamp() } };
    return { body: Buffer.from(JSON.stringify(value, null, 1)), state: { kind: "document", value } };
  }

  /** Different for every write of every client. */
  #stamp(): string {
    this.#serial += 1;
    return `${this.#name}#${this.#serial}`;
  }
}

function surprise(what: string, answer: Answer): Error {
  return new Error(`While serving: ${what} was answered ${answer.status}: ${answer.body.toString().slice(0, 300)}`);
}
