/**
 * Receives a body in numbered chunks. What got lost, a gateway that died or a connection that broke only costs asking
 * for the rest: as a range of the very version that was begun, of any gateway.
 */
import { createHash } from "node:crypto";
import type { Msg } from "@nats-io/transport-node";
import { HEADER, WINDOW_CHUNKS } from "../nats/object-protocol.ts";
import { decodeFrame, encodeFrame, type Frame } from "../nats/transfer-frame.ts";
import { backoffMs, callGateway, type CallHeaders } from "./call.ts";
import type { Ear, GatewayLink } from "./gateway-link.ts";
import { errorOfAnswer, KintsugiError } from "./kintsugi-error.ts";

/** After this long without a chunk the gateway is asked whether it still is at it. */
const ASK_AFTER_MS = 1_000;
const ASK_TIMEOUT_MS = 2_000;
const EMPTY = new Uint8Array(0);

export type DownloadPlan = {
  /** What names the object. */
  readonly headers: CallHeaders;
  readonly etag: string;
  /** Which bytes of it: [start, end). */
  readonly start: number;
  readonly end: number;
  /** Of those bytes; null when it is not known. */
  readonly sha256: string | null;
};

/** What one gateway sends of it. */
class Session {
  readonly #ear: Ear;
  onFrame: () => void = () => {};
  readonly waiting: Uint8Array[] = [];
  transfer: string | null = null;
  window = WINDOW_CHUNKS;
  /** Chunks that arrived in order, and those of them that were handed out. */
  arrived = 0;
  taken = 0;
  #limit = 0;
  /** A chunk is missing. */
  lost = false;
  failure: KintsugiError | null = null;

  constructor(link: GatewayLink) {
    this.#ear = link.listen((frame) => this.hear(frame));
  }

  get deliver(): string {
    return this.#ear.subject;
  }

  begin(answer: Msg): void {
    this.transfer = answer.headers?.get(HEADER.transfer) || null;
    this.window = Number(answer.headers?.get(HEADER.window)) || WINDOW_CHUNKS;
    this.#limit = this.window;
    if (this.transfer !== null) return;
    this.waiting.push(answer.data);
    this.#ear.close();
  }

  hear(frame: Frame): void {
    switch (frame.kind) {
      case "data":
        if (frame.index > this.arrived) this.lost = true;
        if (frame.index !== this.arrived) break;
        this.arrived += 1;
        this.waiting.push(frame.payload);
        break;
      case "end":
      case "credit":
        // What the gateway sent before this has arrived, or never will.
        if (frame.index > this.arrived) this.lost = true;
        break;
      case "failed":
        this.failure ??= errorOfAnswer(frame.payload, false);
        // Nothing follows; an object that is never read must not be held on to.
        this.#ear.close();
        break;
      default:
        return;
    }
    this.onFrame();
  }

  take(): Uint8Array | undefined {
    const chunk = this.waiting.shift();
    if (chunk !== undefined) this.taken += 1;
    return chunk;
  }

  /** The credit to give, once half a window has been used up. */
  credit(): Uint8Array | null {
    const limit = this.taken + this.window;
    if (this.transfer === null || limit - this.#limit < this.window / 2) return null;
    this.#limit = limit;
    return encodeFrame("credit", this.arrived, limit);
  }

  close(): void {
    this.#ear.close();
    this.waiting.length = 0;
  }
}

export class Download implements AsyncIterableIterator<Uint8Array> {
  readonly #link: GatewayLink;
  readonly #plan: DownloadPlan;
  readonly #digest = createHash("sha256");
  /** Null before the first byte is wanted. */
  #endReconnects: (() => void) | null = null;
  #session: Session;
  #givenBytes = 0;
  #reopened = 0;
  #done = false;
  #interrupted = false;
  #change = Promise.withResolvers<void>();

  private constructor(link: GatewayLink, plan: DownloadPlan, session: Session) {
    this.#link = link;
    this.#plan = plan;
    this.#session = session;
    session.onFrame = () => this.#wakeUp();
  }

  /** Sends a get that lets a gateway answer in chunks. `planOf` reads the answer; null when there is no body to come. */
  static async open(
    link: GatewayLink,
    headers: CallHeaders,
    planOf: (answer: Msg) => DownloadPlan | null,
  ): Promise<{ readonly answer: Msg; readonly body: Download | null }> {
    const session = new Session(link);
    try {
      const answer = await requestChunks(link, session, headers);
      const plan = planOf(answer);
      if (plan !== null) return { answer, body: new Download(link, plan, session) };
      session.close();
      return { answer, body: null };
    } catch (cause) {
      session.close();
      throw cause;
    }
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  /** @throws {KintsugiError} `precondition_failed` when the object changed meanwhile, `digest_mismatch` at the end */
  async next(): Promise<IteratorResult<Uint8Array, void>> {
    const sinceMs = this.#link.clock.monotonicMs();
    this.#endReconnects ??= this.#link.onReconnect(() => {
      this.#interrupted = true;
      this.#wakeUp();
    });
    try {
      for (;;) {
        if (this.#done) return { done: true, value: undefined };
        const chunk = this.#session.take();
        if (chunk !== undefined && chunk.length > 0) return { done: false, value: this.#give(chunk) };
        if (this.#givenBytes === this.#plan.end - this.#plan.start) this.#finish();
        else await this.#waitForMore(sinceMs);
      }
    } catch (cause) {
      this.#end();
      throw cause;
    }
  }

  return(): Promise<IteratorResult<Uint8Array, void>> {
    this.#end();
    return Promise.resolve({ done: true, value: undefined });
  }

  #give(chunk: Uint8Array): Uint8Array {
    const leftBytes = this.#plan.end - this.#plan.start - this.#givenBytes;
    if (chunk.length > leftBytes) {
      throw new KintsugiError("request_malformed", "The gateway sent more bytes than the object has");
    }
    this.#givenBytes += chunk.length;
    if (this.#plan.sha256 !== null) this.#digest.update(chunk);
    const credit = this.#session.credit();
    if (credit !== null) this.#link.publish(this.#session.transfer as string, credit);
    return chunk;
  }

  #finish(): void {
    const { sha256 } = this.#plan;
    this.#end();
    if (sha256 === null) return;
    const received = this.#digest.digest("hex");
    if (received === sha256) return;
    throw new KintsugiError("digest_mismatch", `What arrived has SHA-256 ${received}, the object has ${sha256}`);
  }

  #end(): void {
    if (this.#done) return;
    this.#done = true;
    this.#endReconnects?.();
    this.#leave();
  }

  #leave(): void {
    const { transfer } = this.#session;
    if (transfer !== null) this.#link.publish(transfer, encodeFrame("bye"));
    this.#session.close();
  }

  async #waitForMore(sinceMs: number): Promise<void> {
    const { clock, timeoutMs } = this.#link;
    const { failure, lost } = this.#session;
    if (failure !== null && !failure.retriable) throw failure;
    if (this.#link.connection.isClosed()) throw new KintsugiError("nats_unavailable", "The client was closed");
    if (clock.monotonicMs() - sinceMs > timeoutMs) {
      if (failure !== null) throw failure;
      throw new KintsugiError("deadline_exceeded", `No more of the object came for ${timeoutMs} ms`, {
        retriable: true,
      });
    }
    if (failure !== null || lost || this.#interrupted || this.#session.transfer === null) {
      return await this.#reopen(failure?.retryAfterMs ?? null);
    }
    const { promise } = this.#change;
    let silent = false;
    const timer = clock.startTimer(Math.min(ASK_AFTER_MS, timeoutMs), () => {
      silent = true;
      this.#wakeUp();
    });
    await promise;
    timer.cancel();
    if (silent && this.#link.connected) await this.#ask();
  }

  async #ask(): Promise<void> {
    const session = this.#session;
    try {
      const options = { timeout: ASK_TIMEOUT_MS };
      const answer = await this.#link.connection.request(session.transfer as string, encodeFrame("ask"), options);
      session.hear(decodeFrame(answer.data));
    } catch {
      // A gateway that does not even answer this is given up: another one has the object too.
      session.lost = true;
    }
  }

  async #reopen(retryAfterMs: number | null): Promise<void> {
    this.#interrupted = false;
    this.#leave();
    const { clock } = this.#link;
    if (this.#reopened > 0) await clock.sleep(backoffMs(this.#link, Math.min(this.#reopened, 5), retryAfterMs));
    this.#reopened += 1;
    const { headers, etag, start, end } = this.#plan;
    this.#session = new Session(this.#link);
    this.#session.onFrame = () => this.#wakeUp();
    const range = `${start + this.#givenBytes}-${end - 1}`;
    await requestChunks(this.#link, this.#session, [...headers, [HEADER.range, range], [HEADER.ifMatch, etag]]);
    this.#wakeUp();
  }

  #wakeUp(): void {
    this.#change.resolve();
    this.#change = Promise.withResolvers<void>();
  }
}

async function requestChunks(link: GatewayLink, session: Session, headers: CallHeaders): Promise<Msg> {
  const answer = await callGateway(link, {
    operation: "get",
    headers: [...headers, [HEADER.deliver, session.deliver], [HEADER.window, String(WINDOW_CHUNKS)]],
    body: EMPTY,
    repeatable: true,
  });
  session.begin(answer);
  return answer;
}
