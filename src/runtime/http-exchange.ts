/**
 * One request and its answer on node streams, which all three runtimes offer and which carry bodies several times
 * faster than web streams. Owns the rules that keep a connection in step: a body that nobody reads, a client that
 * vanishes, a source that fails after the head was sent.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import { StoreError } from "../domain/errors.ts";
import type { Clock } from "../lib/clock.ts";
import { RequestBody } from "./http-body.ts";
import type { ProgressWatch } from "./progress-watch.ts";

/** Header names and values alternating: the form that `writeHead` takes without building an object. */
export type HeaderList = string[];

/** What a server gives each of its exchanges. */
export type ExchangeContext = {
  readonly clock: Clock;
  readonly progress: ProgressWatch;
  /** True while the server drains: connections are not kept. */
  readonly closing: () => boolean;
};

export type RequestManner = {
  /** The client waits for a word before it sends the body. */
  readonly expectsContinue: boolean;
  readonly queued: number;
};

/** A client that does not take its answer is written to in small pieces: then a stall is a stall and not a slow line. */
const PIECE_BYTES_FAST = 256 * 1_024;
const PIECE_BYTES_SLOW = 64 * 1_024;
const PIECE_SLOW_MS = 250;
const DONE = Promise.resolve();
/** How long a refused client may go on sending, so that it gets to read the refusal instead of a reset connection. */
const LINGER_MS = 2_000;
const LINGER_BYTES_MAX = 16 * 1_024 * 1_024;
/** A body this small is read to its end before a refusal: cheaper than a new connection. */
const SKIP_BYTES_MAX = 64 * 1_024;

export class HttpExchange {
  readonly incoming: IncomingMessage;
  readonly outgoing: ServerResponse;
  readonly body: RequestBody;
  /** The request target exactly as sent. */
  readonly target: string;
  readonly method: string;
  readonly startedMs: number;
  /** How many earlier requests of the connection were still to be answered when this one came. */
  readonly queued: number;
  /** Settles when the request has been dealt with. */
  handled: Promise<void> = DONE;
  readonly #context: ExchangeContext;
  /** 0 until an answer was begun. */
  status = 0;
  bytesOut = 0;
  /** True when the client has not got its whole answer and never will. */
  broken = false;
  /** False when the connection must not carry another request: its framing cannot be trusted, or the server closes. */
  keepAlive = true;
  #headSent = false;
  #ended = false;
  /** Rejects the write that waits, when the connection is gone. */
  #failWrite: ((cause: StoreError) => void) | null = null;

  constructor(context: ExchangeContext, incoming: IncomingMessage, outgoing: ServerResponse, how: RequestManner) {
    this.#context = context;
    this.queued = how.queued;
    this.incoming = incoming;
    this.outgoing = outgoing;
    this.target = incoming.url ?? "";
    this.method = incoming.method ?? "";
    this.startedMs = context.clock.monotonicMs();
    this.body = new RequestBody(incoming, outgoing, context.progress, how.expectsContinue);
  }

  /** True when the whole answer has been handed over, or none will be. */
  get answered(): boolean {
    return this.#ended || this.broken;
  }

  get headSent(): boolean {
    return this.#headSent;
  }

  /** True when nothing of the answer is left to hand to the system. */
  get finished(): boolean {
    return this.broken || this.outgoing.writableFinished || this.outgoing.destroyed;
  }

  elapsedMs(): number {
    return this.#context.clock.monotonicMs() - this.startedMs;
  }

  /** Answers with a body at hand; null for none (HEAD, 204, 304). */
  send(status: number, headers: HeaderList, body: Uint8Array | null): Promise<void> {
    if (this.body.unread) return this.#sendPastBody(status, headers, body);
    if (!this.#begin(status, headers, false)) return DONE;
    if (body === null) this.outgoing.end();
    else {
      this.bytesOut += body.length;
      // Head and body leave in one write, or small answers wait for an acknowledgement.
      this.outgoing.end(body);
    }
    this.#ended = true;
    return DONE;
  }

  /**
   * Answers with `sizeBytes` from `chunks`, whose memory may be used again once the next one is asked for; null leaves
   * the size open, and the answer is chunked. The head goes out with the first chunk, so a source that fails at once can
   * still be answered properly. A source that fails later, or disagrees with `sizeBytes`, costs the client its
   * connection: nobody takes a part for the whole.
   */
  async sendStream(
    status: number,
    headers: HeaderList,
    chunks: AsyncIterable<Uint8Array>,
    sizeBytes: number | null,
  ): Promise<void> {
    const transfer = this.#context.progress.watchDownload(() => this.abort());
    const onClose = () => this.#onClose();
    this.outgoing.on("close", onClose);
    try {
      let sentBytes = 0;
      for await (const chunk of chunks) {
        if (!this.#headSent && !this.#begin(status, headers, true)) return;
        sentBytes += chunk.length;
        if (sizeBytes !== null && sentBytes > sizeBytes)
          throw new StoreError("internal", "The source gave more bytes than announced");
        await this.#writeChunk(chunk, transfer);
      }
      if (!this.#headSent && !this.#begin(status, headers, true)) return;
      if (sizeBytes !== null && sentBytes < sizeBytes)
        throw new StoreError("internal", "The source gave fewer bytes than announced");
      this.outgoing.end();
      this.#ended = true;
    } catch (cause) {
      if (this.#headSent) this.abort();
      throw cause;
    } finally {
      transfer.end();
      this.outgoing.off("close", onClose);
    }
  }

  /** Breaks the connection: the only honest end once a head was sent that cannot be kept. */
  abort(): void {
    this.broken = true;
    this.body.cancel();
    this.outgoing.destroy();
    this.incoming.socket.destroy();
    this.#onClose();
  }

  #onClose(): void {
    if (this.#ended) return;
    this.broken = true;
    this.#failWrite?.(clientGone());
  }

  /** False when there is nobody to answer. */
  #begin(status: number, headers: HeaderList, streamed: boolean): boolean {
    this.status = status;
    if (this.broken || this.outgoing.destroyed || this.incoming.socket.destroyed) {
      this.broken = true;
      return false;
    }
    if (this.#context.closing() || (streamed && this.body.unread)) this.keepAlive = false;
    if (!this.keepAlive) headers.push("Connection", "close");
    this.#headSent = true;
    this.outgoing.writeHead(status, headers);
    return true;
  }

  async #writeChunk(chunk: Uint8Array, transfer: { beginWait(): void; moved(bytes: number): void }): Promise<void> {
    let pieceBytesMax = PIECE_BYTES_FAST;
    for (let from = 0; from < chunk.length;) {
      const piece =
        chunk.length - from <= pieceBytesMax ? chunk.subarray(from) : chunk.subarray(from, from + pieceBytesMax);
      const startedMs = this.#context.clock.monotonicMs();
      transfer.beginWait();
      await this.#write(piece);
      transfer.moved(piece.length);
      const tookMs = this.#context.clock.monotonicMs() - startedMs;
      pieceBytesMax = tookMs > PIECE_SLOW_MS ? PIECE_BYTES_SLOW : PIECE_BYTES_FAST;
      this.bytesOut += piece.length;
      from += piece.length;
    }
  }

  /** Resolves when the system has taken the bytes and their memory is free again. */
  #write(piece: Uint8Array): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.broken) return reject(clientGone());
      this.#failWrite = reject;
      this.outgoing.write(piece, (cause) => (cause ? reject(clientGone()) : resolve()));
    });
  }

  /** Answers while the client may still be sending. */
  async #sendPastBody(status: number, headers: HeaderList, body: Uint8Array | null): Promise<void> {
    const { declaredBytes } = this.body;
    const small = this.keepAlive && declaredBytes !== null && declaredBytes <= SKIP_BYTES_MAX;
    if (small && this.body.canSkip && (await this.body.skip())) return await this.send(status, headers, body);
    this.keepAlive = false;
    if (!this.#begin(status, headers, false)) return;
    // With its length announced the answer is complete for the client before `end`, which would close the connection.
    if (body === null) this.outgoing.flushHeaders();
    else {
      this.bytesOut += body.length;
      this.outgoing.write(body);
    }
    await this.body.linger(this.#context.clock, LINGER_MS, LINGER_BYTES_MAX);
    this.outgoing.end();
    this.#ended = true;
  }
}

export function clientGone(): StoreError {
  return new StoreError("body_incomplete", "The client closed the connection before the transfer was complete");
}
