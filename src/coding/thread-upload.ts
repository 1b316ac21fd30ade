import type { MessagePort } from "node:worker_threads";
import { assert } from "../lib/assert.ts";
import type { CellChecksum } from "../domain/blob.ts";
import type { CodingUpload, EncodeRequest, Stripe, UploadDigests } from "./coder.ts";
import type { Answer, UploadCall } from "./coding-messages.ts";
import { errorOf } from "./coding-messages.ts";
import type { Spent } from "./spent.ts";

type Waiting = { readonly resolve: (value: unknown) => void; readonly reject: (cause: Error) => void };

/**
 * The event loop's end of an upload that lives in a coding thread. Calls are posted as they come and answered in order.
 * Whoever watches the thread calls `fail` when it dies.
 */
export class ThreadUpload implements CodingUpload {
  readonly #port: MessagePort;
  readonly #onSpent: (spent: Spent) => void;
  readonly #waiting: Waiting[] = [];
  /** Why the thread's end of this upload is gone. */
  #failure: Error | null = null;
  /** Why further calls are refused although the upload's owner did not close it. */
  #refusal: Error | null = null;
  #closing: Promise<void> | null = null;

  constructor(port: MessagePort, onSpent: (spent: Spent) => void) {
    this.#port = port;
    this.#onSpent = onSpent;
    port.on("message", (answer: Answer) => this.#accept(answer));
  }

  async absorb(stripe: Stripe, from: number, to: number): Promise<number> {
    return (await this.#call({ op: "absorb", memory: stripe.memory, from, to })) as number;
  }

  async encode(stripe: Stripe, request: EncodeRequest): Promise<CellChecksum[]> {
    return (await this.#call({ op: "encode", memory: stripe.memory, request })) as CellChecksum[];
  }

  async absorbAndEncode(stripe: Stripe, from: number, to: number, request: EncodeRequest): Promise<CellChecksum[]> {
    const { memory } = stripe;
    return (await this.#call({ op: "absorbAndEncode", memory, from, to, request })) as CellChecksum[];
  }

  async finish(): Promise<UploadDigests> {
    return (await this.#call({ op: "finish" })) as UploadDigests;
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  /** Lets what is under way finish, gives the thread's state back, and rejects with `cause` what is called from now on. */
  async shutDown(cause: Error): Promise<void> {
    const closed = this.close();
    this.#refusal = cause;
    await closed;
  }

  /** Rejects what waits and whatever is called from now on. */
  fail(cause: Error): void {
    if (this.#failure !== null) return;
    this.#failure = cause;
    this.#port.close();
    for (const waiting of this.#waiting.splice(0)) waiting.reject(cause);
  }

  async #close(): Promise<void> {
    try {
      await this.#post({ op: "close" });
    } catch {
      // The thread died and its state with it, which is all that closing wants.
    }
    this.#port.close();
  }

  async #call(call: UploadCall): Promise<unknown> {
    const refusal = this.#failure ?? this.#refusal;
    if (refusal !== null) throw refusal;
    assert(this.#closing === null, "a closed upload is not used");
    return await this.#post(call);
  }

  #post(call: UploadCall): Promise<unknown> {
    return new Promise((resolve, reject) => {
      if (this.#failure !== null) return reject(this.#failure);
      this.#waiting.push({ resolve, reject });
      this.#port.postMessage(call);
    });
  }

  #accept(answer: Answer): void {
    const waiting = this.#waiting.shift();
    // Nothing waits for an answer that was on its way when the upload failed.
    if (waiting === undefined) return;
    if (!answer.ok) return waiting.reject(errorOf(answer));
    this.#onSpent(answer.spent);
    waiting.resolve(answer.value);
  }
}
