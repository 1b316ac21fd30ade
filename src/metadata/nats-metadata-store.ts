/**
 * Object records of a cluster in JetStream streams, with a local index that follows them.
 *
 * A key belongs to one stream; its revision is the sequence of its last message there. Commits and the barriers of reads
 * go through one `CommitLane` per stream, what the stream delivers through one `StreamFollower`; both meet in the
 * stream's `StreamProgress`, which says what goes into the index and from where on it is exact. A read waits for a
 * barrier and is then answered from the index. Nothing is decided by what a server says of its own state, which may be
 * old: only by what a quorum stored.
 */
import { jetstreamManager } from "@nats-io/jetstream";
import type { Registry } from "prom-client";
import { pendingEventOf } from "../domain/change-event.ts";
import { StoreError, isStoreError } from "../domain/errors.ts";
import type { BucketName, ObjectKey } from "../domain/ids.ts";
import type { StoredRecord } from "../domain/record.ts";
import { assert } from "../lib/assert.ts";
import { KIB, asBuffer } from "../lib/bytes.ts";
import type { Deadline } from "../lib/deadline.ts";
import { deadlineIn, remainingMs, withDeadline } from "../lib/deadline.ts";
import type { NatsLink } from "../nats/nats-link.ts";
import { CommitWatch } from "./commit-watch.ts";
import type { IndexEnvironment } from "./lmdb-index-environment.ts";
import { openIndexEnvironment } from "./lmdb-index-environment.ts";
import { MetadataIndex } from "./lmdb-metadata-index.ts";
import { slotOf } from "./lmdb-metadata-layout.ts";
import type { BucketSummary, Change, CommitResult, ListOptions, ListPage, MetadataStore } from "./metadata-store.ts";
import type { MetadataMetrics } from "./metrics.ts";
import { createMetadataMetrics } from "./metrics.ts";
import { metadataStreamOf } from "./nats-metadata-streams.ts";
import { MetadataStream } from "./nats-metadata-stream.ts";
import { decodeStoredValue, encodeStoredValue, withMark } from "./stored-value.ts";

export type NatsMetadataOptions = {
  /** Number of metadata streams, fixed when the cluster was made. */
  readonly streamCount: number;
  /** Directory of the local index; one process at a time. */
  readonly indexDir: string;
  readonly registry: Registry | null;
  /**
   * `on-demand` for a process that reads seldom: it follows the streams while it is asked and catches up now and then,
   * which spares the servers and itself most of the work. Its first read after a quiet time waits for what it missed.
   */
  readonly following: "always" | "on-demand";
  /**
   * Asked when a stream seems to be another one than it was: what to fail with, or null to begin anew with the index, as it
   * does without it.
   */
  readonly whenReplaced?: () => Promise<StoreError | null>;
  /** Told once when the index met a storage error or a format it does not know; the process must then start anew. */
  readonly onFailed?: (cause: StoreError) => void;
};

export type NatsMetadataStore = MetadataStore & {
  /** Messages of all streams that this process knows to exist and has not applied yet. */
  indexLag(): number;
};

/** How long the streams may take to be found. */
const OPEN_MS_MAX = 30_000;
const OPEN_RETRY_MS = 250;
const REQUEST_MS_MAX = 5_000;
/** How long commits under way may take when the store is closed. */
const CLOSE_MS_MAX = 5_000;
/** Well below what a message may have. */
const VALUE_BYTES_MAX = 512 * KIB;
const MARK_BYTES = 6;

/**
 * Opens the records that `ensureMetadataStreams` made room for. The index is filled behind this call; reads wait for it.
 * @throws {StoreError} `metadata_unavailable` the streams are not there; `data_dir_locked` another process has the index
 */
export async function openNatsMetadataStore(link: NatsLink, options: NatsMetadataOptions): Promise<NatsMetadataStore> {
  const createdAt = await findStreams(link, options.streamCount);
  try {
    return await openStore(link, options, createdAt);
  } catch (cause) {
    if (!isStoreError(cause, "metadata_unavailable")) throw cause;
    // The index could not be read, which it remembers: now it begins anew.
    return await openStore(link, options, createdAt);
  }
}

async function openStore(
  link: NatsLink,
  options: NatsMetadataOptions,
  createdAt: string[],
): Promise<NatsMetadataStore> {
  const environment = await openIndexEnvironment({
    path: options.indexDir,
    identity: `${link.names.metadataStream(0)} of ${options.streamCount}`,
    clock: link.clock,
    logger: link.logger,
  });
  try {
    return new NatsBackedStore(link, options, environment, createdAt);
  } catch (cause) {
    await environment.close();
    throw cause;
  }
}

class NatsBackedStore implements NatsMetadataStore {
  readonly #link: NatsLink;
  readonly #options: NatsMetadataOptions;
  readonly #environment: IndexEnvironment;
  readonly #index: MetadataIndex;
  readonly #metrics: MetadataMetrics;
  readonly #watch = new CommitWatch();
  readonly #streams: readonly MetadataStream[];
  readonly #createdAt: string[];
  #refusal: StoreError | null = null;

  constructor(link: NatsLink, options: NatsMetadataOptions, environment: IndexEnvironment, createdAt: string[]) {
    this.#link = link;
    this.#options = options;
    this.#environment = environment;
    this.#createdAt = createdAt;
    // First, because it may fail and be tried again, and metrics are registered once.
    this.#index = new MetadataIndex(environment, link.clock);
    this.#metrics = createMetadataMetrics(options.registry, () => this.indexLag());
    if (createdAt.some((each, stream) => this.#index.placeOf(stream)?.createdAt !== each)) this.#clearIndex();
    this.#streams = createdAt.map(
      (_, stream) =>
        new MetadataStream({
          link,
          stream,
          index: this.#index,
          metrics: this.#metrics,
          following: options.following,
          onApplied: (values) => this.#watch.tell(values),
          onReplaced: (reason, created) => void this.#meetReplaced(stream, reason, created),
          onFailed: (cause) => this.#fail(cause),
        }),
    );
  }

  async get(bucket: BucketName, key: ObjectKey, deadline: Deadline): Promise<StoredRecord | null> {
    await this.#barrier([this.#streamOf(bucket, key)], deadline);
    const value = this.#index.valueOf(slotOf(bucket, key));
    return value === null ? null : decodeStoredValue(value);
  }

  async peek(bucket: BucketName, key: ObjectKey): Promise<StoredRecord | null> {
    this.#refuseWhenClosed();
    const value = this.#streamOf(bucket, key).newestOf(slotOf(bucket, key));
    return value === null ? null : decodeStoredValue(value);
  }

  async commit({ record, ifRevision, op }: Change, deadline: Deadline): Promise<CommitResult> {
    this.#refuseWhenClosed();
    const { bucket, key } = record;
    const { clock, random } = this.#link;
    const startedAtMs = clock.monotonicMs();
    const stream = this.#streamOf(bucket, key);
    const mark = asBuffer(random.bytes(MARK_BYTES)).readUIntBE(0, MARK_BYTES);
    // Encoded now: the caller may reuse its memory while the change still waits for a round.
    const value = withMark(encodeStoredValue(record), mark);
    assert(value.length <= VALUE_BYTES_MAX, "a record is bounded well below the size of a message");
    const event = op === undefined ? null : pendingEventOf(record, op);
    stream.demand();
    const subject = stream.subjectOf(bucket, key);
    const committing = stream.lane.commit(
      { slot: slotOf(bucket, key), subject, value, mark, ifRevision, event },
      deadline,
    );
    const outcome = await withDeadline(clock, deadline, committing, () => unavailable("the outcome is unknown"));
    this.#metrics.commitSeconds.observe((clock.monotonicMs() - startedAtMs) / 1_000);
    if (outcome.ok) return outcome;
    return { ok: false, current: outcome.current === null ? null : decodeStoredValue(outcome.current) };
  }

  async list(bucket: BucketName, options: ListOptions, deadline: Deadline): Promise<ListPage> {
    await this.#barrier(this.#streams, deadline);
    return await this.#index.list(bucket, options, deadline);
  }

  async scan(
    after: { bucket: BucketName; key: ObjectKey } | null,
    limit: number,
    deadline: Deadline,
  ): Promise<StoredRecord[]> {
    // The later pages of a scan show at least what its first one had to.
    if (after === null) await this.#barrier(this.#streams, deadline);
    this.#refuseWhenClosed();
    return await this.#index.scan(after, limit, deadline);
  }

  /** What this process has followed so far, without asking the streams: for statistics, and there without a quorum too. */
  async summarize(): Promise<BucketSummary[]> {
    this.#refuseWhenClosed();
    const filled = this.#index.summaries().filter((summary) => summary.objectCount > 0);
    return filled.sort((a, b) => (a.bucket < b.bucket ? -1 : 1));
  }

  watch(listener: (stored: StoredRecord) => void): () => void {
    return this.#watch.add(listener);
  }

  indexLag(): number {
    return this.#streams.reduce((sum, { lag }) => sum + lag, 0);
  }

  /** Commits called before are answered; reads are rejected. */
  async close(): Promise<void> {
    if (this.#refusal === null) {
      this.#refusal = unavailable("it is closed");
      const idle = Promise.all(this.#streams.map(({ lane }) => lane.idle()));
      const deadline = deadlineIn(this.#link.clock, CLOSE_MS_MAX);
      await withDeadline(this.#link.clock, deadline, idle, () => unavailable("it is closed")).catch(() => {});
      for (const stream of this.#streams) stream.close(this.#refusal);
    }
    await this.#environment.close();
  }

  async #barrier(streams: readonly MetadataStream[], deadline: Deadline): Promise<void> {
    this.#refuseWhenClosed();
    for (const stream of streams) stream.demand();
    const reached = Promise.all(streams.map(({ lane }) => lane.barrier()));
    await withDeadline(this.#link.clock, deadline, reached, () =>
      unavailable("its streams could not be asked for their newest state in time"),
    );
  }

  #streamOf(bucket: BucketName, key: ObjectKey): MetadataStream {
    return this.#streams[metadataStreamOf(bucket, key, this.#options.streamCount)] as MetadataStream;
  }

  /** Until it is known whose the stream is nothing is answered. */
  async #meetReplaced(stream: number, reason: string, createdAt: string | null): Promise<void> {
    const { whenReplaced } = this.#options;
    if (createdAt === null || whenReplaced === undefined) return this.#rebuild(stream, reason, createdAt);
    if (this.#refusal !== null) return;
    const refusal = unavailable("its streams are looked at");
    this.#refusal = refusal;
    const failure = await whenReplaced().catch((cause: unknown) => {
      if (isStoreError(cause)) return cause;
      throw cause;
    });
    // Closed meanwhile.
    if (this.#refusal !== refusal) return;
    this.#refusal = null;
    if (failure === null) this.#rebuild(stream, reason, createdAt);
    else this.#fail(failure);
  }

  /** The streams share one index, so when one of them is another than it was, all are followed anew. */
  #rebuild(stream: number, reason: string, createdAt: string | null): void {
    this.#link.logger.error({ stream, reason }, "the metadata index is made anew from the streams");
    if (createdAt !== null) this.#createdAt[stream] = createdAt;
    try {
      this.#clearIndex();
    } catch (cause) {
      return this.#fail(cause as StoreError);
    }
    for (const each of this.#streams) each.restart();
  }

  #clearIndex(): void {
    this.#metrics.rebuilds.inc();
    this.#index.clear(this.#createdAt);
  }

  #fail(cause: StoreError): void {
    if (this.#refusal !== null) return;
    this.#refusal = cause;
    this.#link.logger.error({ cause: cause.message }, "the metadata store failed");
    for (const stream of this.#streams) stream.close(cause);
    this.#options.onFailed?.(cause);
  }

  #refuseWhenClosed(): void {
    if (this.#refusal !== null) throw this.#refusal;
  }
}

/** When each stream was made. Waits for servers that are only just starting. */
async function findStreams(link: NatsLink, streamCount: number): Promise<string[]> {
  const manager = await jetstreamManager(link.connection, { checkAPI: false, timeout: REQUEST_MS_MAX });
  const deadline = deadlineIn(link.clock, OPEN_MS_MAX);
  for (;;) {
    try {
      const names = Array.from({ length: streamCount }, (_, stream) => link.names.metadataStream(stream));
      const infos = await Promise.all(names.map((name) => manager.streams.info(name)));
      return infos.map(({ created }) => String(created));
    } catch (cause) {
      if (remainingMs(link.clock, deadline) === 0) throw unavailable("its streams cannot be found", cause);
      await link.clock.sleep(OPEN_RETRY_MS);
    }
  }
}

function unavailable(reason: string, cause?: unknown): StoreError {
  return new StoreError("metadata_unavailable", `The metadata store cannot answer: ${reason}`, {
    retriable: true,
    cause,
  });
}
