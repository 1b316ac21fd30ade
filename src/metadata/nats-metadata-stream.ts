/** One metadata stream as this process sees it: its commits, its messages and its place in the index. */
import { StoreError } from "../domain/errors.ts";
import type { BucketName, ObjectKey, Revision } from "../domain/ids.ts";
import { REVISION_NONE } from "../domain/ids.ts";
import { asBuffer } from "../lib/bytes.ts";
import type { Timer } from "../lib/clock.ts";
import type { NatsLink } from "../nats/nats-link.ts";
import { decodeToken } from "../nats/nats-names.ts";
import type { MetadataIndex } from "./lmdb-metadata-index.ts";
import { slotOf } from "./lmdb-metadata-layout.ts";
import type { MetadataMetrics } from "./metrics.ts";
import { CommitLane } from "./nats-commit-lane.ts";
import type { Delivered } from "./nats-stream-follower.ts";
import { StreamFollower } from "./nats-stream-follower.ts";
import type { StoredValue } from "./stored-value.ts";
import { markOf, revisionOf, withRevision } from "./stored-value.ts";
import type { StreamEntry } from "./stream-progress.ts";
import { StreamProgress } from "./stream-progress.ts";

export type MetadataStreamOptions = {
  readonly link: NatsLink;
  /** Index of the stream. */
  readonly stream: number;
  readonly index: MetadataIndex;
  readonly metrics: MetadataMetrics;
  readonly following: "always" | "on-demand";
  /** Told of the records put into the index, in order. */
  readonly onApplied: (values: readonly StoredValue[]) => void;
  /** The stream is not the one that the index followed, or lost what it had; `createdAt` when it is another. */
  readonly onReplaced: (reason: string, createdAt: string | null) => void;
  readonly onFailed: (cause: StoreError) => void;
};

/** How long the stream is followed after it was last asked for. */
const DEMAND_MS = 2_000;
/** A process that is seldom asked follows this often all the same, so that it never has much to make up for. */
const CATCH_UP_MS = 60_000;

export class MetadataStream {
  readonly lane: CommitLane;
  readonly #options: MetadataStreamOptions;
  readonly #follower: StreamFollower;
  readonly #recordPrefix: string;
  #progress: StreamProgress;
  #demandUntilMs = Number.POSITIVE_INFINITY;
  #catchUp: Timer | null = null;

  constructor(options: MetadataStreamOptions) {
    const { link, stream, index, metrics } = options;
    this.#options = options;
    this.#recordPrefix = `${link.names.metadataSubjects(stream).slice(0, -1)}record.`;
    this.#progress = new StreamProgress(index.placeOf(stream)?.applied ?? 0);
    this.lane = new CommitLane({
      link,
      stream,
      metrics,
      progress: () => this.#progress,
      valueOf: (slot) => index.valueOf(slot),
      revisionOf: (slot) => this.#newestRevisionOf(slot),
      takeOwn: (entries, gapCount) => this.#takeOwn(entries, gapCount),
      onSetBack: () => options.onReplaced("the stream lost messages that it had stored", null),
      onFailed: options.onFailed,
    });
    this.#follower = new StreamFollower({
      link,
      stream: link.names.metadataStream(stream),
      applied: () => this.#progress.applied,
      onStream: (met) => this.#checkStream(met),
      take: (messages) => this.#take(messages),
      isAwaited: () => this.#progress.isAwaited,
      isWanted: () => this.#progress.lag > 0 || link.clock.monotonicMs() < this.#demandUntilMs,
    });
    if (options.following === "on-demand") this.#catchUpForever();
  }

  /** To be called by whoever is about to read or commit. */
  demand(): void {
    if (this.#options.following === "always") return;
    this.#demandUntilMs = this.#options.link.clock.monotonicMs() + DEMAND_MS;
    this.#follower.wake();
  }

  get lag(): number {
    return this.#progress.lag;
  }

  subjectOf(bucket: BucketName, key: ObjectKey): string {
    return this.#options.link.names.recordSubject(this.#options.stream, bucket, key);
  }

  /** The newest value of a key that this process knows of. Its memory is the receiver's. */
  newestOf(slot: string): StoredValue | null {
    const indexed = this.#options.index.valueOf(slot);
    const own = this.#progress.ownValueOf(slot);
    return own !== null && revisionOf(own) > revisionOf(indexed) ? Buffer.from(own) : indexed;
  }

  /** Follows the stream from its beginning. */
  restart(): void {
    const before = this.#progress;
    this.#progress = new StreamProgress(0);
    this.#follower.restart();
    before.abandon();
  }

  /** Rejects whoever waits with `cause`. */
  close(cause: StoreError): void {
    this.#catchUp?.cancel();
    this.#follower.close();
    this.lane.close(cause);
    this.#progress.abandon();
  }

  #catchUpForever(): void {
    this.demand();
    this.#catchUp = this.#options.link.clock.startTimer(CATCH_UP_MS, () => this.#catchUpForever());
  }

  #newestRevisionOf(slot: string): Revision {
    const own = this.#progress.ownValueOf(slot);
    const indexed = this.#options.index.revisionOf(slot);
    return Math.max(indexed, own === null ? REVISION_NONE : revisionOf(own)) as Revision;
  }

  #checkStream(met: { readonly createdAt: string; readonly lastSequence: number }): boolean {
    const { index, stream, onReplaced } = this.#options;
    if (met.createdAt !== index.placeOf(stream)?.createdAt) {
      onReplaced("the stream was made anew", met.createdAt);
      return false;
    }
    this.#progress.learn(met.lastSequence);
    return true;
  }

  #takeOwn(entries: readonly StreamEntry[], gapCount: number): void {
    this.#progress.addOwn(entries);
    this.#progress.closeGaps(gapCount, entries.at(-1)?.sequence ?? 0);
    this.#advance([]);
  }

  #take(messages: readonly Delivered[]): boolean {
    const { index, onFailed, link, stream } = this.#options;
    if (!index.hasRoom()) {
      link.logger.error({ stream }, "the metadata index waits: its disk is nearly full");
      return false;
    }
    try {
      this.#advance(messages.map((message) => this.#entryOf(message)));
      return true;
    } catch (cause) {
      if (!(cause instanceof StoreError)) throw cause;
      onFailed(cause);
      return false;
    }
  }

  #advance(delivered: readonly StreamEntry[]): void {
    const steps = this.#progress.advance(delivered);
    if (steps.length > 0) {
      this.#options.index.apply(this.#options.stream, steps);
      this.#options.onApplied(steps.flatMap(({ value }) => (value === null ? [] : [value])));
    }
    this.#progress.release();
    this.lane.noteProgress();
  }

  /** @throws {StoreError} `format_unknown` the record was written by a newer program */
  #entryOf({ sequence, subject, data }: Delivered): StreamEntry {
    if (!subject.startsWith(this.#recordPrefix)) return { sequence, slot: null, value: null };
    const [bucket, key] = subject.slice(this.#recordPrefix.length).split(".") as [string, string];
    const slot = slotOf(decodeToken(bucket) as BucketName, decodeToken(key));
    const value = asBuffer(data);
    this.lane.recognize(markOf(value), slot, sequence as Revision);
    return { sequence, slot, value: withRevision(value, sequence as Revision) };
  }
}
