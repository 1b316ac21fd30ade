/**
 * Brings the change events of one metadata stream to subscribers. The outbox in that stream is the queue: it is read in
 * order from its beginning, and what was published is removed from it, which is the only acknowledgement there is. So
 * nothing is lost with the process that publishes, and no two that believe to lead can share the queue out between them
 * and mix up its order: the worst they do is to publish the same events twice.
 */
import { jetstreamManager } from "@nats-io/jetstream";
import type { ChangeEvent } from "../domain/change-event.ts";
import { decodeOutbox } from "../domain/change-event.ts";
import { eventSubject } from "../nats/nats-names.ts";
import type { FollowedMessage, StreamFollower } from "../nats/nats-follow-stream.ts";
import { followStream } from "../nats/nats-follow-stream.ts";
import type { NatsLink } from "../nats/nats-link.ts";
import type { EventMessage } from "./nats-publish-events.ts";
import { EVENTS_PER_BATCH, publishEvents } from "./nats-publish-events.ts";

export type OutboxRelay = AsyncDisposable & {
  /** Outbox messages that are there and not published, as far as known. */
  readonly lag: number;
};

export type OutboxRelayOptions = {
  /** Index of the metadata stream. */
  readonly index: number;
  /** Asked before every batch: a leader that lost its lease stops at once. */
  readonly isHeld: () => boolean;
  /** Called whenever the lag has changed, with how many events were published since. */
  readonly onProgress: (publishedCount: number) => void;
};

/** Events read ahead, beyond which no more are fetched. */
const QUEUED_EVENTS_MAX = 4_000;
const MESSAGES_PER_FETCH = 64;
/** Between two batches. The first event after a quiet time goes out at once; in busy times they go out together. */
const REST_MS = 50;
/** How long published messages may wait to be removed together. */
const PURGE_DELAY_MS = 100;
const PURGE_MS = 3_000;

type Queued = { readonly sequence: number; readonly events: readonly ChangeEvent[] };

export function relayOutbox(link: NatsLink, options: OutboxRelayOptions): OutboxRelay {
  return new Relay(link, options);
}

class Relay implements OutboxRelay {
  readonly #link: NatsLink;
  readonly #options: OutboxRelayOptions;
  readonly #follower: StreamFollower;
  readonly #running: Promise<unknown>;
  readonly #stop = new AbortController();
  #queue: Queued[] = [];
  #queuedEvents = 0;
  /** In the stream behind the last message taken up. */
  #pendingCount = 0;
  /** The last outbox message whose events are all published. */
  #published = 0;
  #purged = 0;
  /** Wakes whoever waits for the queue to change. */
  #onChange: (() => void)[] = [];

  constructor(link: NatsLink, options: OutboxRelayOptions) {
    this.#link = link;
    this.#options = options;
    this.#follower = followStream(link, {
      stream: link.names.metadataStream(options.index),
      subjects: link.names.outboxSubjects(options.index),
      startSequence: 1,
      messagesPerFetch: MESSAGES_PER_FETCH,
      onMessage: (message) => this.#take(message),
      whenReady: () => this.#until(() => this.#queuedEvents < QUEUED_EVENTS_MAX),
    });
    this.#running = Promise.all([this.#publishQueue(), this.#purgePublished()]);
  }

  get lag(): number {
    return this.#queue.length + this.#pendingCount;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    this.#changed();
    await Promise.all([this.#follower[Symbol.asyncDispose](), this.#running]);
    // What the next leader finds in the outbox it publishes again.
    await this.#purge();
  }

  #take({ sequence, data, pendingCount }: FollowedMessage): void {
    const { index } = this.#options;
    try {
      const events = decodeOutbox(data, sequence);
      this.#queue.push({ sequence, events });
      this.#queuedEvents += events.length;
      this.#pendingCount = pendingCount;
      this.#options.onProgress(0);
      this.#changed();
    } catch (cause) {
      // Of a newer program: to pass over it would lose its events, so this stream waits for a leader that knows it.
      this.#link.logger.error({ stream: index, sequence, cause: String(cause) }, "change events cannot be read");
      throw cause;
    }
  }

  async #publishQueue(): Promise<void> {
    const goesOn = () => !this.#stop.signal.aborted && this.#options.isHeld();
    for (;;) {
      await this.#until(() => this.#queue.length > 0);
      if (!goesOn()) return;
      const taken = this.#nextBatch();
      const messages = taken.flatMap(({ events }) => events.map((event) => this.#messageOf(event)));
      if (!(await publishEvents(this.#link, messages, goesOn))) return;
      this.#queue.splice(0, taken.length);
      this.#queuedEvents -= messages.length;
      this.#published = taken.at(-1)?.sequence ?? this.#published;
      this.#options.onProgress(messages.length);
      this.#changed();
      await this.#link.clock.sleep(REST_MS, this.#stop.signal);
    }
  }

  async #purgePublished(): Promise<void> {
    for (;;) {
      await this.#until(() => this.#published > this.#purged);
      await this.#link.clock.sleep(PURGE_DELAY_MS, this.#stop.signal);
      if (this.#stop.signal.aborted) return;
      await this.#purge();
    }
  }

  async #purge(): Promise<void> {
    const { connection, names, logger } = this.#link;
    const { index } = this.#options;
    const published = this.#published;
    if (published === this.#purged || connection.isClosed()) return;
    try {
      const manager = await jetstreamManager(connection, { checkAPI: false, timeout: PURGE_MS });
      const part = { filter: names.outboxSubjects(index), seq: published + 1 };
      await manager.streams.purge(names.metadataStream(index), part);
      this.#purged = published;
    } catch (cause) {
      logger.debug({ stream: index, cause: String(cause) }, "published change events could not be removed yet");
    }
  }

  /** Whole outbox messages, as many as make up about one batch of events. */
  #nextBatch(): Queued[] {
    let events = 0;
    const end = this.#queue.findIndex((queued, index) => {
      events += queued.events.length;
      return index > 0 && events > EVENTS_PER_BATCH;
    });
    return this.#queue.slice(0, end === -1 ? this.#queue.length : end);
  }

  #messageOf(event: ChangeEvent): EventMessage {
    const id = `${this.#link.names.metadataStream(this.#options.index)}:${event.revision}`;
    return { subject: eventSubject(event.bucket, event.op), id, body: JSON.stringify(event) };
  }

  /** Resolves when `condition` holds, or when the relay stops. */
  async #until(condition: () => boolean): Promise<void> {
    while (!condition() && !this.#stop.signal.aborted) {
      await new Promise<void>((resolve) => this.#onChange.push(resolve));
    }
  }

  #changed(): void {
    for (const wake of this.#onChange.splice(0)) wake();
  }
}
