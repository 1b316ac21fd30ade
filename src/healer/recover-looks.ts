import { isDeepStrictEqual } from "node:util";
import type { Txid } from "../domain/ids.ts";
import type { Intent } from "../domain/intent.ts";
import type { PlacedBlob } from "../domain/manifest.ts";
import { blobSetsOf, placedBlobsOf } from "../domain/manifest.ts";
import type { ObjectRecord, StoredRecord } from "../domain/record.ts";
import type { Clock } from "../lib/clock.ts";
import type { WalEntry, WalSequence } from "../wal/wal.ts";
import type { RecoverPlan, RecoverState } from "./recover-plan.ts";
import { isCommitted } from "./recover-plan.ts";

/** What a recoverer has seen of one open intent. */
export type Look = {
  readonly intent: Intent;
  /** Where in the log it was met last. */
  sequence: WalSequence;
  /** When it first saw the txid fenced. */
  fencedAtMs: number | null;
  /** How many of the replaced blobs the record named when it last looked, and since when that many. */
  replacedNamed: number;
  replacedAtMs: number | null;
  /** Since when it has seen the record to be of another write, and the txid fenced: it will never be current again. */
  overAtMs: number | null;
  /** What it did before it had to look again. */
  outcome: "resurrected" | null;
  notBeforeMs: number;
  failures: number;
};

const RETRY_MS_MIN = 1_000;
const RETRY_MS_MAX = 8_000;

/** What a recoverer remembers of open intents from round to round. A new leader begins without: its waits begin anew. */
export class Looks {
  readonly #clock: Clock;
  #looks = new Map<Txid, Look>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /**
   * The look at this entry. An intent that its writer has appended again says something else than before, and is a new
   * one; an old one that was only moved behind the others, so that it holds up no messages, is not: its waits go on, or
   * in a log that is written to all the time they would never end.
   */
  of({ intent, sequence }: WalEntry): Look {
    const known = this.#looks.get(intent.txid);
    if (known !== undefined && (known.sequence === sequence || isDeepStrictEqual(known.intent, intent))) {
      known.sequence = sequence;
      return known;
    }
    const sinceMs = { fencedAtMs: null, replacedNamed: Infinity, replacedAtMs: null, overAtMs: null };
    const look = { intent, sequence, ...sinceMs, outcome: null, notBeforeMs: 0, failures: 0 };
    this.#looks.set(intent.txid, look);
    return look;
  }

  isTime(look: Look): boolean {
    return this.#clock.monotonicMs() >= look.notBeforeMs;
  }

  /** Takes in what the record says of the intent's blobs; answers for how long that has been so. */
  note(
    look: Look,
    { intent }: WalEntry,
    stored: StoredRecord | null,
  ): Pick<RecoverState, "fenced" | "fencedMs" | "replacedMs" | "overMs"> {
    const nowMs = this.#clock.monotonicMs();
    const record = stored?.record;
    if (record?.fencedTxids.includes(intent.txid) === true) look.fencedAtMs ??= nowMs;
    // The list forgets fences, writers bear that in mind: what was fenced once is.
    const fenced = look.fencedAtMs !== null;
    // What has left the record never comes back: the latest to leave counts for all of them.
    const named = countNamed(record, intent.replaces);
    if (named < look.replacedNamed) look.replacedAtMs = nowMs;
    look.replacedNamed = named;
    const isOver = fenced && record !== undefined && !isCommitted(record, intent);
    look.overAtMs = isOver ? (look.overAtMs ?? nowMs) : null;
    const sinceMs = (atMs: number | null) => nowMs - (atMs ?? nowMs);
    return {
      fenced,
      fencedMs: sinceMs(look.fencedAtMs),
      replacedMs: sinceMs(look.replacedAtMs),
      overMs: sinceMs(look.overAtMs),
    };
  }

  /** The plan's decision stands in the record from now on. */
  decided(look: Look, plan: RecoverPlan): void {
    const nowMs = this.#clock.monotonicMs();
    if (plan.action === "roll_back") {
      look.fencedAtMs ??= nowMs;
      look.overAtMs ??= nowMs;
    }
    if (plan.action !== "resurrect") return;
    look.replacedAtMs = nowMs;
    look.replacedNamed = 0;
    look.overAtMs = null;
    look.outcome = "resurrected";
  }

  /** Nothing went wrong, it is only too early. */
  lookAgain(look: Look, inMs: number): void {
    look.failures = 0;
    look.notBeforeMs = this.#clock.monotonicMs() + inMs;
  }

  /** Looks at it less and less often while it cannot be settled. */
  backOff(look: Look): void {
    const delayMs = Math.min(RETRY_MS_MIN * 2 ** look.failures, RETRY_MS_MAX);
    look.failures += 1;
    look.notBeforeMs = this.#clock.monotonicMs() + delayMs;
  }

  /** Forgets every intent that is not among the open ones. */
  keepOnly(open: ReadonlySet<Txid>): void {
    this.#looks = new Map([...this.#looks].filter(([txid]) => open.has(txid)));
  }
}

function countNamed(record: ObjectRecord | undefined, blobs: readonly PlacedBlob[]): number {
  if (record === undefined || blobs.length === 0) return 0;
  const named = blobSetsOf(record.manifest).flatMap(placedBlobsOf);
  return blobs.filter((blob) => named.some(({ id, node }) => id === blob.id && node === blob.node)).length;
}
