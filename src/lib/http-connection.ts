/**
 * One connection of an HTTP/1.1 client, straight on a socket, for requests that are small and many or large and few.
 * node:http's own client costs 187 µs of CPU for a small request and reads 1 MiB answers at a quarter of the rate: this
 * one takes 20 µs, on all three runtimes, and tells when the system has taken a write, so that memory may be used again.
 * It carries one request at a time. What the request says is its caller's business.
 */
import { connect, type Socket } from "node:net";
import { asBuffer } from "./bytes.ts";
import type { Clock } from "./clock.ts";
import { HttpAnswerParser, type AnswerEvents } from "./http-answer-parser.ts";

export type HostAndPort = { readonly host: string; readonly port: number };

/**
 * What becomes of one request. All but `onFailure` as in `AnswerEvents`, called while the socket reads: the memory of a
 * piece is read into again afterwards.
 */
export type AnswerListener = {
  onContinue?(): void;
  onHead(status: number): void;
  onBody(piece: Buffer): void;
  onEnd(): void;
  /** No whole answer will come. At most once, and never after `onEnd`. */
  onFailure(cause: Error): void;
};

const READ_BYTES = 128 * 1_024;
/** Below this one copied write is cheaper than a gathered one. */
const COPY_BYTES_MAX = 32 * 1_024;

/** @throws {Error} of the system, or a plain one when `waitMs` have passed */
export function openHttpConnection(clock: Clock, address: HostAndPort, waitMs: number): Promise<HttpConnection> {
  return new Promise((resolve, reject) => {
    let connection: HttpConnection | null = null;
    // Memory of our own, used again for every piece: what each piece would get anew costs more than all else together.
    const callback = (bytes: number, memory: Uint8Array) => {
      connection?.take(asBuffer(memory).subarray(0, bytes));
      return true;
    };
    const onread = { buffer: Buffer.allocUnsafeSlow(READ_BYTES), callback };
    const socket = connect({ ...address, noDelay: true, onread });
    const timer = clock.startTimer(waitMs, () => fail(new Error(`no connection after ${Math.round(waitMs)} ms`)));
    const fail = (cause: Error) => {
      timer.cancel();
      socket.destroy();
      reject(cause);
    };
    socket.once("error", fail);
    socket.once("connect", () => {
      timer.cancel();
      socket.off("error", fail);
      connection = new HttpConnection(socket, address);
      resolve(connection);
    });
  });
}

export class HttpConnection {
  readonly address: HostAndPort;
  readonly #socket: Socket;
  readonly #parser: HttpAnswerParser;
  #listener: AnswerListener | null = null;
  #keepAlive = true;
  #gone: Error | null = null;
  /** Writes that the system has not taken yet. */
  readonly #writing = new Set<(cause: Error) => void>();
  /** Answers received over it: a connection that has served may be closed by its other side at any moment. */
  answers = 0;
  /** True once anything of the present answer has come. */
  answering = false;
  /** Called when an idle connection is of no more use. */
  onIdleEnd: (() => void) | null = null;

  constructor(socket: Socket, address: HostAndPort) {
    this.#socket = socket;
    this.address = address;
    this.#parser = new HttpAnswerParser(this.#events());
    socket.on("error", (cause) => this.#end(cause));
    socket.on("end", () => this.#end(new Error("the other side closed the connection")));
    socket.on("close", () => this.#end(new Error("the connection is closed")));
    socket.resume();
  }

  /** True when it can carry another request. */
  get reusable(): boolean {
    return this.#gone === null && this.#listener === null && this.#keepAlive && this.#writing.size === 0;
  }

  /** True while the system has not taken all that was written. */
  get writing(): boolean {
    return this.#writing.size > 0;
  }

  /** Begins a request, whose bytes `write` sends. The connection must be reusable. */
  begin(listener: AnswerListener): void {
    this.answering = false;
    this.#listener = listener;
    if (this.#gone !== null) this.#fail(this.#gone);
  }

  /**
   * Sends `parts`, at once and in order. Resolves when the system has taken them and their memory may be used again.
   * @throws {Error} when the connection is gone; the memory is free then too
   */
  write(parts: readonly Uint8Array[]): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#gone !== null) return reject(this.#gone);
      this.#writing.add(reject);
      const done = (cause?: Error | null) => {
        this.#writing.delete(reject);
        if (cause) reject(cause);
        else resolve();
      };
      const bytes = parts.reduce((sum, part) => sum + part.length, 0);
      if (parts.length === 1 || bytes <= COPY_BYTES_MAX) {
        return void this.#socket.write(
          parts.length === 1 ? (parts[0] as Uint8Array) : Buffer.concat(parts, bytes),
          done,
        );
      }
      this.#socket.cork();
      const last = parts.length - 1;
      for (const [index, part] of parts.entries()) {
        if (index === last) this.#socket.write(part, done);
        else this.#socket.write(part);
      }
      this.#socket.uncork();
    });
  }

  /** Breaks the connection; a request under way fails with `cause`. Nothing of it is delivered any more. */
  destroy(cause: Error = new Error("the connection was given up")): void {
    this.#end(cause);
  }

  /** Called with what the socket has read; the memory is the socket's again afterwards. */
  take(piece: Buffer): void {
    if (this.#gone !== null) return;
    // What comes unasked belongs to no request, and whatever follows could be taken for the answer of the next.
    if (this.#listener === null) return this.#end(new Error("the other side spoke unasked"));
    this.answering = true;
    try {
      this.#parser.feed(piece);
    } catch (cause) {
      this.#end(cause instanceof Error ? cause : new Error(String(cause)));
    }
    if (this.#listener === null && !this.#parser.idle) this.#end(new Error("more came than was asked for"));
  }

  #events(): AnswerEvents {
    return {
      onInterim: (status) => {
        if (status === 100) this.#listener?.onContinue?.();
      },
      onHead: (status, keepAlive) => {
        this.#keepAlive &&= keepAlive;
        this.#listener?.onHead(status);
      },
      onBody: (piece) => this.#listener?.onBody(piece),
      onEnd: () => {
        const listener = this.#listener;
        this.#listener = null;
        this.answers += 1;
        listener?.onEnd();
      },
    };
  }

  #end(cause: Error): void {
    if (this.#gone !== null) return;
    this.#gone = cause;
    // Closed in peace, it would live on in the system until the other side has taken what was written, if it ever does.
    if (this.writing) this.#socket.resetAndDestroy();
    else this.#socket.destroy();
    for (const reject of this.#writing) reject(cause);
    this.#writing.clear();
    this.#fail(cause);
    this.onIdleEnd?.();
  }

  #fail(cause: Error): void {
    const listener = this.#listener;
    this.#listener = null;
    listener?.onFailure(cause);
  }
}
