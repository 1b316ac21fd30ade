/** The open intents as the messages of the log tell them, in order; and what of the log they still need. */
import type { Txid } from "../domain/ids.ts";
import { decodeIntent } from "../domain/intent.ts";
import { assert } from "../lib/assert.ts";
import type { WalEntry, WalSequence } from "./wal.ts";
import type { WalAppend, WalMessage } from "./wal-message.ts";

export type OpenIntent = WalAppend & {
  readonly sequence: WalSequence;
  /** When the txid was first seen open, on the monotonic clock. */
  readonly openSinceMs: number;
  /** When the message that holds it now was seen. */
  readonly storedSinceMs: number;
};

/** Sequences of intents that share a message differ by their place in it. */
const SEQUENCES_PER_MESSAGE = 1_024;

export function walSequenceOf(streamSequence: number, index: number): WalSequence {
  assert(index < SEQUENCES_PER_MESSAGE, "the intents of a message have sequences of their own");
  return streamSequence * SEQUENCES_PER_MESSAGE + index;
}

function streamSequenceOf(sequence: WalSequence): number {
  return Math.floor(sequence / SEQUENCES_PER_MESSAGE);
}

export class OpenIntents {
  /** A txid that is appended again moves behind the others, so the order is that of the sequences. */
  readonly #byTxid = new Map<Txid, OpenIntent>();

  get size(): number {
    return this.#byTxid.size;
  }

  /** Takes up a message; a copy is kept of what it opens. */
  apply(streamSequence: number, message: WalMessage, nowMs: number): void {
    for (const txid of message.settled) this.#byTxid.delete(txid);
    for (const [index, { txid, encoded }] of message.appends.entries()) {
      const openSinceMs = this.#byTxid.get(txid)?.openSinceMs ?? nowMs;
      const sequence = walSequenceOf(streamSequence, index);
      this.#byTxid.delete(txid);
      // A view would hold the whole message in memory for as long as one of its intents is open.
      const kept = Uint8Array.from(encoded);
      this.#byTxid.set(txid, { txid, encoded: kept, sequence, openSinceMs, storedSinceMs: nowMs });
    }
  }

  /** Open intents behind `after`, at most `limit`. @throws {StoreError} `format_unknown` */
  page(after: WalSequence, limit: number, nowMs: number): WalEntry[] {
    const found: WalEntry[] = [];
    for (const { sequence, encoded, openSinceMs } of this.#byTxid.values()) {
      if (found.length === limit) break;
      if (sequence <= after) continue;
      found.push({ sequence, intent: decodeIntent(encoded), ageMs: nowMs - openSinceMs });
    }
    return found;
  }

  /** Forgets what messages before `streamSequence` told. */
  dropBefore(streamSequence: number): void {
    for (const { txid, sequence } of this.#byTxid.values()) {
      if (streamSequenceOf(sequence) >= streamSequence) return;
      this.#byTxid.delete(txid);
    }
  }

  clear(): void {
    this.#byTxid.clear();
  }

  planTrim(endSequence: number, nowMs: number): TrimPlan {
    return planTrim([...this.#byTxid.values()], endSequence, nowMs);
  }
}

export type TrimPlan = {
  /** Stuck intents to append again behind the others, before anything is removed. */
  readonly again: readonly OpenIntent[];
  /** Messages before this one may go. */
  readonly purgeBefore: number;
};

/** What is younger may be settled at any moment. */
const STUCK_AGE_MS = 60_000;
/** Messages that a stuck intent may hold back before it is worth a message to let them go. */
const HELD_MESSAGES_MAX = 1_000;
/** A stuck intent is written anew long before the age limit of the stream would take it. */
const STORED_MS_MAX = 12 * 3_600_000;
const AGAIN_MAX = 256;
/** The newest messages stay: other followers may be about to read up to one of them. */
const KEPT_MESSAGES = 64;

/**
 * How much of the log, whose last message is `endSequence`, is not needed for `open`, in order of their sequences. The
 * first intent that is not moved is the horizon; only stuck ones before it hold anything back.
 */
export function planTrim(open: readonly OpenIntent[], endSequence: number, nowMs: number): TrimPlan {
  const isMovable = (intent: OpenIntent) =>
    nowMs - intent.openSinceMs >= STUCK_AGE_MS &&
    (endSequence - streamSequenceOf(intent.sequence) >= HELD_MESSAGES_MAX ||
      nowMs - intent.storedSinceMs >= STORED_MS_MAX);
  const firstKept = open.findIndex((intent, index) => index === AGAIN_MAX || !isMovable(intent));
  const horizon = firstKept === -1 ? Infinity : streamSequenceOf((open[firstKept] as OpenIntent).sequence);
  return {
    again: firstKept === -1 ? open : open.slice(0, firstKept),
    purgeBefore: Math.min(horizon, endSequence + 1 - KEPT_MESSAGES),
  };
}
