/**
 * Work in a JetStream stream with work-queue retention: a piece stays until somebody says that it is done with. One
 * durable consumer per urgency gives each piece to one taker at a time. The subject of a piece is made of its name, and the
 * stream keeps one message per subject, so that a later piece replaces an earlier one that waits; who has the
 * earlier one settles nothing but that.
 *
 * Takers of one process share a pull per urgency. What comes when nobody waits for it any more is kept for the next.
 */
import { createHash } from "node:crypto";
import type { JetStreamClient, JetStreamManager } from "@nats-io/jetstream";
import {
  AckPolicy,
  DiscardPolicy,
  JetStreamApiError,
  RetentionPolicy,
  StorageType,
  jetstream,
  jetstreamManager,
} from "@nats-io/jetstream";
import type { Msg } from "@nats-io/transport-node";
import { createInbox, nanos } from "@nats-io/transport-node";
import { isStoreError, StoreError } from "../domain/errors.ts";
import type { Urgency, Work } from "../domain/work.ts";
import { URGENCIES, decodeWork, encodeWork, workName } from "../domain/work.ts";
import type { Timer } from "../lib/clock.ts";
import type { Deadline } from "../lib/deadline.ts";
import { remainingMs, withDeadline } from "../lib/deadline.ts";
import { ensureStream, untilServersAgree } from "../nats/nats-ensure-stream.ts";
import type { NatsLink } from "../nats/nats-link.ts";
import type { Delivery, WorkDepth, WorkQueue } from "./work-queue.ts";
import { LEASE_MS, WORK_WAITING_MAX } from "./work-queue.ts";

export type NatsWorkQueueOptions = { readonly leaseMs?: number; readonly waitingMax?: number };

const REQUEST_MS = 2_000;
const RETRY_MS = 250;
/** An idle pull ends after this time; a silent one counts as lost somewhat later. */
const PULL_MS = 5_000;
const PULL_GRACE_MS = 1_500;
/** How long a count of what waits is believed when work is added. */
const COUNT_MS = 2_000;
/** Pieces given out at a time, over all takers. */
const GIVEN_OUT_MAX = 10_000;
/** A piece of a newer program is left to those that know it. */
const UNKNOWN_FORMAT_MS = 60_000;
const STREAM_FULL = 10_077;
const DELIVERED_AT = { short: 4, long: 6 } as const;

/** Opens the queue, whose stream and consumers are made unless they exist. @throws {StoreError} `nats_unavailable` (retriable) */
export async function openNatsWorkQueue(link: NatsLink, options: NatsWorkQueueOptions = {}): Promise<WorkQueue> {
  const { leaseMs = LEASE_MS, waitingMax = WORK_WAITING_MAX } = options;
  const { names } = link;
  const stream = {
    name: names.workStream,
    subjects: URGENCIES.map((urgency) => names.workSubjects(urgency)),
    retention: RetentionPolicy.Workqueue,
    storage: StorageType.File,
    num_replicas: link.streamReplicas,
    // A full stream refuses what is new; a piece that replaces another of its name always fits.
    discard: DiscardPolicy.New,
    max_msgs: waitingMax * URGENCIES.length,
    max_msgs_per_subject: 1,
  };
  await ensureStream(link, stream, { whenDifferent: "keep" });
  const manager = await jetstreamManager(link.connection, { checkAPI: false, timeout: REQUEST_MS });
  for (const urgency of URGENCIES) {
    const consumer = {
      durable_name: consumerOf(urgency),
      filter_subject: names.workSubjects(urgency),
      ack_policy: AckPolicy.Explicit,
      ack_wait: nanos(leaseMs),
      max_deliver: -1,
      max_ack_pending: GIVEN_OUT_MAX,
    };
    await untilServersAgree(link, `${names.workStream} ${consumer.durable_name}`, () =>
      manager.consumers.add(names.workStream, consumer),
    );
  }
  return new NatsWorkQueue(link, manager, { leaseMs, waitingMax });
}

type Taker = { readonly give: (piece: Piece | null) => void };
type Piece = { readonly message: Msg; readonly work: Work; readonly urgency: Urgency; readonly atMs: number };

class NatsWorkQueue implements WorkQueue {
  readonly #link: NatsLink;
  readonly #client: JetStreamClient;
  readonly #manager: JetStreamManager;
  readonly #leaseMs: number;
  readonly #waitingMax: number;
  readonly #takers: Taker[] = [];
  /** Came when nobody waited any more. */
  #spare: Piece[] = [];
  readonly #pulls = new Map<Urgency, Pull>();
  readonly #counts = new Map<Urgency, { count: number; atMs: number }>();
  readonly #closing = new AbortController();

  constructor(link: NatsLink, manager: JetStreamManager, { leaseMs, waitingMax }: Required<NatsWorkQueueOptions>) {
    this.#link = link;
    this.#manager = manager;
    this.#client = jetstream(link.connection, { timeout: REQUEST_MS });
    this.#leaseMs = leaseMs;
    this.#waitingMax = waitingMax;
  }

  async add(work: Work, deadline: Deadline): Promise<void> {
    const { clock, names } = this.#link;
    const name = createHash("sha256").update(workName(work)).digest("base64url").slice(0, 27);
    const subject = names.workSubject(work.urgency, name);
    const bytes = encodeWork(work);
    for (;;) {
      this.#refuseWhenClosed();
      try {
        await this.#requireRoom(work.urgency);
        const timeout = Math.max(1, Math.min(REQUEST_MS, remainingMs(clock, deadline)));
        await this.#client.publish(subject, bytes, { timeout });
        return;
      } catch (cause) {
        if (isStoreError(cause)) throw cause;
        if (cause instanceof JetStreamApiError && cause.code === STREAM_FULL) throw full(this.#waitingMax);
        if (remainingMs(clock, deadline) <= RETRY_MS) throw unavailable("add work to it", cause);
      }
      await clock.sleep(RETRY_MS, this.#closing.signal);
    }
  }

  async take(waitMs: number, signal: AbortSignal): Promise<Delivery | null> {
    this.#refuseWhenClosed();
    if (signal.aborted) return null;
    const spare = this.#takeSpare();
    if (spare !== null) return this.#deliveryOf(spare);
    const piece = await new Promise<Piece | null>((resolve) => {
      const finish = (given: Piece | null) => {
        timer.cancel();
        signal.removeEventListener("abort", giveUp);
        const at = this.#takers.indexOf(taker);
        if (at !== -1) this.#takers.splice(at, 1);
        resolve(given);
      };
      const giveUp = () => finish(null);
      const taker: Taker = { give: finish };
      const timer = this.#link.clock.startTimer(waitMs, giveUp);
      signal.addEventListener("abort", giveUp, { once: true });
      this.#takers.push(taker);
      this.#pull();
    });
    return piece === null ? null : this.#deliveryOf(piece);
  }

  async depth(deadline: Deadline): Promise<WorkDepth> {
    this.#refuseWhenClosed();
    const { clock } = this.#link;
    const asked = Promise.all(URGENCIES.map((urgency) => this.#count(urgency)));
    try {
      return { byUrgency: await withDeadline(clock, deadline, asked, () => new Error("no answer in time")) };
    } catch (cause) {
      throw unavailable("count what waits", cause);
    }
  }

  async close(): Promise<void> {
    this.#closing.abort();
    for (const pull of this.#pulls.values()) pull.end();
    for (const taker of [...this.#takers]) taker.give(null);
    // Others need not wait until the time of these is over.
    for (const { message } of this.#spare.splice(0)) this.#tell(message, nakOf(0));
  }

  /** Asks for the most urgent work first, but for all kinds at once while somebody waits. */
  #pull(): void {
    if (this.#takers.length === 0 || this.#closing.signal.aborted) return;
    for (const urgency of URGENCIES) {
      if (this.#pulls.has(urgency)) continue;
      const pull = new Pull(this.#link, consumerOf(urgency), {
        onMessage: (message) => this.#receive(urgency, message),
        onEnd: (isBroken) => {
          this.#pulls.delete(urgency);
          if (!isBroken) return this.#pull();
          this.#link.clock.startTimer(RETRY_MS, () => this.#pull());
        },
      });
      this.#pulls.set(urgency, pull);
    }
  }

  #receive(urgency: Urgency, message: Msg): void {
    let work: Work;
    try {
      work = decodeWork(message.data);
    } catch (cause) {
      this.#link.logger.warn({ cause: String(cause) }, "a piece of work cannot be read; it is left to others");
      return this.#tell(message, nakOf(UNKNOWN_FORMAT_MS));
    }
    const piece = { message, work, urgency, atMs: this.#link.clock.monotonicMs() };
    const [taker] = this.#takers;
    if (taker !== undefined) taker.give(piece);
    else this.#spare.push(piece);
  }

  /** The most urgent of what came before anybody wanted it, unless it has been lying here for too long. */
  #takeSpare(): Piece | null {
    const freshMs = this.#link.clock.monotonicMs() - this.#leaseMs / 3;
    this.#spare = this.#spare.filter(({ atMs }) => atMs > freshMs).sort((a, b) => a.urgency - b.urgency);
    return this.#spare.shift() ?? null;
  }

  #deliveryOf({ message, work }: Piece): Delivery {
    return {
      work,
      attempt: attemptOf(message.reply ?? ""),
      extend: () => this.#tell(message, WORKING),
      done: () => this.#settle(message, DONE),
      later: (delayMs) => this.#settle(message, nakOf(delayMs)),
    };
  }

  #tell(message: Msg, answer: Uint8Array): void {
    if (message.reply !== undefined && !this.#link.connection.isClosed()) {
      this.#link.connection.publish(message.reply, answer);
    }
  }

  /** Answered by the server where it can be reached; else the piece is given out again, which does no harm. */
  async #settle(message: Msg, answer: Uint8Array): Promise<void> {
    if (message.reply === undefined || this.#link.connection.isClosed()) return;
    try {
      await this.#link.connection.request(message.reply, answer, { timeout: REQUEST_MS });
    } catch (cause) {
      this.#link.logger.debug({ cause: String(cause) }, "a piece of work could not be settled");
    }
  }

  async #count(urgency: Urgency): Promise<number> {
    const info = await this.#manager.consumers.info(this.#link.names.workStream, consumerOf(urgency));
    const count = info.num_pending + info.num_ack_pending;
    this.#counts.set(urgency, { count, atMs: this.#link.clock.monotonicMs() });
    return count;
  }

  /** What endangers least must not keep the most urgent out. @throws {StoreError} `overloaded` */
  async #requireRoom(urgency: Urgency): Promise<void> {
    const known = this.#counts.get(urgency);
    const isFresh = known !== undefined && this.#link.clock.monotonicMs() - known.atMs < COUNT_MS;
    const count = isFresh ? (known.count += 1) : await this.#count(urgency);
    if (count >= this.#waitingMax) throw full(count);
  }

  #refuseWhenClosed(): void {
    if (this.#closing.signal.aborted)
      throw new StoreError("work_unavailable", "The work queue is closed", { retriable: true });
  }
}

type PullEars = { readonly onMessage: (message: Msg) => void; readonly onEnd: (isBroken: boolean) => void };

/** One request for one message. */
class Pull {
  readonly #end: (isBroken: boolean) => void;

  constructor(link: NatsLink, consumer: string, { onMessage, onEnd }: PullEars) {
    const { connection, clock, names } = link;
    const inbox = createInbox();
    let isOver = false;
    this.#end = (isBroken) => {
      if (isOver) return;
      isOver = true;
      timer.cancel();
      subscription.unsubscribe();
      onEnd(isBroken);
    };
    const timer: Timer = clock.startTimer(PULL_MS + PULL_GRACE_MS, () => this.#end(true));
    const subscription = connection.subscribe(inbox, {
      callback: (failure, message) => {
        if (failure !== null) return this.#end(true);
        // Statuses have no reply: 404 and 408 for nothing to do, others for servers that are not well.
        const code = message.headers?.code ?? 0;
        if (message.reply === undefined || message.reply === "" || code >= 400)
          return this.#end(code !== 404 && code !== 408);
        if (code === 100) return;
        onMessage(message);
        this.#end(false);
      },
    });
    const request = JSON.stringify({ batch: 1, expires: nanos(PULL_MS) });
    connection.publish(`$JS.API.CONSUMER.MSG.NEXT.${names.workStream}.${consumer}`, request, { reply: inbox });
  }

  end(): void {
    this.#end(true);
  }
}

const encoder = new TextEncoder();
const DONE = encoder.encode("+ACK");
const WORKING = encoder.encode("+WPI");

function nakOf(delayMs: number): Uint8Array {
  return encoder.encode(`-NAK ${JSON.stringify({ delay: nanos(Math.max(0, Math.round(delayMs))) })}`);
}

function consumerOf(urgency: Urgency): string {
  return `urgency-${urgency}`;
}

/** `$JS.ACK.<stream>.<consumer>.<count>…`, or with domain and account before the stream. */
function attemptOf(reply: string): number {
  const tokens = reply.split(".");
  return Number(tokens[tokens.length === 9 ? DELIVERED_AT.short : DELIVERED_AT.long]);
}

function full(count: number): StoreError {
  return new StoreError("overloaded", `Cannot queue more work: ${count} pieces of its urgency wait`, {
    retriable: true,
  });
}

function unavailable(action: string, cause: unknown): StoreError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new StoreError("work_unavailable", `Cannot ${action}: the work queue does not answer (${reason})`, {
    retriable: true,
    cause,
  });
}
