/**
 * The transfers of one gateway: gives each a subject that nobody can guess, hands it the frames that arrive there, and
 * ends those whose client has fallen silent.
 */
import type { Msg, NatsConnection, Subscription } from "@nats-io/transport-node";
import { StoreError } from "../../domain/errors.ts";
import type { Clock, Timer } from "../../lib/clock.ts";
import type { Logger } from "../../lib/logger.ts";
import type { Random } from "../../lib/random.ts";
import { CHUNK_BYTES, transferSubject, type ErrorAnswer } from "../../nats/object-protocol.ts";
import { decodeFrame, encodeFrame, type Frame } from "../../nats/transfer-frame.ts";
import { asStoreError, errorAnswerOf } from "./errors.ts";
import { isReplySafe } from "./request-headers.ts";

export type Transfer = {
  /** Must not throw anything but a `StoreError`, with which the transfer fails. */
  receive(frame: Frame, reply: string | null): void;
  /** Ends it, unless it has ended. */
  fail(error: StoreError): void;
  /** True once it only waits for its client to take note of that. */
  readonly ended: boolean;
};

type Seat = { readonly transfer: Transfer; heardAtMs: number };

export type TransferBoardParts = {
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly connection: NatsConnection;
  readonly gatewayId: string;
  /** A client that says nothing for this long is gone. */
  readonly idleMs: number;
};

const ID_BYTES = 16;
const LOOKS_PER_IDLE = 4;

export class TransferBoard {
  readonly #parts: TransferBoardParts;
  readonly #seats = new Map<string, Seat>();
  readonly #subscription: Subscription;
  #timer: Timer;
  #onEmpty: (() => void)[] = [];

  constructor(parts: TransferBoardParts) {
    this.#parts = parts;
    const callback = (failure: Error | null, message: Msg) => {
      if (failure === null) this.#receive(message);
    };
    this.#subscription = parts.connection.subscribe(transferSubject(parts.gatewayId, "*"), { callback });
    this.#timer = this.#startTimer();
  }

  /** Transfers that go on, and ended ones whose client has not taken note yet. */
  get size(): number {
    return this.#seats.size;
  }

  /** Bytes of a chunk: a frame of it fits one message of this server with room to spare. */
  get chunkBytes(): number {
    return Math.min(CHUNK_BYTES, Math.floor((this.#parts.connection.info?.max_payload ?? CHUNK_BYTES * 2) / 2));
  }

  /** The subject under which `transfer` receives frames from now on. */
  add(transfer: Transfer): { readonly subject: string; remove(): void } {
    const id = Buffer.from(this.#parts.random.bytes(ID_BYTES)).toString("base64url");
    this.#seats.set(id, { transfer, heardAtMs: this.#parts.clock.monotonicMs() });
    return { subject: transferSubject(this.#parts.gatewayId, id), remove: () => this.#remove(id) };
  }

  /** Best effort: what is lost on the way is asked for again. */
  send(subject: string, frame: Uint8Array): void {
    const { connection, logger } = this.#parts;
    try {
      connection.publish(subject, frame);
    } catch (cause) {
      logger.debug({ reason: String(cause) }, "a frame of a transfer could not be sent");
    }
  }

  failAll(error: StoreError): void {
    for (const { transfer } of this.#seats.values()) transfer.fail(error);
  }

  /** Resolves when no transfer is left. */
  empty(): Promise<void> {
    if (this.#seats.size === 0) return Promise.resolve();
    return new Promise((resolve) => this.#onEmpty.push(resolve));
  }

  close(): void {
    this.#timer.cancel();
    if (!this.#subscription.isClosed()) this.#subscription.unsubscribe();
  }

  #receive(message: Msg): void {
    const id = message.subject.slice(message.subject.lastIndexOf(".") + 1);
    const reply = message.reply !== undefined && isReplySafe(message.reply) ? message.reply : null;
    const seat = this.#seats.get(id);
    if (seat === undefined) return this.#refuse(reply, gone());
    seat.heardAtMs = this.#parts.clock.monotonicMs();
    try {
      seat.transfer.receive(decodeFrame(message.data), reply);
    } catch (cause) {
      const error = asStoreError(cause);
      seat.transfer.fail(error);
      this.#refuse(reply, error);
    }
  }

  #refuse(reply: string | null, error: StoreError): void {
    if (reply !== null) this.send(reply, failedFrame(errorAnswerOf(error, "")));
  }

  #remove(id: string): void {
    this.#seats.delete(id);
    if (this.#seats.size > 0) return;
    for (const resolve of this.#onEmpty.splice(0)) resolve();
  }

  #startTimer(): Timer {
    const { clock, idleMs } = this.#parts;
    return clock.startTimer(idleMs / LOOKS_PER_IDLE, () => {
      this.#endSilent();
      this.#timer = this.#startTimer();
    });
  }

  #endSilent(): void {
    const { clock, idleMs } = this.#parts;
    const sinceMs = clock.monotonicMs() - idleMs;
    for (const [id, { transfer, heardAtMs }] of this.#seats) {
      if (heardAtMs > sinceMs) continue;
      if (transfer.ended) this.#remove(id);
      else transfer.fail(silent(idleMs));
    }
  }
}

export function failedFrame(answer: ErrorAnswer): Uint8Array {
  return encodeFrame("failed", 0, 0, Buffer.from(JSON.stringify(answer)));
}

function silent(idleMs: number): StoreError {
  return new StoreError("request_timeout", `The client of the transfer was silent for ${idleMs} ms: start it over`, {
    retriable: true,
  });
}

function gone(): StoreError {
  return new StoreError("request_timeout", "This gateway has no such transfer, or has it no more: start it over", {
    retriable: true,
  });
}
