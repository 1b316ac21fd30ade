/**
 * Intents in an LMDB environment that the metadata store shares. One process owns it.
 *
 * Appends are group commits: whatever waits is written as one transaction. Settling is lazy: an intent leaves memory
 * at once and the disk with one of the next appends, or shortly after when none comes. Which intents are open is decided
 * in memory, so that neither an append under way nor a settled one is ever read.
 *
 * A crash may bring back settled intents, and leave two of one txid when the second superseded the first; at opening the
 * later one counts.
 */
import { StoreError } from "../domain/errors.ts";
import type { Txid } from "../domain/ids.ts";
import type { Intent } from "../domain/intent.ts";
import { assert } from "../lib/assert.ts";
import { Batcher } from "../lib/batcher.ts";
import type { Clock, Timer } from "../lib/clock.ts";
import type { Deadline } from "../lib/deadline.ts";
import { remainingMs, withDeadline } from "../lib/deadline.ts";
import type { LmdbDatabase, LmdbEnvironment } from "../lib/lmdb-environment.ts";
import { LmdbFailure } from "../lib/lmdb-environment.ts";
import { nextTurn } from "../lib/next-turn.ts";
import { LIMITS } from "../limits.ts";
import {
  INTENTS_END,
  INTENTS_START,
  encodeEntry,
  intentKey,
  intentOf,
  putSequence,
  readSequence,
  sequenceOf,
  txidOf,
} from "./lmdb-wal-layout.ts";
import type { Wal, WalEntry, WalSequence } from "./wal.ts";

export type LmdbWalOptions = {
  /** Stays the caller's, who closes it after the log. */
  readonly environment: LmdbEnvironment;
  readonly clock: Clock;
};

/** Opens the log in `environment`. Reads the keys of all open intents. @throws {StoreError} `wal_unavailable`, `format_unknown` */
export function openLmdbWal(options: LmdbWalOptions): Wal {
  return new LmdbWal(options);
}

/** How long settled intents may stay on disk while nothing is appended. */
const REMOVAL_DELAY_MS = 200;
/** Settled intents that one transaction removes. */
const REMOVALS_MAX = 1_024;
/** Intents decoded in one turn of the event loop. */
const CHUNK_ENTRIES = 256;

type Append = { readonly txid: Txid; readonly value: Buffer; readonly deadline: Deadline; isSettled: boolean };
type Item = Append | "remove" | "barrier";

class LmdbWal implements Wal {
  readonly #environment: LmdbEnvironment;
  readonly #clock: Clock;
  readonly #batcher = new Batcher<Item, WalSequence | null>((items) => this.#work(items), LIMITS.commitBatchMax);
  /** Durable intents that are not settled. */
  readonly #open = new Map<Txid, WalSequence>();
  /** The latest append of each txid that is not yet answered. */
  readonly #appending = new Map<Txid, Append>();
  /** Settled or superseded, still on disk. */
  #removable: WalSequence[] = [];
  #removalTimer: Timer | null = null;
  #sequenceLast: WalSequence = 0;
  #closed = false;

  constructor({ environment, clock }: LmdbWalOptions) {
    this.#environment = environment;
    this.#clock = clock;
    this.#read((db) => this.#load(db));
    this.#removeSoon();
  }

  async append(intent: Intent, deadline: Deadline): Promise<WalSequence> {
    this.#refuseWhenClosed();
    const item = { txid: intent.txid, value: encodeEntry(intent), deadline, isSettled: false };
    this.#appending.set(intent.txid, item);
    const sequence = await withDeadline(this.#clock, deadline, this.#batcher.add(item), expired);
    if (sequence === null) throw expired();
    return sequence;
  }

  async settle(txids: readonly Txid[]): Promise<void> {
    this.#refuseWhenClosed();
    for (const txid of txids) {
      const sequence = this.#open.get(txid);
      if (sequence !== undefined) {
        this.#open.delete(txid);
        this.#removable.push(sequence);
      }
      const appending = this.#appending.get(txid);
      if (appending !== undefined) appending.isSettled = true;
    }
    this.#removeSoon();
  }

  async readOpen(after: WalSequence, limit: number, deadline: Deadline): Promise<WalEntry[]> {
    const found: WalEntry[] = [];
    let start = after + 1;
    while (found.length < limit) {
      this.#refuseWhenClosed();
      const chunk = this.#readChunk(start);
      for (const { sequence, value } of chunk) {
        if (found.length === limit) break;
        if (this.#open.get(txidOf(value)) === sequence) found.push(this.#entryOf(sequence, value));
      }
      const last = chunk.at(-1);
      if (last === undefined) break;
      start = last.sequence + 1;
      if (remainingMs(this.#clock, deadline) === 0) throw expired();
      await nextTurn();
    }
    return found;
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#removalTimer?.cancel();
    // What was called before has its answer when the barrier has its own.
    await this.#batcher.add("barrier").catch(() => {});
  }

  /** One sequence per item; null for what is no append and for appends that nobody waits for any more. */
  async #work(items: Item[]): Promise<(WalSequence | null)[]> {
    const removals = this.#removable.splice(0, REMOVALS_MAX);
    const appends = new Map<Item, { append: Append; sequence: WalSequence }>();
    let sequenceLast = this.#sequenceLast;
    let valueBytes = 0;
    for (const item of items) {
      if (typeof item === "string" || remainingMs(this.#clock, item.deadline) === 0) continue;
      sequenceLast += 1;
      valueBytes += item.value.length;
      appends.set(item, { append: item, sequence: sequenceLast });
    }
    try {
      if (appends.size > 0 || removals.length > 0) {
        const size = { entryCount: appends.size + removals.length + 1, valueBytes };
        await this.#write(size, (db) => {
          for (const sequence of removals) void db.remove(intentKey(sequence));
          for (const { append, sequence } of appends.values()) void db.put(intentKey(sequence), append.value);
          putSequence(db, sequenceLast);
        });
      }
      this.#sequenceLast = sequenceLast;
      for (const { append, sequence } of appends.values()) this.#opened(append, sequence);
    } catch (cause) {
      this.#removable.push(...removals);
      throw cause;
    } finally {
      for (const item of items) this.#answered(item);
      this.#removeSoon();
    }
    return items.map((item) => appends.get(item)?.sequence ?? null);
  }

  #entryOf(sequence: WalSequence, value: Buffer): WalEntry {
    const intent = intentOf(value);
    // One machine wrote it and reads it, so its wall clock will do.
    return { sequence, intent, ageMs: Math.max(0, this.#clock.wallMs() - intent.startedAtMs) };
  }

  #opened({ txid, isSettled }: Append, sequence: WalSequence): void {
    const superseded = this.#open.get(txid);
    if (superseded !== undefined) this.#removable.push(superseded);
    if (isSettled) {
      this.#open.delete(txid);
      this.#removable.push(sequence);
    } else {
      this.#open.set(txid, sequence);
    }
  }

  #answered(item: Item): void {
    if (typeof item !== "string" && this.#appending.get(item.txid) === item) this.#appending.delete(item.txid);
  }

  /** Sees to it that settled intents leave the disk, with the next append or after a while. */
  #removeSoon(): void {
    if (this.#removable.length === 0 || this.#removalTimer !== null || this.#closed) return;
    this.#removalTimer = this.#clock.startTimer(REMOVAL_DELAY_MS, () => {
      this.#removalTimer = null;
      if (this.#removable.length === 0 || this.#closed) return;
      // A failure has fenced the environment, which told its owner.
      this.#batcher.add("remove").catch(() => {});
    });
  }

  #load(db: LmdbDatabase): void {
    this.#sequenceLast = readSequence(db);
    for (const { key, value } of db.getRange({ start: INTENTS_START, end: INTENTS_END })) {
      const sequence = sequenceOf(key);
      assert(sequence <= this.#sequenceLast, "the last sequence was written with its intent");
      const superseded = this.#open.get(txidOf(value));
      if (superseded !== undefined) this.#removable.push(superseded);
      this.#open.set(txidOf(value), sequence);
    }
  }

  #readChunk(start: WalSequence): { sequence: WalSequence; value: Buffer }[] {
    return this.#read((db) =>
      [...db.getRange({ start: intentKey(start), end: INTENTS_END, limit: CHUNK_ENTRIES })].map(({ key, value }) => ({
        sequence: sequenceOf(key),
        value,
      })),
    );
  }

  #read<T>(query: (db: LmdbDatabase) => T): T {
    try {
      return this.#environment.read(query);
    } catch (cause) {
      throw unavailable(cause);
    }
  }

  async #write(size: { entryCount: number; valueBytes: number }, apply: (db: LmdbDatabase) => void): Promise<void> {
    try {
      await this.#environment.write(size, apply);
    } catch (cause) {
      throw unavailable(cause);
    }
  }

  #refuseWhenClosed(): void {
    if (this.#closed) throw new StoreError("wal_unavailable", "The log is closed", { retriable: true });
  }
}

function unavailable(cause: unknown): unknown {
  if (!(cause instanceof LmdbFailure)) return cause;
  return new StoreError("wal_unavailable", `The log cannot answer. ${cause.message}`, { retriable: true, cause });
}

function expired(): StoreError {
  return new StoreError("wal_unavailable", "The log did not answer in time: the outcome is unknown", {
    retriable: true,
  });
}
