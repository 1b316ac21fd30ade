/** Controls and ledger of a cluster: an entry each of one KV bucket, changed by compare-and-set. */
import type { KV } from "@nats-io/kv";
import { isDeepStrictEqual } from "node:util";
import { isStoreError, StoreError } from "../domain/errors.ts";
import type { HealingControls } from "../domain/healing.ts";
import type { MessageCodec } from "../domain/message-codec.ts";
import { deadlineIn } from "../lib/deadline.ts";
import { listKv, openKv, replaceKv, untilAnswered } from "../nats/nats-kv.ts";
import type { NatsLink } from "../nats/nats-link.ts";
import { controlsCodec, ledgerCodec } from "./healing-codec.ts";
import type { HealingLedger } from "./healing-ledger.ts";
import { EMPTY_LEDGER } from "./healing-ledger.ts";
import type { HealingStore } from "./healing-store.ts";

const CONTROLS = "controls";
const LEDGER = "ledger";
const WRITE_MS = 6_000;

/** @throws {StoreError} `nats_unavailable` (retriable) */
export async function openNatsHealingStore(link: NatsLink): Promise<HealingStore> {
  return new NatsHealingStore(link, await openKv(link, link.names.healingBucket));
}

class NatsHealingStore implements HealingStore {
  readonly #link: NatsLink;
  readonly #kv: KV;

  constructor(link: NatsLink, kv: KV) {
    this.#link = link;
    this.#kv = kv;
  }

  async readControls(): Promise<HealingControls> {
    try {
      const entries = await listKv(this.#link, this.#link.names.healingBucket);
      const found = entries.find(({ key }) => key === CONTROLS);
      return found === undefined ? {} : controlsCodec.decode(found.value);
    } catch (cause) {
      throw unavailable("Cannot read the controls of healing", cause);
    }
  }

  async changeControls(change: (controls: HealingControls) => HealingControls): Promise<HealingControls> {
    return await this.#change(CONTROLS, controlsCodec, {}, change);
  }

  async changeLedger(term: number, change: (ledger: HealingLedger) => HealingLedger): Promise<HealingLedger> {
    return await this.#change(LEDGER, ledgerCodec, EMPTY_LEDGER, (found) => {
      if (found.term > term) {
        throw new StoreError("healing_unavailable", "Another healer leads by now", { retriable: true });
      }
      return { ...change(found), term };
    });
  }

  async close(): Promise<void> {}

  async #change<T>(key: string, codec: MessageCodec<T>, initial: T, change: (found: T) => T): Promise<T> {
    const deadline = deadlineIn(this.#link.clock, WRITE_MS);
    let attempted: T | null = null;
    try {
      return await untilAnswered(this.#link, deadline, `change the ${key} of healing`, async () => {
        const entry = await this.#kv.get(key);
        const isThere = entry !== null && entry.operation === "PUT";
        const found = isThere ? codec.decode(entry.value) : initial;
        // It had arrived, though it seemed to have failed.
        if (attempted !== null && isDeepStrictEqual(found, attempted)) return found;
        const next = change(found);
        attempted = codec.decode(codec.encode(next));
        const revision = await replaceKv(this.#kv, key, codec.encode(next), isThere ? entry.revision : 0);
        if (revision !== null) return next;
        // This one was surely not stored, whatever stands there by now.
        attempted = null;
        throw new Error("others are faster");
      });
    } catch (cause) {
      throw unavailable(`Cannot change the ${key} of healing`, cause);
    }
  }
}

function unavailable(what: string, cause: unknown): unknown {
  if (isStoreError(cause) && cause.code !== "nats_unavailable") return cause;
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new StoreError("healing_unavailable", `${what}: ${reason}`, { retriable: true, cause });
}
