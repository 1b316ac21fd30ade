import type { BlobStore } from "../blob/blob-store.ts";
import { encodeWireError } from "../blob/wire-error.ts";
import { readSingleFrame } from "../blob/wire-frame.ts";
import { encodeAnswerMeta } from "../blob/wire-messages.ts";
import { isStoreError, StoreError } from "../domain/errors.ts";
import { AssertionError } from "../lib/assert.ts";
import type { Clock } from "../lib/clock.ts";
import type { Logger } from "../lib/logger.ts";
import type { Permit, Semaphore } from "../lib/semaphore.ts";
import type { HttpExchange } from "../runtime/http-exchange.ts";
import type { NodeMetrics } from "./metrics.ts";
import type { ProvedRequest } from "./node-sessions.ts";
import { Refusal } from "./refusal.ts";

/** What the handlers of the data plane need. */
export type NodeDeps = {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly store: BlobStore;
  readonly metrics: NodeMetrics;
  /** Bytes of requests and answers in memory, of all connections together. */
  readonly memory: Semaphore;
  readonly onBug: (cause: AssertionError) => void;
};

/** A request whose head is proved; its frames prove themselves as they are read. */
export type NodeRequest = ProvedRequest & { readonly exchange: HttpExchange; readonly query: string };

/**
 * The payload of a request that is one frame. @throws {Refusal} when it is too large, malformed or not proved
 */
export async function readRequest(request: NodeRequest, bytesMax: number): Promise<Buffer> {
  const { exchange, reader } = request;
  if (exchange.body.declaredBytes === null) throw new Refusal(411, "request_malformed", "The request has no length");
  try {
    const body = await exchange.body.collect(bytesMax);
    return readSingleFrame(reader, body, "request").payload as Buffer;
  } catch (cause) {
    throw asRefusal(cause);
  }
}

/** What cannot be read or was changed on the way: its connection carries nothing more. */
export function asRefusal(cause: unknown): unknown {
  if (isStoreError(cause, "node_refused")) return new Refusal(403, cause.code, cause.message);
  if (isStoreError(cause, "format_unknown")) return new Refusal(400, cause.code, cause.message);
  if (isStoreError(cause, "body_too_large")) return new Refusal(413, cause.code, cause.message);
  if (isStoreError(cause, "request_timeout")) return new Refusal(408, cause.code, cause.message);
  return cause;
}

/** An answer that is one frame. */
export async function sendAnswer(deps: NodeDeps, request: NodeRequest, payload: Uint8Array): Promise<void> {
  await sendFrame(deps, request, "answer", payload);
}

/** Tells an operating failure under the node's proof. Anything else becomes `internal` and tells nothing. */
export async function sendFailure(deps: NodeDeps, request: NodeRequest, cause: unknown): Promise<void> {
  if (request.exchange.headSent) return request.exchange.abort();
  await sendFrame(deps, request, "error", encodeWireError(toldError(deps, cause)));
}

/** What a client is told of a failure; bugs are reported on the way. */
export function toldError(deps: Pick<NodeDeps, "logger" | "onBug">, cause: unknown): StoreError {
  if (cause instanceof StoreError) return cause;
  if (cause instanceof AssertionError) deps.onBug(cause);
  const reason = cause instanceof Error ? (cause.stack ?? cause.message) : String(cause);
  deps.logger.error({ reason }, "an operation of the data plane failed unexpectedly");
  return new StoreError("internal", "The node failed unexpectedly");
}

/** @throws {StoreError} `overloaded` when so much memory does not come free in time */
export async function takeMemory(deps: NodeDeps, bytes: number, waitMs: number): Promise<Permit> {
  const permit = await deps.memory.acquire(bytes, waitMs);
  if (permit !== null) return permit;
  const message = `Cannot take ${bytes} more bytes: ${deps.memory.used} are in use, ${deps.memory.limit} may be`;
  throw new StoreError("overloaded", message, { retriable: true });
}

export function answerHeaders(bytes: number | null): string[] {
  const headers = ["Content-Type", "application/octet-stream"];
  if (bytes !== null) headers.push("Content-Length", String(bytes));
  return headers;
}

async function sendFrame(
  { store }: NodeDeps,
  { exchange, sealer }: NodeRequest,
  kind: "answer" | "error",
  payload: Uint8Array,
): Promise<void> {
  const head = sealer.seal(kind, encodeAnswerMeta({ state: store.state(), isLast: true }), payload);
  const body = Buffer.concat([head, payload]);
  await exchange.send(200, answerHeaders(body.length), body);
}
