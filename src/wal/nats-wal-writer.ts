/**
 * The writing side of the NATS log: group appends with settlements that ride along, repeated until they are known to be
 * durable or their deadline has passed.
 */
import type { JetStreamClient } from "@nats-io/jetstream";
import { jetstream } from "@nats-io/jetstream";
import { StoreError } from "../domain/errors.ts";
import type { Txid } from "../domain/ids.ts";
import { Batcher } from "../lib/batcher.ts";
import { KIB } from "../lib/bytes.ts";
import type { Timer } from "../lib/clock.ts";
import type { Deadline } from "../lib/deadline.ts";
import { deadlineIn, remainingMs, withDeadline } from "../lib/deadline.ts";
import { LIMITS } from "../limits.ts";
import type { NatsLink } from "../nats/nats-link.ts";
import type { WalMetrics } from "./metrics.ts";
import { walSequenceOf } from "./open-intents.ts";
import type { WalSequence } from "./wal.ts";
import type { WalAppend } from "./wal-message.ts";
import { APPEND_HEAD_BYTES, encodeWalMessage } from "./wal-message.ts";

/** Intents that share a message together stay far below the servers' limit of 1 MiB. */
const MESSAGE_BYTES_MAX = 512 * KIB;
/** An intent beyond this has no message that could hold it. */
const INTENT_BYTES_MAX = 768 * KIB;
const SETTLEMENTS_PER_MESSAGE = 4_096;
/** Settlements that wait while the servers are away; beyond it the oldest are left to recovery. */
const SETTLEMENTS_MAX = 65_536;
/** How long settlements may wait for company when nothing is appended. */
const SETTLE_DELAY_MS = 200;
/** How long one message may take before it is sent again. */
const ATTEMPT_MS = 2_000;
const RETRY_MS = 50;
/** How long appends under way may take when the log is closed. */
const CLOSE_MS = 5_000;

type Append = WalAppend & { readonly deadline: Deadline };
/** `flush` takes settlements along and tells which message it was. */
type Item = Append | "flush";
/** Where the item is now durable, or null when that is not known. */
type Place = { readonly streamSequence: number; readonly index: number } | null;

export class NatsWalWriter {
  readonly #link: NatsLink;
  readonly #client: JetStreamClient;
  readonly #metrics: WalMetrics | null;
  readonly #batcher: Batcher<Item, Place>;
  /** Settled, not yet told to the stream; in order. */
  #settled = new Set<Txid>();
  /** Appends under way by txid: their settlements must stand behind them in the log. */
  readonly #appending = new Map<Txid, { count: number; settled: boolean }>();
  /** What waits for its place in the log, also between two attempts. */
  readonly #placing = new Set<Promise<unknown>>();
  #settleTimer: Timer | null = null;
  #closed = false;
  /** Closed, and what was under way has had its time. */
  #hasGivenUp = false;

  constructor(link: NatsLink, metrics: WalMetrics | null) {
    this.#link = link;
    this.#batcher = new Batcher((items) => this.#send(items), LIMITS.commitBatchMax, link.clock);
    this.#client = jetstream(link.connection, { timeout: ATTEMPT_MS });
    this.#metrics = metrics;
  }

  /** Resolves when it is durable. @throws {StoreError} `wal_unavailable` */
  async append({ txid, encoded }: WalAppend, deadline: Deadline): Promise<WalSequence> {
    this.#refuseWhenClosed();
    if (encoded.length > INTENT_BYTES_MAX) {
      const limit = `at most ${INTENT_BYTES_MAX} are possible`;
      throw new StoreError("wal_unavailable", `Cannot log an intent of ${encoded.length} bytes: ${limit}`);
    }
    const { clock } = this.#link;
    const startMs = clock.monotonicMs();
    const state = this.#beginAppend(txid);
    try {
      const place = await this.#place({ txid, encoded, deadline }, deadline);
      this.#metrics?.appendSeconds.observe((clock.monotonicMs() - startMs) / 1_000);
      return walSequenceOf(place.streamSequence, place.index);
    } finally {
      this.#endAppend(txid, state);
    }
  }

  /** Told to the stream with the next message, or alone after a while. */
  settle(txids: readonly Txid[]): void {
    this.#refuseWhenClosed();
    for (const txid of txids) {
      const appending = this.#appending.get(txid);
      if (appending === undefined) this.#settled.add(txid);
      else appending.settled = true;
    }
    this.#boundSettled();
    this.#settleSoon();
  }

  /**
   * Tells all settlements. Answers the sequence of a message of the stream that was sent after this call.
   * @throws {StoreError} `wal_unavailable` (retriable)
   */
  async flush(deadline: Deadline): Promise<number> {
    this.#refuseWhenClosed();
    let waiting = this.#settled.size;
    let streamSequence: number;
    do {
      ({ streamSequence } = await this.#place("flush", deadline));
      waiting -= SETTLEMENTS_PER_MESSAGE;
    } while (waiting > 0);
    return streamSequence;
  }

  /** Waits for what was called before. Settlements that do not arrive are recovery's. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#settleTimer?.cancel();
    const { clock } = this.#link;
    const done = Promise.allSettled([...this.#placing, this.#batcher.add("flush")]);
    await withDeadline(clock, deadlineIn(clock, CLOSE_MS), done, expired).catch(() => {});
    this.#hasGivenUp = true;
  }

  async #place(item: Item, deadline: Deadline): Promise<NonNullable<Place>> {
    const placing = this.#placeAtLast(item, deadline);
    this.#placing.add(placing);
    try {
      return await placing;
    } finally {
      this.#placing.delete(placing);
    }
  }

  async #placeAtLast(item: Item, deadline: Deadline): Promise<NonNullable<Place>> {
    const { clock } = this.#link;
    for (;;) {
      const place = await withDeadline(clock, deadline, this.#batcher.add(item), expired);
      if (place !== null) return place;
      if (remainingMs(clock, deadline) <= RETRY_MS || this.#link.connection.isClosed()) throw expired();
      await clock.sleep(RETRY_MS);
      if (this.#hasGivenUp) throw unavailable("The log is closed");
    }
  }

  async #send(items: readonly Item[]): Promise<Place[]> {
    const groups = groupBySize(items.filter((item) => item !== "flush").filter((item) => this.#isAwaited(item)));
    const settled = [...this.#settled].slice(0, SETTLEMENTS_PER_MESSAGE);
    const isFlushed = settled.length > 0 || items.includes("flush");
    if (groups.length === 0 && isFlushed) groups.push([]);
    for (const txid of settled) this.#settled.delete(txid);

    const sequences = await Promise.all(
      groups.map((appends, index) => this.#publish({ settled: index === 0 ? settled : [], appends })),
    );
    if (sequences[0] === null) this.#settleAgain(settled);
    this.#settleSoon();

    const places = new Map<Item, Place>();
    for (const [index, appends] of groups.entries()) {
      const streamSequence = sequences[index] ?? null;
      if (streamSequence === null) continue;
      places.set("flush", { streamSequence, index: 0 });
      for (const [place, append] of appends.entries()) places.set(append, { streamSequence, index: place });
    }
    return items.map((item) => places.get(item) ?? null);
  }

  /** The sequence of the stored message, or null when it is not known to be stored. */
  async #publish(message: { settled: readonly Txid[]; appends: readonly Append[] }): Promise<number | null> {
    if (message.appends.length > 0) this.#metrics?.batchIntents.observe(message.appends.length);
    try {
      return (await this.#client.publish(this.#link.names.walSubject, encodeWalMessage(message))).seq;
    } catch (cause) {
      // The servers elect a leader, or the connection is gone: who waits tries again until its deadline.
      this.#link.logger.debug({ cause: String(cause) }, "a message of the log was not acknowledged");
      return null;
    }
  }

  #isAwaited(append: Append): boolean {
    return remainingMs(this.#link.clock, append.deadline) > 0;
  }

  #beginAppend(txid: Txid): { count: number; settled: boolean } {
    const state = this.#appending.get(txid) ?? { count: 0, settled: false };
    state.count += 1;
    // Settlements that were called before must not be told behind this append, which supersedes what they settled.
    state.settled = false;
    this.#settled.delete(txid);
    this.#appending.set(txid, state);
    return state;
  }

  #endAppend(txid: Txid, state: { count: number; settled: boolean }): void {
    state.count -= 1;
    if (state.count > 0) return;
    this.#appending.delete(txid);
    if (!state.settled) return;
    this.#settled.add(txid);
    this.#settleSoon();
  }

  /** Settlements that may not have been stored go before those that came since, unless their txid is appended anew. */
  #settleAgain(txids: readonly Txid[]): void {
    this.#settled = new Set([...txids.filter((txid) => !this.#appending.has(txid)), ...this.#settled]);
    this.#boundSettled();
  }

  #boundSettled(): void {
    for (const txid of this.#settled) {
      if (this.#settled.size <= SETTLEMENTS_MAX) return;
      this.#settled.delete(txid);
    }
  }

  #settleSoon(): void {
    if (this.#settled.size === 0 || this.#settleTimer !== null || this.#closed) return;
    this.#settleTimer = this.#link.clock.startTimer(SETTLE_DELAY_MS, () => {
      this.#settleTimer = null;
      if (this.#settled.size > 0 && !this.#closed) void this.#batcher.add("flush");
    });
  }

  #refuseWhenClosed(): void {
    if (this.#closed) throw unavailable("The log is closed");
  }
}

function groupBySize(appends: readonly Append[]): Append[][] {
  const groups: Append[][] = [];
  let groupBytes = Infinity;
  for (const append of appends) {
    const bytes = APPEND_HEAD_BYTES + append.encoded.length;
    if (groupBytes + bytes > MESSAGE_BYTES_MAX) {
      groups.push([]);
      groupBytes = 0;
    }
    groups.at(-1)?.push(append);
    groupBytes += bytes;
  }
  return groups;
}

function expired(): StoreError {
  return unavailable("The log did not answer in time: the outcome is unknown");
}

function unavailable(message: string): StoreError {
  return new StoreError("wal_unavailable", message, { retriable: true });
}
