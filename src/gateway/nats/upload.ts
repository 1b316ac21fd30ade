/**
 * An upload in chunks. Chunks are taken in order only; how many may be on their way follows from what the store has
 * taken, so that a transfer never holds more than its window. The body ends, and so can be committed, only behind an
 * `end` frame that names the size and the digest of everything received.
 */
import { StoreError } from "../../domain/errors.ts";
import { assert } from "../../lib/assert.ts";
import { encodeFrame, type Frame } from "../../nats/transfer-frame.ts";
import type { Transfer } from "./transfer-board.ts";

export type UploadParts = {
  /** To the client's deliver subject, or where it asked from. */
  readonly send: (frame: Uint8Array, reply: string | null) => void;
  readonly windowChunks: number;
  readonly chunkBytes: number;
  /** Called when the client has taken note of the outcome. */
  readonly onForgotten: () => void;
};

const DIGEST_BYTES = 32;

export class Upload implements Transfer, AsyncIterableIterator<Uint8Array> {
  readonly #parts: UploadParts;
  readonly #waiting: Uint8Array[] = [];
  /** The first chunk that has not arrived. */
  #next = 0;
  #receivedBytes = 0;
  /** Chunks that the store is done with. */
  #released = 0;
  #handedOut = 0;
  #limit: number;
  /** The gap that was last complained about: once is enough, the client asks again when even that got lost. */
  #complainedOf = -1;
  #sha256: string | null = null;
  #failure: StoreError | null = null;
  /** The frame that told the client how it ended. */
  #outcome: Uint8Array | null = null;
  #wake: (() => void) | null = null;

  constructor(parts: UploadParts) {
    this.#parts = parts;
    this.#limit = parts.windowChunks;
  }

  /** Lower-case hex of what the client says it sent; null before its end. */
  get sha256(): string | null {
    return this.#sha256;
  }

  get receivedBytes(): number {
    return this.#receivedBytes;
  }

  get ended(): boolean {
    return this.#outcome !== null;
  }

  receive(frame: Frame, reply: string | null): void {
    if (this.#outcome !== null) return this.#receiveLate(frame, reply);
    switch (frame.kind) {
      case "data":
        return this.#take(frame);
      case "end":
        return this.#end(frame);
      case "ask":
        return this.#tellState("credit", reply);
      case "bye":
        return this.fail(new StoreError("body_incomplete", "The sender gave the transfer up"));
      default:
        throw new StoreError("request_malformed", `An upload takes no ${frame.kind} frames`);
    }
  }

  fail(error: StoreError): void {
    this.#failure ??= error;
    this.#waiting.length = 0;
    this.#wakeUp();
  }

  /** Tells the client how it ended, and whenever it asks again. */
  finish(outcome: Uint8Array): void {
    assert(this.#outcome === null, "a transfer ends once");
    this.#outcome = outcome;
    this.#parts.send(outcome, null);
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<Uint8Array, void>> {
    this.#released = this.#handedOut;
    this.#giveCredit();
    for (;;) {
      if (this.#failure !== null) throw this.#failure;
      const chunk = this.#waiting.shift();
      if (chunk !== undefined) {
        this.#handedOut += 1;
        return { done: false, value: chunk };
      }
      if (this.#sha256 !== null) return { done: true, value: undefined };
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  return(): Promise<IteratorResult<Uint8Array, void>> {
    this.#waiting.length = 0;
    this.#failure ??= new StoreError("body_incomplete", "The store reads no more of the body");
    return Promise.resolve({ done: true, value: undefined });
  }

  #take({ index, position, payload }: Frame): void {
    if (this.#failure !== null || index < this.#next) return;
    if (index > this.#next) return this.#complain();
    if (this.#sha256 !== null || index >= this.#limit) {
      throw new StoreError("request_malformed", `Chunk ${index} was not asked for: chunks before ${this.#limit} were`);
    }
    if (position !== this.#receivedBytes || payload.length === 0 || payload.length > this.#parts.chunkBytes) {
      throw new StoreError("request_malformed", `Chunk ${index} does not begin at byte ${this.#receivedBytes}`);
    }
    this.#next += 1;
    this.#receivedBytes += payload.length;
    this.#waiting.push(payload);
    this.#wakeUp();
  }

  #end({ index, position, payload }: Frame): void {
    if (this.#failure !== null || this.#sha256 !== null) return;
    if (index > this.#next) return this.#complain();
    if (index !== this.#next || position !== this.#receivedBytes || payload.length !== DIGEST_BYTES) {
      const told = `${index} chunks with ${position} bytes`;
      throw new StoreError(
        "body_incomplete",
        `The sender ends ${told}, ${this.#next} with ${this.#receivedBytes} arrived; a SHA-256 has to come with that`,
      );
    }
    this.#sha256 = Buffer.from(payload).toString("hex");
    this.#wakeUp();
  }

  #receiveLate(frame: Frame, reply: string | null): void {
    if (frame.kind === "bye") return this.#parts.onForgotten();
    if (frame.kind === "ask") this.#parts.send(this.#outcome as Uint8Array, reply);
  }

  #complain(): void {
    if (this.#complainedOf === this.#next) return;
    this.#complainedOf = this.#next;
    this.#tellState("resend", null);
  }

  /** Worth a message when the client has run dry, or could send half a window more. */
  #giveCredit(): void {
    const limit = this.#released + this.#parts.windowChunks;
    const gained = limit - this.#limit;
    if (gained === 0 || (gained < this.#parts.windowChunks / 2 && this.#next < this.#limit)) return;
    this.#limit = limit;
    this.#tellState("credit", null);
  }

  #tellState(kind: "credit" | "resend", reply: string | null): void {
    this.#limit = this.#released + this.#parts.windowChunks;
    this.#parts.send(encodeFrame(kind, this.#next, this.#limit), reply);
  }

  #wakeUp(): void {
    this.#wake?.();
    this.#wake = null;
  }
}
