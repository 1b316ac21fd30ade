/**
 * How far a process has followed one metadata stream, and from where on what it knows is exact. Pure: no I/O.
 *
 * The stream keeps only the last message of each subject. Whoever follows late is therefore never given what was
 * replaced meanwhile: after message 4 may come 7, and the record that 5 held is then found behind 7. Until that is
 * reached the index shows an older record than it should, so having reached a sequence is not enough for a reader:
 *
 * | met                                                      | means                                                |
 * |----------------------------------------------------------|------------------------------------------------------|
 * | the next sequence                                        | exact, if it was before                              |
 * | sequences left out, all of them this process's own       | their values are known: exact, if it was before      |
 * | other sequences left out: a gap                          | not exact until a sequence is reached that was given |
 * |                                                          | out after the gap was seen (`closeGaps`)             |
 *
 * Values that this process had acknowledged stand in line here until the stream reaches them, so none is left out.
 */
import { assert } from "../lib/assert.ts";
import type { StoredValue } from "./stored-value.ts";

/** One message of the stream; `value` and `slot` only where it is a record. */
export type StreamEntry = {
  readonly sequence: number;
  readonly slot: string | null;
  /** Bears its revision. */
  readonly value: StoredValue | null;
};

type Waiter = { readonly sequence: number; readonly resolve: (reached: boolean) => void };

export class StreamProgress {
  #applied: number;
  #known: number;
  /** The highest sequence at which the index was exact. */
  #exact = 0;
  #exactFrom = 0;
  /** What happened before this process followed is unknown too. */
  #gapOpen = true;
  #gapCount = 1;
  readonly #own: StreamEntry[] = [];
  readonly #ownLatest = new Map<string, StoredValue>();
  #waiters: Waiter[] = [];
  #isAbandoned = false;

  /** `applied`: the last sequence that the index holds. */
  constructor(applied: number) {
    this.#applied = applied;
    this.#known = applied;
  }

  get applied(): number {
    return this.#applied;
  }

  /** Sequences known to exist and not applied yet. */
  get lag(): number {
    return this.#known - this.#applied;
  }

  /** Own values that wait for the stream to reach them. */
  get ownCount(): number {
    return this.#own.length;
  }

  /** Gaps met until now; to be kept by whoever is about to have a sequence given out, for `closeGaps`. */
  get gapCount(): number {
    return this.#gapCount;
  }

  /** True when readers wait for nothing but a sequence given out from now on. */
  get needsSequence(): boolean {
    return this.#gapOpen && this.#waiters.some((waiter) => waiter.sequence <= this.#applied);
  }

  /** True when readers wait for messages that the stream has and that were not delivered yet. */
  get isAwaited(): boolean {
    return this.#waiters.some((waiter) => waiter.sequence > this.#applied);
  }

  /** This process's own newest value of a key that the index may not hold yet. */
  ownValueOf(slot: string): StoredValue | null {
    return this.#ownLatest.get(slot) ?? null;
  }

  learn(sequence: number): void {
    if (sequence > this.#known) this.#known = sequence;
  }

  /** Takes what the stream answered to have stored for this process, in rising order from call to call. */
  addOwn(entries: readonly StreamEntry[]): void {
    for (const entry of entries) {
      this.learn(entry.sequence);
      if (entry.sequence <= this.#applied) continue;
      assert(entry.sequence > (this.#own.at(-1)?.sequence ?? 0), "what is stored later stands further behind");
      this.#own.push(entry);
      if (entry.slot !== null && entry.value !== null) this.#ownLatest.set(entry.slot, entry.value);
    }
  }

  /**
   * Takes messages as the stream delivered them, in order, and own ones as far as they follow on. Answers what to put
   * into the index, in order, before anything else is done here. Repetitions are left out.
   */
  advance(delivered: readonly StreamEntry[]): StreamEntry[] {
    const steps: StreamEntry[] = [];
    let own = 0;
    for (const entry of delivered) {
      for (let head = this.#own[own]; head !== undefined && head.sequence <= entry.sequence; head = this.#own[++own]) {
        if (head.sequence < entry.sequence) this.#step(head, steps);
      }
      this.#step(entry, steps);
    }
    for (let head = this.#own[own]; head !== undefined && head.sequence <= this.#applied + 1; head = this.#own[++own]) {
      this.#step(head, steps);
    }
    for (const { slot, value } of this.#own.splice(0, own)) {
      if (slot !== null && this.#ownLatest.get(slot) === value) this.#ownLatest.delete(slot);
    }
    return steps;
  }

  /** `sequence` was given out after `gapCount` was read: it stands behind everything that those gaps left out. */
  closeGaps(gapCount: number, sequence: number): void {
    this.learn(sequence);
    if (gapCount !== this.#gapCount) return;
    this.#gapOpen = false;
    this.#exactFrom = Math.max(this.#exactFrom, sequence);
    this.#noteExact();
  }

  /**
   * Resolves with true once the index was exact at `sequence` or behind it: a reader then misses nothing that was
   * committed before that sequence was given out, however far the index goes on. False after `abandon`.
   */
  whenExact(sequence: number): Promise<boolean> {
    if (sequence <= this.#exact || this.#isAbandoned) return Promise.resolve(!this.#isAbandoned);
    return new Promise((resolve) => void this.#waiters.push({ sequence, resolve }));
  }

  /** Tells those who wait as far as the index is now exact. To be called when the index holds what `advance` answered. */
  release(): void {
    if (this.#waiters.length === 0) return;
    const reached = this.#waiters.filter((waiter) => waiter.sequence <= this.#exact);
    if (reached.length === 0) return;
    this.#waiters = this.#waiters.filter((waiter) => waiter.sequence > this.#exact);
    for (const { resolve } of reached) resolve(true);
  }

  /** Whoever waits here waits in vain: this follower is given up. */
  abandon(): void {
    this.#isAbandoned = true;
    for (const { resolve } of this.#waiters.splice(0)) resolve(false);
  }

  #step(entry: StreamEntry, steps: StreamEntry[]): void {
    if (entry.sequence <= this.#applied) return;
    if (entry.sequence !== this.#applied + 1) {
      this.#gapOpen = true;
      this.#gapCount += 1;
    }
    this.#applied = entry.sequence;
    this.learn(entry.sequence);
    steps.push(entry);
    this.#noteExact();
  }

  #noteExact(): void {
    if (!this.#gapOpen && this.#applied >= this.#exactFrom) this.#exact = this.#applied;
  }
}
