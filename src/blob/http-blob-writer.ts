import type { CellChecksum } from "../domain/blob.ts";
import { StoreError } from "../domain/errors.ts";
import type { BlobId } from "../domain/ids.ts";
import { assert } from "../lib/assert.ts";
import type { Timer } from "../lib/clock.ts";
import { deadlineIn, withDeadline } from "../lib/deadline.ts";
import { LIMITS } from "../limits.ts";
import { writerAborted } from "./blob-errors.ts";
import type { BlobWriter } from "./blob-store.ts";
import { NodeAnswer, type FrameSink, type NodeOutcome } from "./http-answer.ts";
import { nodeUnreachable, outcomeUnknown } from "./http-blob-errors.ts";
import { reasonOf, type NodeLink, type OpenRequest } from "./http-node-link.ts";
import { refusalOf } from "./http-session.ts";
import { malformedMessage } from "./wire-bytes.ts";
import type { FrameKind } from "./wire-frame.ts";
import { WIRE_LIMITS } from "./wire-limits.ts";
import { encodeCellMeta, writeTarget } from "./wire-messages.ts";

/**
 * Writes one blob over one request that is held open: its body is a frame per cell and one for the seal or the abort.
 * The node says that it has begun by asking for the body; its answer tells how the seal went, or earlier why it gave up.
 * While no cell comes the writer says every now and then that it is alive, or the node would take it for dead.
 */
const ALIVE_MS = 10_000;
const ATTEMPTS_MAX = 3;
/** How long an abort waits to hear that the node has cleared away. */
const ABORT_WAIT_MS_MAX = 2_000;
const NOTHING = Buffer.alloc(0);
const LINE_END = Buffer.from("\r\n");
const BODY_END = Buffer.from("0\r\n\r\n");

/**
 * `onClosed` is told once the writer has given its connection back; not when opening fails.
 * @throws {StoreError} what the node answered, `node_unavailable`, `node_refused`, `deadline_exceeded`
 */
export async function openHttpWriter(
  link: NodeLink,
  id: BlobId,
  waitMs: number,
  onClosed: () => void,
): Promise<BlobWriter> {
  const deadline = deadlineIn(link.clock, waitMs);
  for (let attempt = 1; ; attempt += 1) {
    const request = await link.openRequest("open a writer", deadline);
    const writer = new HttpBlobWriter(link, request, id, waitMs);
    const outcome = await writer.begin();
    if (outcome === null) {
      void writer.closed.then(onClosed);
      return writer;
    }
    if (outcome.kind === "answered") throw outcome.error ?? malformedMessage("a writer was answered before its end");
    if (outcome.kind === "refused" && (outcome.status !== 401 || attempt === ATTEMPTS_MAX)) {
      link.noteFailure();
      throw refusalOf(link.node, outcome.status, outcome.text);
    }
    if (outcome.kind === "refused") await link.forget(request.session);
    else if (attempt === ATTEMPTS_MAX) throw nodeUnreachable(link.node, "open a writer", "it closes connections");
  }
}

class HttpBlobWriter implements BlobWriter {
  readonly #link: NodeLink;
  readonly #request: OpenRequest;
  readonly #id: BlobId;
  readonly #waitMs: number;
  readonly #begun = Promise.withResolvers<void>();
  readonly #answered = Promise.withResolvers<NodeOutcome>();
  readonly #closed = Promise.withResolvers<void>();
  #state: "open" | "sealing" | "sealed" | "aborted" = "open";
  #cells = 0;
  /** Why nothing more can be sent. */
  #failure: StoreError | null = null;
  #failing: Promise<StoreError> | null = null;
  #isReleased = false;
  #hasAnswer = false;
  #alive: Timer | null = null;
  #wroteAtMs = 0;

  constructor(link: NodeLink, request: OpenRequest, id: BlobId, waitMs: number) {
    this.#link = link;
    this.#request = request;
    this.#id = id;
    this.#waitMs = waitMs;
    this.#answered.promise.catch(() => {});
  }

  /** Resolves once the connection has been given back. */
  get closed(): Promise<void> {
    return this.#closed.promise;
  }

  /** Sends the head. Null when the node wants the body; else its answer, or `stale` for a connection that was closed. */
  async begin(): Promise<NodeOutcome | { readonly kind: "stale" } | null> {
    const { connection, seal, host } = this.#request;
    const isReused = connection.answers > 0;
    const sink: FrameSink = { place: (_kind, _meta, bytes) => Buffer.allocUnsafe(bytes), take: () => {} };
    const answer = new NodeAnswer(seal.reader, sink, (state) => this.#link.noteAnswer(state));
    connection.begin({
      onContinue: () => this.#begun.resolve(),
      onHead: (status) => answer.begin(status),
      onBody: (piece) => answer.feed(piece),
      onEnd: () => this.#end(answer),
      onFailure: (cause) => this.#answered.reject(cause),
    });
    const target = writeTarget(this.#id, Math.min(Math.ceil(this.#waitMs), WIRE_LIMITS.waitMsMax));
    connection.write([seal.head(target, host, null)]).catch(() => {});
    try {
      const outcome = await this.#within(Promise.race([this.#begun.promise.then(() => null), this.#answered.promise]));
      if (outcome !== null) this.#close();
      else this.#begin();
      return outcome;
    } catch (cause) {
      const isStale = isReused && !connection.answering && !(cause instanceof WaitExpired);
      this.#close();
      if (isStale) return { kind: "stale" };
      this.#link.noteFailure();
      const failure = cause instanceof WaitExpired ? outcomeUnknown : nodeUnreachable;
      throw failure(this.#link.node, "open a writer", reasonOf(cause), cause);
    }
  }

  async writeCell(index: number, payload: Uint8Array, checksum: CellChecksum): Promise<void> {
    assert(this.#state !== "sealing" && this.#state !== "sealed", "no cell follows the seal");
    assert(index === this.#cells, "cells come in order and without gaps");
    assert(payload.length > 0 && payload.length <= LIMITS.cellBytesMax, "a cell has 1 byte to the maximum");
    this.#assertUsable();
    this.#cells += 1;
    try {
      if (this.#hasAnswer) throw new Error("the node has given up");
      await this.#within(this.#write("cell", encodeCellMeta(index, checksum), payload));
    } catch (cause) {
      throw await this.#fail("write a cell", cause);
    }
  }

  async seal(descriptor: Uint8Array): Promise<void> {
    if (this.#state === "sealed") return;
    assert(this.#state !== "sealing", "a blob is sealed once");
    assert(descriptor.length <= WIRE_LIMITS.descriptorBytesMax, "a descriptor is small");
    this.#assertUsable();
    this.#state = "sealing";
    try {
      this.#write("seal", NOTHING, descriptor, BODY_END).catch(() => {});
      this.#settle(await this.#within(this.#answered.promise));
      this.#state = "sealed";
    } catch (cause) {
      throw await this.#fail("seal a blob", cause);
    } finally {
      this.#close();
    }
  }

  async abort(): Promise<void> {
    if (this.#state === "sealed" || this.#state === "aborted") return;
    // Behind bytes that the node does not take, no word would reach it in good time, and their memory is wanted back.
    const canTell =
      this.#state === "open" && this.#failure === null && !this.#hasAnswer && !this.#request.connection.writing;
    this.#state = "aborted";
    try {
      if (canTell) {
        this.#write("abort", NOTHING, NOTHING, BODY_END).catch(() => {});
        await this.#within(this.#answered.promise, ABORT_WAIT_MS_MAX);
      }
    } catch {
      // Breaking the connection tells the node as well: without a seal nothing of the blob stays.
    } finally {
      this.#close();
    }
  }

  /** The node takes the body. */
  #begin(): void {
    this.#wroteAtMs = this.#link.clock.monotonicMs();
    this.#sayAlive();
  }

  #sayAlive(): void {
    const { clock } = this.#link;
    this.#alive = clock.startTimer(ALIVE_MS, () => {
      if (this.#state !== "open" || this.#failure !== null || this.#hasAnswer) return;
      const quietMs = clock.monotonicMs() - this.#wroteAtMs;
      if (quietMs >= ALIVE_MS) this.#write("alive", NOTHING, NOTHING).catch(() => {});
      this.#sayAlive();
    });
  }

  /** One frame as one chunk. Resolves when the memory of `payload` is free again. */
  #write(kind: FrameKind, meta: Uint8Array, payload: Uint8Array, behind: Uint8Array = NOTHING): Promise<void> {
    this.#wroteAtMs = this.#link.clock.monotonicMs();
    const head = this.#request.seal.sealer.seal(kind, meta, payload);
    const size = Buffer.from(`${(head.length + payload.length).toString(16)}\r\n`, "latin1");
    return this.#request.connection.write([size, head, payload, LINE_END, behind].filter((part) => part.length > 0));
  }

  #end(answer: NodeAnswer): void {
    this.#hasAnswer = true;
    try {
      this.#answered.resolve(answer.end());
    } catch (cause) {
      this.#answered.reject(cause);
    }
  }

  /** @throws {StoreError} what the node answered */
  #settle(outcome: NodeOutcome): void {
    if (outcome.kind === "refused") throw refusalOf(this.#link.node, outcome.status, outcome.text);
    if (outcome.error !== null) throw outcome.error;
  }

  /** The end of this writer. Its connection is broken before anybody is told: then all memory is free again. */
  #fail(action: string, cause: unknown): Promise<StoreError> {
    this.#failing ??= this.#failureOf(action, cause).then((failure) => {
      this.#failure = failure;
      this.#close(new Error(failure.message));
      return failure;
    });
    return this.#failing;
  }

  /** The node's own word, where it gave one, says more than a broken connection. */
  async #failureOf(action: string, cause: unknown): Promise<StoreError> {
    const { node } = this.#link;
    if (this.#state === "aborted") return writerAborted(node, this.#id);
    if (cause instanceof StoreError) return cause;
    try {
      if (this.#hasAnswer) this.#settle(await this.#answered.promise);
    } catch (answer) {
      if (answer instanceof StoreError) return answer;
    }
    this.#link.noteFailure();
    const isUnknown = cause instanceof WaitExpired || this.#state === "sealing";
    const failure = isUnknown ? outcomeUnknown : nodeUnreachable;
    return failure(node, `${action} (${this.#id})`, reasonOf(cause), cause);
  }

  #assertUsable(): void {
    if (this.#state === "aborted") throw writerAborted(this.#link.node, this.#id);
    if (this.#failure !== null) throw this.#failure;
  }

  #close(cause?: Error): void {
    this.#alive?.cancel();
    if (this.#isReleased) return;
    this.#isReleased = true;
    // Only a request that was answered at its end leaves a connection in step.
    const isInStep = this.#hasAnswer && (this.#state === "sealed" || this.#state === "aborted");
    if (!isInStep) this.#request.connection.destroy(cause);
    this.#link.release(this.#request.connection);
    this.#closed.resolve();
  }

  #within<T>(work: Promise<T>, waitMsMax = this.#waitMs): Promise<T> {
    const { clock } = this.#link;
    return withDeadline(clock, deadlineIn(clock, Math.min(this.#waitMs, waitMsMax)), work, () => new WaitExpired());
  }
}

class WaitExpired extends Error {
  constructor() {
    super("no answer before the deadline");
  }
}
