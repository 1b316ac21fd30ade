/** The body of a request, read from the node stream with back-pressure, and everything that can go wrong with it. */
import type { IncomingMessage, ServerResponse } from "node:http";
import { StoreError } from "../domain/errors.ts";
import type { Clock } from "../lib/clock.ts";
import type { ProgressWatch, Transfer } from "./progress-watch.ts";

/** What may wait in memory for a consumer that is slower than the network. */
const QUEUE_BYTES_MAX = 256 * 1_024;

export class RequestBody implements AsyncIterableIterator<Uint8Array> {
  /** Bytes announced; null for a chunked body, 0 for none. */
  readonly declaredBytes: number | null;
  readonly #incoming: IncomingMessage;
  readonly #outgoing: ServerResponse;
  readonly #progress: ProgressWatch;
  #expectsContinue: boolean;
  #transfer: Transfer | null = null;
  #queue: Buffer[] = [];
  #queuedBytes = 0;
  /** Received so far. */
  bytes = 0;
  #complete: boolean;
  #failure: StoreError | null = null;
  #paused = false;
  /** Wakes the one reader that waits for what comes next. */
  #wake: (() => void) | null = null;

  constructor(incoming: IncomingMessage, outgoing: ServerResponse, progress: ProgressWatch, expectsContinue: boolean) {
    this.#incoming = incoming;
    this.#outgoing = outgoing;
    this.#progress = progress;
    this.#expectsContinue = expectsContinue;
    const { headers } = incoming;
    this.declaredBytes = headers["transfer-encoding"] === undefined ? Number(headers["content-length"] ?? 0) : null;
    this.#complete = this.declaredBytes === 0;
  }

  /** True while the client still has, or may have, body bytes to send. */
  get unread(): boolean {
    return !this.#complete;
  }

  /** True while the client waits for a word before it sends. */
  get expectsContinue(): boolean {
    return this.#expectsContinue;
  }

  /** False for a client that waits for permission to send: it is told the outcome instead. */
  get canSkip(): boolean {
    return !this.#expectsContinue && this.#failure === null;
  }

  /**
   * The whole body in memory of its own.
   * @throws {StoreError} `body_too_large` above `bytesMax`, `body_incomplete`, `request_timeout`
   */
  async collect(bytesMax: number): Promise<Uint8Array> {
    const chunks: Uint8Array[] = [];
    let length = 0;
    if (this.declaredBytes !== null && this.declaredBytes > bytesMax) throw tooLarge(bytesMax);
    for (let next = await this.next(); next.done !== true; next = await this.next()) {
      chunks.push(next.value);
      length += next.value.length;
      if (length > bytesMax) throw tooLarge(bytesMax);
    }
    if (chunks.length === 1) return chunks[0] as Uint8Array;
    return Buffer.concat(chunks, length);
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  /** @throws {StoreError} `body_incomplete` when the client vanished, `request_timeout` when it is too slow */
  async next(): Promise<IteratorResult<Uint8Array, undefined>> {
    this.#start();
    for (;;) {
      const chunk = this.#queue.shift();
      if (chunk !== undefined) {
        this.#queuedBytes -= chunk.length;
        return { done: false, value: chunk };
      }
      if (this.#failure !== null) throw this.#failure;
      if (this.#complete) return { done: true, value: undefined };
      if (this.#paused) {
        this.#paused = false;
        this.#incoming.resume();
      }
      this.#transfer?.beginWait();
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  /** The consumer reads no further; the rest is for `linger`. */
  return(): Promise<IteratorResult<Uint8Array, undefined>> {
    this.#transfer?.end();
    return Promise.resolve({ done: true, value: undefined });
  }

  /** Reads the rest and throws it away. False when it did not come. */
  async skip(): Promise<boolean> {
    try {
      for (let next = await this.next(); next.done !== true; next = await this.next());
      return true;
    } catch {
      return false;
    }
  }

  /** Lets a client that has been answered send on for a while, unheard. */
  async linger(clock: Clock, waitMs: number, bytesMax: number): Promise<void> {
    if (this.#complete || this.#failure !== null || this.#incoming.destroyed) return;
    this.#transfer?.end();
    await new Promise<void>((resolve) => {
      let bytes = 0;
      const timer = clock.startTimer(waitMs, resolve);
      const finish = () => {
        timer.cancel();
        resolve();
      };
      this.#incoming.removeAllListeners("data");
      this.#incoming.on("data", (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes > bytesMax) finish();
      });
      for (const event of ["end", "error", "close"]) this.#incoming.on(event, finish);
      this.#incoming.resume();
    });
    this.#incoming.pause();
  }

  /** Ends the wait of a reader: the connection is being given up. */
  cancel(): void {
    this.#fail(incomplete);
  }

  #start(): void {
    if (this.#transfer !== null || this.#complete || this.#failure !== null) return;
    this.#transfer = this.#progress.watchUpload(() => this.#fail(tooSlow));
    const incoming = this.#incoming;
    const gone = () => this.#fail(incomplete);
    incoming.on("data", (chunk: Buffer) => this.#take(chunk));
    incoming.on("end", () => this.#finish());
    incoming.on("error", gone);
    incoming.on("close", gone);
    if (incoming.destroyed) gone();
    else if (this.#expectsContinue) this.#outgoing.writeContinue();
    this.#expectsContinue = false;
  }

  #take(chunk: Buffer): void {
    this.bytes += chunk.length;
    this.#transfer?.moved(chunk.length);
    this.#queue.push(chunk);
    this.#queuedBytes += chunk.length;
    if (this.#queuedBytes > QUEUE_BYTES_MAX && !this.#paused) {
      this.#paused = true;
      this.#incoming.pause();
    }
    this.#wakeReader();
  }

  #finish(): void {
    if (this.declaredBytes !== null && this.bytes !== this.declaredBytes) return this.#fail(incomplete);
    this.#complete = true;
    this.#transfer?.end();
    this.#wakeReader();
  }

  /** The error is made only when it is one: every connection closes in the end. */
  #fail(failure: () => StoreError): void {
    if (this.#complete || this.#failure !== null) return;
    this.#failure = failure();
    this.#queue = [];
    this.#queuedBytes = 0;
    this.#transfer?.end();
    this.#wakeReader();
  }

  #wakeReader(): void {
    const wake = this.#wake;
    this.#wake = null;
    wake?.();
  }
}

function incomplete(): StoreError {
  return new StoreError("body_incomplete", "The body ended before all of its announced bytes had arrived");
}

function tooSlow(): StoreError {
  return new StoreError("request_timeout", "The body arrives more slowly than the least rate this server waits for");
}

function tooLarge(bytesMax: number): StoreError {
  return new StoreError("body_too_large", `The body has more than ${bytesMax} bytes, which is the limit here`, {
    details: { bytesMax },
  });
}
