/** The reading side of the NATS log: follows its stream and knows what is open, up to where it has read. */
import { jetstreamManager } from "@nats-io/jetstream";
import { StoreError } from "../domain/errors.ts";
import type { Deadline } from "../lib/deadline.ts";
import { remainingMs, withDeadline } from "../lib/deadline.ts";
import { followStream } from "../nats/nats-follow-stream.ts";
import type { FollowedMessage, StreamFollower } from "../nats/nats-follow-stream.ts";
import type { NatsLink } from "../nats/nats-link.ts";
import { OpenIntents } from "./open-intents.ts";
import { decodeWalMessage } from "./wal-message.ts";

type Waiter = { readonly sequence: number; readonly resolve: () => void; readonly reject: (cause: unknown) => void };

export class NatsWalReader {
  readonly open = new OpenIntents();
  readonly #link: NatsLink;
  #follower: StreamFollower | null = null;
  #waiters: Waiter[] = [];
  /** The last message taken up. */
  #position = 0;
  /** The highest message that this process asked for, which rises with every call. */
  #acknowledged = 0;
  /** Messages were removed that this process had not read: what they settled is not known. */
  #missedSome = false;

  constructor(link: NatsLink) {
    this.#link = link;
  }

  /**
   * Resolves when `open` tells what the stream does up to `streamSequence`, which was acknowledged. Begins to follow
   * with the first call.
   * @throws {StoreError} `wal_unavailable` (retriable) not before the deadline; `format_unknown`
   */
  async readUpTo(streamSequence: number, deadline: Deadline): Promise<void> {
    this.#follower ??= this.#follow();
    if (this.#follower.failure !== null) throw this.#follower.failure;
    if (streamSequence < this.#acknowledged) this.#beginAnew(streamSequence);
    this.#acknowledged = streamSequence;
    if (streamSequence > this.#position) {
      const reached = new Promise<void>((resolve, reject) =>
        this.#waiters.push({ sequence: streamSequence, resolve, reject }),
      );
      await withDeadline(this.#link.clock, deadline, reached, () => behind(this.#position, streamSequence));
    }
    if (this.#missedSome) await this.#dropRemoved(deadline);
  }

  async close(): Promise<void> {
    await this.#follower?.[Symbol.asyncDispose]();
    const waiters = this.#waiters.splice(0);
    for (const { reject } of waiters)
      reject(new StoreError("wal_unavailable", "The log is closed", { retriable: true }));
  }

  #follow(): StreamFollower {
    return followStream(this.#link, {
      stream: this.#link.names.walStream,
      subjects: null,
      startSequence: 1,
      onMessage: (message) => this.#take(message),
    });
  }

  #take({ sequence, data }: FollowedMessage): void {
    try {
      this.open.apply(sequence, decodeWalMessage(data), this.#link.clock.monotonicMs());
    } catch (cause) {
      for (const { reject } of this.#waiters.splice(0)) reject(cause);
      throw cause;
    }
    if (sequence > this.#position + 1 && this.open.size > 0) this.#missedSome = true;
    this.#position = sequence;
    if (this.#waiters.length === 0) return;
    const reached = this.#waiters.filter((waiter) => waiter.sequence <= sequence);
    this.#waiters = this.#waiters.filter((waiter) => waiter.sequence > sequence);
    for (const { resolve } of reached) resolve();
  }

  /**
   * Only the beginning of the log is ever removed, and only what holds no open intent: so an intent that stands before
   * the stream's first message was settled, or appended again, by a message that was removed unread. Should an old
   * leader answer with an older first message, some stay, and recovery finds nothing to do for them.
   */
  async #dropRemoved(deadline: Deadline): Promise<void> {
    this.open.dropBefore(await this.#firstSequence(deadline));
    this.#missedSome = false;
  }

  /** Sequences rise with every message of a process. Where they do not, the servers have lost the stream or it was deleted. */
  #beginAnew(sequence: number): void {
    this.#link.logger.error({ read: this.#position, sequence }, "the log begins anew: its stream was replaced");
    this.open.clear();
    this.#position = 0;
    this.#follower?.restartFrom(1);
  }

  async #firstSequence(deadline: Deadline): Promise<number> {
    const timeout = Math.max(1, remainingMs(this.#link.clock, deadline));
    try {
      const manager = await jetstreamManager(this.#link.connection, { checkAPI: false, timeout });
      return (await manager.streams.info(this.#link.names.walStream)).state.first_seq;
    } catch (cause) {
      throw new StoreError("wal_unavailable", `Cannot look at the log's stream: ${String(cause)}`, {
        retriable: true,
        cause,
      });
    }
  }
}

function behind(position: number, wanted: number): StoreError {
  return new StoreError(
    "wal_unavailable",
    `The log has been read up to message ${position}, not in time up to ${wanted}`,
    { retriable: true },
  );
}
