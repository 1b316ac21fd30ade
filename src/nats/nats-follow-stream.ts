/**
 * Follows a stream from a sequence on, in order and without gaps, for as long as it runs. What was delivered is known by
 * its sequence alone, so whatever breaks (a server, the connection, a lost message), it asks again for what comes next.
 *
 * The consumers of the NATS client that promise the same wait for a consumer whose server has died to come back; here a
 * consumer that falls silent is replaced within seconds.
 */
import type { Consumer, ConsumerMessages, JsMsg } from "@nats-io/jetstream";
import { AckPolicy, DeliverPolicy, jetstream, jetstreamManager } from "@nats-io/jetstream";
import { nanos } from "@nats-io/transport-node";
import { deadlineIn, withDeadline } from "../lib/deadline.ts";
import type { NatsLink } from "./nats-link.ts";

export type FollowOptions = {
  readonly stream: string;
  /** Only messages of these subjects; null for all. */
  readonly subjects: string | null;
  readonly startSequence: number;
  /** How many may be brought at once. */
  readonly messagesPerFetch?: number;
  /** Called once per message, in order. What it throws ends the following, see `failure`. Must copy `data` to keep it. */
  readonly onMessage: (message: FollowedMessage) => void;
  /** Waited for before more messages are asked for, so that a slow receiver is not flooded. */
  readonly whenReady?: () => Promise<void>;
};

export type FollowedMessage = {
  readonly sequence: number;
  readonly data: Uint8Array;
  /** Messages that wait behind this one. */
  readonly pendingCount: number;
};

export type StreamFollower = AsyncDisposable & {
  /** What `onMessage` threw, which ended the following; else null. */
  readonly failure: unknown;
  /** Goes on from this sequence, whatever was delivered before. */
  restartFrom(sequence: number): void;
};

const MESSAGES_PER_FETCH = 512;
/** An idle fetch ends after this time and another one begins. */
const FETCH_MS = 2_000;
/** How much later than it should a fetch may end before its consumer counts as gone. */
const SILENCE_MS = 1_000;
const REQUEST_MS = 3_000;
const RETRY_MS = 200;
/** After this time without a fetch the server forgets a consumer. */
const CONSUMER_IDLE_MS = 60_000;

export function followStream(link: NatsLink, options: FollowOptions): StreamFollower {
  return new Follower(link, options);
}

class Follower implements StreamFollower {
  readonly #link: NatsLink;
  readonly #options: FollowOptions;
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;
  #next: number;
  #messages: ConsumerMessages | null = null;
  #failure: unknown = null;
  /** Rises with every consumer and every `restartFrom`: only the present generation delivers. */
  #generation = 0;

  constructor(link: NatsLink, options: FollowOptions) {
    this.#link = link;
    this.#options = options;
    this.#next = options.startSequence;
    this.#running = this.#run();
  }

  get failure(): unknown {
    return this.#failure;
  }

  restartFrom(sequence: number): void {
    this.#generation += 1;
    this.#next = sequence;
    this.#messages?.stop();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    this.#messages?.stop();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted && this.#failure === null && !this.#link.connection.isClosed()) {
      try {
        await this.#followConsumer();
      } catch (cause) {
        this.#link.logger.debug({ stream: this.#options.stream, cause: String(cause) }, "a consumer is replaced");
        await this.#link.clock.sleep(RETRY_MS, signal);
      }
    }
  }

  /** Reads through one consumer for as long as it and the connection last. */
  async #followConsumer(): Promise<void> {
    const generation = this.#generation;
    const connectionId = this.#connectionId();
    const consumer = await this.#createConsumer();
    const position = { delivered: 0 };
    try {
      // A message that was under way when the connection broke is lost, and this consumer would not send it again.
      while (this.#goesOn(generation) && this.#connectionId() === connectionId) {
        await this.#options.whenReady?.();
        if (this.#goesOn(generation)) await this.#fetch(consumer, position, generation);
      }
    } finally {
      // What it still holds in store must not be delivered beside what its successor brings.
      this.#generation += 1;
      // The server would forget it anyway, in time.
      void consumer.delete().catch(() => {});
    }
  }

  async #fetch(consumer: Consumer, position: { delivered: number }, generation: number): Promise<void> {
    const { clock } = this.#link;
    const max_messages = this.#options.messagesPerFetch ?? MESSAGES_PER_FETCH;
    const messages = await consumer.fetch({ max_messages, expires: FETCH_MS });
    this.#messages = messages;
    const silent = () => new Error("its consumer fell silent");
    try {
      const taking = this.#take(messages, position, generation);
      await withDeadline(clock, deadlineIn(clock, FETCH_MS + SILENCE_MS), taking, silent);
    } finally {
      this.#messages = null;
      messages.stop();
    }
  }

  async #take(messages: ConsumerMessages, position: { delivered: number }, generation: number): Promise<void> {
    for await (const message of messages) {
      if (!this.#goesOn(generation)) return;
      if (message.info.deliverySequence !== position.delivered + 1) throw new Error("a message was lost on its way");
      position.delivered += 1;
      this.#deliver(message);
    }
  }

  #deliver(message: JsMsg): void {
    const { streamSequence, pending } = message.info;
    try {
      this.#options.onMessage({ sequence: streamSequence, data: message.data, pendingCount: pending });
      this.#next = streamSequence + 1;
    } catch (cause) {
      this.#failure = cause;
    }
  }

  async #createConsumer(): Promise<Consumer> {
    const { connection } = this.#link;
    const { stream, subjects } = this.#options;
    const manager = await jetstreamManager(connection, { checkAPI: false, timeout: REQUEST_MS });
    const info = await manager.consumers.add(stream, {
      ack_policy: AckPolicy.None,
      deliver_policy: DeliverPolicy.StartSequence,
      opt_start_seq: this.#next,
      mem_storage: true,
      num_replicas: 1,
      inactive_threshold: nanos(CONSUMER_IDLE_MS),
      ...(subjects === null ? {} : { filter_subject: subjects }),
    });
    return jetstream(connection, { timeout: REQUEST_MS }).consumers.getConsumerFromInfo(info);
  }

  #goesOn(generation: number): boolean {
    return !this.#stop.signal.aborted && this.#failure === null && this.#generation === generation;
  }

  #connectionId(): string {
    const { info } = this.#link.connection;
    return `${info?.server_id} ${info?.client_id}`;
  }
}
