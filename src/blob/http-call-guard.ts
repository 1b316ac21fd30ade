import type { Clock, Timer } from "../lib/clock.ts";
import { remainingMs, type Deadline } from "../lib/deadline.ts";
import type { HttpConnection } from "../lib/http-connection.ts";

/** Ends a call at its deadline or when its caller gives it up, by breaking the connection that works for it. */
export class CallGuard {
  readonly #timer: Timer;
  readonly #signal: AbortSignal | undefined;
  readonly #onAbort = () => this.#fail("aborted", "its caller gave it up");
  #connection: HttpConnection | null = null;
  #rejectWait: (cause: Error) => void = () => {};
  cause: Error | null = null;
  reason: "expired" | "aborted" | null = null;
  /** True once the node may have seen something of it. */
  isSent = false;

  constructor(clock: Clock, deadline: Deadline, signal: AbortSignal | undefined) {
    this.#signal = signal;
    this.#timer = clock.startTimer(remainingMs(clock, deadline), () =>
      this.#fail("expired", "no answer before the deadline"),
    );
    if (signal?.aborted === true) this.#onAbort();
    else signal?.addEventListener("abort", this.#onAbort, { once: true });
  }

  /** The connection to break; null for none. */
  watch(connection: HttpConnection | null): void {
    this.#connection = connection;
  }

  check(): void {
    if (this.cause !== null) throw this.cause;
  }

  /** Waits for `work` no longer than the call lasts; what comes later goes to `onLate`. */
  race<T>(work: Promise<T>, onLate: (value: T) => void = () => {}): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#rejectWait = reject;
      if (this.cause !== null) reject(this.cause);
      work.then((value) => {
        if (this.cause === null) resolve(value);
        else onLate(value);
      }, reject);
    });
  }

  end(): void {
    this.#timer.cancel();
    this.#signal?.removeEventListener("abort", this.#onAbort);
  }

  #fail(reason: "expired" | "aborted", text: string): void {
    if (this.cause !== null) return;
    this.reason = reason;
    this.cause = new Error(text);
    this.#connection?.destroy(this.cause);
    this.#rejectWait(this.cause);
  }
}
