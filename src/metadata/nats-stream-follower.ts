/**
 * Delivers one metadata stream to this process, in order and without loss, for as long as it is open.
 *
 * It uses a push consumer that lives in the memory of one server and is thrown away at the first sign of trouble: a
 * message that is not the next of the consumer, heartbeats that stay away, or tell of messages that did not arrive, or
 * that go on while what somebody waits for does not come: its server then lacks what the others have, as one that was cut
 * off does until it has caught up. A new one then starts behind what was taken. (The client library's own ordered consumer waits up to a minute for heartbeats.)
 */
import { AckPolicy, DeliverPolicy, jetstreamManager, type JetStreamManager } from "@nats-io/jetstream";
import type { Msg, Subscription } from "@nats-io/transport-node";
import { createInbox, nanos } from "@nats-io/transport-node";
import type { Timer } from "../lib/clock.ts";
import type { NatsLink } from "../nats/nats-link.ts";

/** A message of the stream as it was delivered. Its bytes are the receiver's. */
export type Delivered = { readonly sequence: number; readonly subject: string; readonly data: Uint8Array };

export type FollowerOptions = {
  readonly link: NatsLink;
  readonly stream: string;
  /** What was taken last; asked whenever a new consumer is made. */
  readonly applied: () => number;
  /** Told of the stream before each new consumer. Answers false when it must not be followed any more. */
  readonly onStream: (stream: { readonly createdAt: string; readonly lastSequence: number }) => boolean;
  /** Takes messages in order; false when it cannot take them now, and they are delivered again later. */
  readonly take: (messages: readonly Delivered[]) => boolean;
  /** Asked twice a second: while it answers false the stream may be left, until `wake`. */
  readonly isWanted: () => boolean;
  /** Whether the stream has messages that somebody waits for. */
  readonly isAwaited: () => boolean;
};

const HEARTBEAT_MS = 500;
/** Heartbeats that may stay away; then the consumer's server is taken for dead or stopped. */
const HEARTBEATS_MISSED_MAX = 4;
const REQUEST_MS_MAX = 2_500;
const RETRY_MS_MIN = 50;
const RETRY_MS_MAX = 1_000;
/** A consumer that nobody listens to is removed by its server after this time. */
const INACTIVE_MS_MAX = 10_000;
const ACK_SUBJECT = "$JS.ACK.";
const NOT_WANTED = "nobody asks for it";
const STREAM_NOT_AS_KNOWN = "the stream must not be followed any more";

export class StreamFollower {
  readonly #options: FollowerOptions;
  readonly #closing = new AbortController();
  #current: Delivery | null = null;
  #onWake: () => void = () => {};

  constructor(options: FollowerOptions) {
    this.#options = options;
    void this.#run();
  }

  /** To be called when `isWanted` begins to answer true. */
  wake(): void {
    this.#onWake();
  }

  /** Nothing is delivered any more from the moment of this call. */
  close(): void {
    this.#closing.abort();
    this.#onWake();
    this.#current?.end("closed");
  }

  /** Throws away what is on its way and goes on behind what was taken, which may have changed. */
  restart(): void {
    this.#current?.end("restarted");
  }

  async #run(): Promise<void> {
    const { link, stream } = this.#options;
    const manager = await jetstreamManager(link.connection, { checkAPI: false, timeout: REQUEST_MS_MAX });
    let retryMs = RETRY_MS_MIN;
    for (;;) {
      await this.#whenWanted();
      if (this.#closing.signal.aborted) return;
      let reason: string;
      const startedAtMs = link.clock.monotonicMs();
      try {
        reason = await this.#follow(manager);
      } catch (cause) {
        reason = String(cause);
      }
      if (this.#closing.signal.aborted) return;
      if (reason === NOT_WANTED) continue;
      link.logger.debug({ stream, reason }, "following a metadata stream was interrupted");
      if (link.clock.monotonicMs() - startedAtMs > RETRY_MS_MAX * 2) retryMs = RETRY_MS_MIN;
      await link.clock.sleep(retryMs, this.#closing.signal);
      retryMs = Math.min(retryMs * 2, RETRY_MS_MAX);
    }
  }

  async #whenWanted(): Promise<void> {
    while (!this.#options.isWanted() && !this.#closing.signal.aborted) {
      await new Promise<void>((resolve) => (this.#onWake = resolve));
    }
  }

  /** Follows by one consumer; answers why it ended. */
  async #follow(manager: JetStreamManager): Promise<string> {
    const { stream, onStream, applied } = this.#options;
    const { created, state } = await manager.streams.info(stream);
    if (this.#closing.signal.aborted) return "closed";
    if (!onStream({ createdAt: String(created), lastSequence: state.last_seq })) return STREAM_NOT_AS_KNOWN;
    const inbox = createInbox();
    const delivery = new Delivery(this.#options, inbox);
    this.#current = delivery;
    try {
      const { name } = await manager.consumers.add(stream, {
        deliver_subject: inbox,
        deliver_policy: DeliverPolicy.StartSequence,
        opt_start_seq: applied() + 1,
        ack_policy: AckPolicy.None,
        max_deliver: 1,
        mem_storage: true,
        num_replicas: 1,
        flow_control: true,
        idle_heartbeat: nanos(HEARTBEAT_MS),
        inactive_threshold: nanos(INACTIVE_MS_MAX),
      });
      const reason = await delivery.ended;
      // Else it would be served until its server notices; who cannot be reached now removes it by itself.
      manager.consumers.delete(stream, name).catch(() => {});
      return reason;
    } finally {
      delivery.end("given up");
      this.#current = null;
    }
  }
}

/** What one consumer delivers, until something is wrong with it. */
class Delivery {
  readonly ended: Promise<string>;
  readonly #options: FollowerOptions;
  readonly #subscription: Subscription;
  #resolveEnded!: (reason: string) => void;
  #isOver = false;
  #consumerSequence = 0;
  #waiting: Delivered[] = [];
  #watch: Timer;
  #isAlive = true;
  #missedCount = 0;
  /** Heartbeats since anything came of what is waited for. */
  #idleCount = 0;
  #idleAt = 0;

  constructor(options: FollowerOptions, inbox: string) {
    this.#options = options;
    this.ended = new Promise((resolve) => (this.#resolveEnded = resolve));
    this.#subscription = options.link.connection.subscribe(inbox, {
      callback: (error, message) => this.#take(error, message),
    });
    this.#watch = this.#watchHeartbeats();
  }

  end(reason: string): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#watch.cancel();
    this.#subscription.unsubscribe();
    this.#resolveEnded(reason);
  }

  #take(error: Error | null, message: Msg): void {
    if (this.#isOver) return;
    if (error !== null) return this.end(error.message);
    this.#isAlive = true;
    // Only messages of the stream come with this reply subject. Headers of the others alone are worth decoding.
    if (message.reply?.startsWith(ACK_SUBJECT) === true) return this.#takeRecord(message, message.reply);
    this.#takeStatus(message);
  }

  #takeRecord(message: Msg, reply: string): void {
    const { sequence, consumerSequence } = parseAckSubject(reply);
    if (consumerSequence !== this.#consumerSequence + 1) return this.end("a message was lost on the way");
    this.#consumerSequence = consumerSequence;
    // What arrives in one turn is taken together.
    if (this.#waiting.push({ sequence, subject: message.subject, data: message.data }) > 1) return;
    queueMicrotask(() => this.#flush());
  }

  #flush(): void {
    const messages = this.#waiting;
    this.#waiting = [];
    if (!this.#isOver && !this.#options.take(messages)) this.end("they cannot be taken now");
  }

  /** Flow control is answered; a heartbeat tells how many messages should have come and whether the server waits. */
  #takeStatus(message: Msg): void {
    const { headers, reply } = message;
    if (headers?.code !== 100) return this.end(headers?.description || "the consumer ended");
    if (reply !== undefined && reply !== "") return void message.respond();
    const stalled = headers.get("Nats-Consumer-Stalled");
    if (stalled !== "") this.#options.link.connection.publish(stalled);
    if (Number(headers.get("Nats-Last-Consumer")) !== this.#consumerSequence) this.end("a message was lost on the way");
  }

  #watchHeartbeats(): Timer {
    return this.#options.link.clock.startTimer(HEARTBEAT_MS, () => {
      this.#missedCount = this.#isAlive ? 0 : this.#missedCount + 1;
      this.#isAlive = false;
      if (!this.#options.isWanted()) return this.end(NOT_WANTED);
      if (this.#missedCount >= HEARTBEATS_MISSED_MAX) return this.end("heartbeats stayed away");
      const isIdle = this.#consumerSequence === this.#idleAt && this.#options.isAwaited();
      this.#idleCount = isIdle ? this.#idleCount + 1 : 0;
      this.#idleAt = this.#consumerSequence;
      if (this.#idleCount >= HEARTBEATS_MISSED_MAX) return this.end("its server is behind the others");
      this.#watch = this.#watchHeartbeats();
    });
  }
}

/** `$JS.ACK.<stream>.<consumer>.<count>.<sequence>.<consumer sequence>…`, or with domain and account before the stream. */
function parseAckSubject(reply: string): { sequence: number; consumerSequence: number } {
  const tokens = reply.split(".");
  const at = tokens.length === 9 ? 5 : 7;
  return { sequence: Number(tokens[at]), consumerSequence: Number(tokens[at + 1]) };
}
