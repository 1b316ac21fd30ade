/**
 * All commits and barriers of this process on one metadata stream. One round is in flight at a time; whatever comes
 * meanwhile joins the next one, so a round has as many members as the load wants, and who meets no round waits for nobody.
 *
 * | a commit met                                           | next                                                     |
 * |--------------------------------------------------------|----------------------------------------------------------|
 * | stored                                                 | ok                                                       |
 * | refused, and the index shows its key as it expects     | another member conflicted: the next round takes it again |
 * | refused otherwise; or known to be outdated, never sent | judged behind a barrier                                  |
 * | no answer                                              | *doubtful* from now on, and judged behind a barrier      |
 * | its own value, delivered by the stream                 | ok, whatever was answered                                |
 *
 * | judged: the key's revision is | never doubtful              | doubtful                                    |
 * |-------------------------------|-----------------------------|---------------------------------------------|
 * | the expected one              | the next round takes it     | the next round takes it                     |
 * | another                       | conflict, with that record  | unknown: between, it may have been this one |
 *
 * Taking a doubtful commit again is safe: all attempts expect the same revision, so at most one is ever stored. A
 * conflict is answered from behind a barrier because a client may be refused on its evidence.
 */
import type { PendingEvent } from "../domain/change-event.ts";
import { StoreError } from "../domain/errors.ts";
import type { Revision } from "../domain/ids.ts";
import { LIMITS } from "../limits.ts";
import { KIB } from "../lib/bytes.ts";
import type { Deadline } from "../lib/deadline.ts";
import { remainingMs } from "../lib/deadline.ts";
import { pauseAfter } from "../lib/round-pause.ts";
import type { NatsLink } from "../nats/nats-link.ts";
import { CommitQueue } from "./commit-queue.ts";
import type { MetadataMetrics } from "./metrics.ts";
import { publishBatch } from "./nats-batch.ts";
import { encodeRound, ownEntriesOf } from "./nats-round.ts";
import type { CommitOutcome } from "./plan-commits.ts";
import type { StoredValue } from "./stored-value.ts";
import { revisionOf } from "./stored-value.ts";
import type { StreamEntry, StreamProgress } from "./stream-progress.ts";

export type LaneOptions = {
  readonly link: NatsLink;
  /** Index of the stream. */
  readonly stream: number;
  readonly metrics: MetadataMetrics;
  /** Where this process is in the stream; another one after the stream was set back. */
  readonly progress: () => StreamProgress;
  /** The value of a key in the index. */
  readonly valueOf: (slot: string) => StoredValue | null;
  /** The newest revision of a key that this process knows of. */
  readonly revisionOf: (slot: string) => Revision;
  /** Puts what this process had stored in line for the index, in a round that began when `gapCount` was read. */
  readonly takeOwn: (entries: readonly StreamEntry[], gapCount: number) => void;
  /** The stream gave out a sequence that it had given out before. */
  readonly onSetBack: () => void;
  /** The index failed, and with it everything that is decided by it. */
  readonly onFailed: (cause: StoreError) => void;
};

export type LaneChange = {
  readonly slot: string;
  readonly subject: string;
  /** Bears `mark`, which no other change has. Becomes the lane's. */
  readonly value: StoredValue;
  readonly mark: number;
  readonly ifRevision: Revision;
  readonly event: PendingEvent | null;
};

type Commit = LaneChange & {
  readonly order: number;
  readonly isOver: () => boolean;
  readonly settle: (outcome: CommitOutcome | StoreError) => void;
  /** True when an attempt had no answer. */
  isDoubtful: boolean;
  /** True while no other change of the key may be sent. */
  holdsKey: boolean;
};

type Reader = { readonly startedAtMs: number; readonly settle: (cause: StoreError | null) => void };

type Round = {
  readonly commits: readonly Commit[];
  readonly judged: readonly Commit[];
  readonly readers: readonly Reader[];
  readonly progress: StreamProgress;
  /** As they were when the round began. */
  readonly gapCount: number;
  readonly applied: number;
};

const BATCH_LIMITS = { countMax: LIMITS.commitBatchMax, bytesMax: 512 * KIB };
/** Values acknowledged and not delivered yet; with more, the lane waits for the stream. */
const OWN_WAITING_MAX = 20_000;
const RETRY_MS_MIN = 25;
const RETRY_MS_MAX = 250;
const ID_BYTES = 12;

export class CommitLane {
  readonly #options: LaneOptions;
  readonly #queue = new CommitQueue<Commit>();
  #judged: Commit[] = [];
  #readers: Reader[] = [];
  /** Every commit without an outcome, by mark. */
  readonly #open = new Map<number, Commit>();
  #orderLast = 0;
  #roundCount = 0;
  #isRunning = false;
  #isAwake = false;
  #retryMs = RETRY_MS_MIN;
  #refusal: StoreError | null = null;
  readonly #closing = new AbortController();
  #onIdle: () => void = () => {};

  constructor(options: LaneOptions) {
    this.#options = options;
  }

  /** @throws {StoreError} `metadata_unavailable` the outcome is unknown */
  commit(change: LaneChange, deadline: Deadline): Promise<CommitOutcome> {
    if (this.#refusal !== null) return Promise.reject(this.#refusal);
    return new Promise((resolve, reject) => {
      const commit: Commit = {
        ...change,
        order: ++this.#orderLast,
        isDoubtful: false,
        holdsKey: false,
        isOver: () => this.#isOver(commit, deadline),
        settle: (outcome) => {
          if (!this.#open.delete(change.mark)) return;
          this.#releaseKey(commit);
          if (outcome instanceof StoreError) reject(outcome);
          else resolve(outcome);
          if (this.#open.size === 0) this.#onIdle();
        },
      };
      this.#open.set(change.mark, commit);
      this.#queue.add(commit);
      this.#wake();
    });
  }

  /** Resolves when the index holds everything that was committed before this call. @throws as `commit` */
  barrier(): Promise<void> {
    if (this.#refusal !== null) return Promise.reject(this.#refusal);
    return new Promise((resolve, reject) => {
      const settle = (cause: StoreError | null) => (cause === null ? resolve() : reject(cause));
      this.#readers.push({ startedAtMs: this.#options.link.clock.monotonicMs(), settle });
      this.#wake();
    });
  }

  /** To be told of every record that the stream delivers, before it is put into the index. */
  recognize(mark: number, slot: string, revision: Revision): void {
    const commit = this.#open.get(mark);
    if (commit?.slot === slot) commit.settle({ ok: true, revision });
  }

  /** To be told whenever the index has moved on. */
  noteProgress(): void {
    if (this.#options.progress().needsSequence) this.#wake();
  }

  /** Resolves when every commit called before has its outcome. */
  idle(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#open.size === 0) resolve();
      else this.#onIdle = resolve;
    });
  }

  /** Rejects whoever waits or still comes. */
  close(cause: StoreError): void {
    this.#refusal = cause;
    this.#closing.abort();
    for (const commit of [...this.#open.values()]) commit.settle(cause);
    for (const { settle } of this.#readers.splice(0)) settle(cause);
  }

  #wake(): void {
    this.#isAwake = true;
    if (!this.#isRunning) void this.#run();
  }

  async #run(): Promise<void> {
    this.#isRunning = true;
    try {
      // What became ready together shares the first round.
      await Promise.resolve();
      while (this.#isAwake && this.#refusal === null) {
        this.#isAwake = false;
        if (this.#options.progress().ownCount > OWN_WAITING_MAX) await this.#pause();
        const round = this.#formRound();
        if (round !== null) await this.#playAndPause(round);
      }
    } catch (cause) {
      if (!(cause instanceof StoreError)) throw cause;
      this.#options.onFailed(cause);
    } finally {
      this.#isRunning = false;
    }
  }

  /** Everything that waits and may go; null when there is nothing. */
  #formRound(): Round | null {
    const progress = this.#options.progress();
    const { ready, outdated } = this.#queue.take(BATCH_LIMITS, this.#options.revisionOf);
    for (const commit of ready) commit.holdsKey = true;
    const judged = [...this.#judged.splice(0), ...outdated].filter((commit) => !commit.isOver());
    const readers = this.#readers.splice(0);
    if (ready.length + judged.length + readers.length === 0 && !progress.needsSequence) return null;
    // What did not fit is looked at again when this round is over.
    this.#isAwake = true;
    return { commits: ready, judged, readers, progress, gapCount: progress.gapCount, applied: progress.applied };
  }

  async #playAndPause(round: Round): Promise<void> {
    const { clock } = this.#options.link;
    const startedAtMs = clock.monotonicMs();
    await this.#play(round);
    const memberCount = round.commits.length + round.judged.length + round.readers.length;
    await pauseAfter(clock, { startedAtMs, memberCount }, this.#closing.signal);
  }

  async #play(round: Round): Promise<void> {
    const { link, stream, metrics } = this.#options;
    const id = Buffer.from(link.random.bytes(ID_BYTES)).toString("base64url");
    const { commits } = round;
    const answer = await publishBatch(link, id, encodeRound(link, stream, { commits, id, number: ++this.#roundCount }));
    metrics.rounds.inc({ outcome: answer.kind });
    if (answer.kind === "stored" && round.progress === this.#options.progress()) {
      this.#retryMs = RETRY_MS_MIN;
      if (answer.firstSequence > round.applied) return this.#takeStored(round, answer);
      this.#options.onSetBack();
    }
    // Behind the next round, then.
    this.#readers.unshift(...round.readers);
    this.#judged.unshift(...round.judged);
    if (answer.kind === "refused") return this.#takeRefusal(commits);
    for (const commit of commits) commit.isDoubtful = true;
    this.#judged.push(...commits);
    const reason = answer.kind === "unknown" ? answer.reason : "the stream is followed anew";
    link.logger.debug({ stream, reason, commitCount: commits.length }, "a metadata round has no outcome");
    await this.#pause();
  }

  #takeStored(round: Round, stored: { readonly firstSequence: number; readonly lastSequence: number }): void {
    const { commits, readers, judged, gapCount } = round;
    commits.forEach((commit, index) => {
      commit.settle({ ok: true, revision: (stored.firstSequence + index) as Revision });
    });
    if (commits.length > 0) this.#options.metrics.batchSize.observe(commits.length);
    this.#options.takeOwn(ownEntriesOf(commits, stored), gapCount);
    if (readers.length + judged.length > 0) void this.#answerBehind(round, stored.lastSequence);
  }

  /** The next round goes on while the index follows to where this one stands. */
  async #answerBehind({ readers, judged, progress }: Round, sequence: number): Promise<void> {
    if (!(await progress.whenExact(sequence))) {
      this.#readers.unshift(...readers);
      this.#judged.unshift(...judged);
      return this.#wake();
    }
    const { link, metrics } = this.#options;
    const first = readers[0];
    if (first !== undefined) metrics.barrierSeconds.observe((link.clock.monotonicMs() - first.startedAtMs) / 1_000);
    for (const { settle } of readers) settle(null);
    for (const commit of judged) this.#judge(commit);
  }

  #judge(commit: Commit): void {
    if (commit.isOver()) return;
    try {
      const current = this.#options.valueOf(commit.slot);
      if (revisionOf(current) === commit.ifRevision) return this.#takeAgain(commit);
      if (!commit.isDoubtful) this.#options.metrics.conflicts.inc();
      commit.settle(commit.isDoubtful ? unknownOutcome() : { ok: false, current });
    } catch (cause) {
      commit.settle(cause instanceof StoreError ? cause : unknownOutcome(cause));
    }
  }

  /** The answer does not name who conflicted. Where the index already shows it, the others need not wait for a barrier. */
  #takeRefusal(commits: readonly Commit[]): void {
    const asExpected = commits.filter((commit) => this.#options.revisionOf(commit.slot) === commit.ifRevision);
    const isShown = asExpected.length < commits.length;
    const innocent = new Set(isShown ? asExpected : []);
    for (const commit of commits) {
      if (innocent.has(commit)) this.#takeAgain(commit);
      else this.#judged.push(commit);
    }
    this.#wake();
  }

  #takeAgain(commit: Commit): void {
    if (commit.isOver()) return;
    this.#releaseKey(commit);
    this.#queue.add(commit);
    this.#wake();
  }

  #releaseKey(commit: Commit): void {
    if (!commit.holdsKey) return;
    commit.holdsKey = false;
    this.#queue.release(commit.slot);
    this.#wake();
  }

  /** Whether nobody waits for it; after its deadline, nobody does. */
  #isOver(commit: Commit, deadline: Deadline): boolean {
    if (!this.#open.has(commit.mark)) return true;
    if (remainingMs(this.#options.link.clock, deadline) > 0) return false;
    commit.settle(unknownOutcome());
    return true;
  }

  async #pause(): Promise<void> {
    await this.#options.link.clock.sleep(this.#retryMs, this.#closing.signal);
    this.#retryMs = Math.min(this.#retryMs * 2, RETRY_MS_MAX);
    this.#isAwake = true;
  }
}

function unknownOutcome(cause?: unknown): StoreError {
  return new StoreError("metadata_unavailable", "The metadata store did not answer in time: the outcome is unknown", {
    retriable: true,
    cause,
  });
}
