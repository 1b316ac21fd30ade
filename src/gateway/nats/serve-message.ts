/**
 * What every operation shares: a request id, a limit on how many run, one log line, one observation, one way for errors.
 * Handlers only do their own work and throw.
 */
import type { Msg, MsgHdrs } from "@nats-io/transport-node";
import { StoreError } from "../../domain/errors.ts";
import { AssertionError } from "../../lib/assert.ts";
import type { Clock } from "../../lib/clock.ts";
import type { Logger } from "../../lib/logger.ts";
import { HEADER, type Operation } from "../../nats/object-protocol.ts";
import { plainHeaders } from "./answer-headers.ts";
import { asStoreError, errorAnswerOf, FAULTS } from "./errors.ts";
import type { EndpointTally } from "./micro.ts";
import type { DoorMetrics } from "./metrics.ts";
import { fieldsOf, isReplySafe, requestIdOf, type HeaderFields } from "./request-headers.ts";

/** A request on its way through a handler. */
export type DoorRequest = {
  readonly operation: Operation;
  readonly requestId: string;
  readonly fields: HeaderFields;
  readonly body: Uint8Array;
  /** Answers, once. What is thrown afterwards is only logged: the handler has told the client in another way. */
  respond(headers: MsgHdrs, body?: Uint8Array): void;
  /** Counts bytes that travel beside request and answer. */
  count(bytesIn: number, bytesOut: number): void;
};

export type DoorHandler = (request: DoorRequest) => Promise<void>;

export type ServeDeps = {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: DoorMetrics;
  readonly nextRequestId: () => string;
  readonly requestsMax: number;
  /** Told of a broken invariant after its request was answered. */
  readonly onBug: (cause: AssertionError) => void;
};

/** Answers with what `handle` does, or with its error. Never rejects. */
export async function serveMessage(
  deps: ServeDeps,
  operation: Operation,
  tally: EndpointTally,
  message: Msg,
  handle: DoorHandler,
): Promise<void> {
  if (!isReplySafe(message.reply ?? "")) {
    deps.logger.debug({ operation }, "a request without a place for its answer was dropped");
    return;
  }
  const startedMs = deps.clock.monotonicMs();
  const requestId = requestIdOf(message.headers, deps.nextRequestId);
  const traffic = { responded: false, bytesIn: message.data.length, bytesOut: 0 };
  const respond = (headers: MsgHdrs, body?: Uint8Array) => {
    message.respond(body, { headers });
    traffic.responded = true;
    traffic.bytesOut += body?.length ?? 0;
  };
  let failure: unknown = null;
  deps.metrics.begin();
  try {
    if (deps.metrics.inFlight() > deps.requestsMax) throw tooBusy(deps.requestsMax);
    const fields = fieldsOf(operation, message.headers);
    const count = (bytesIn: number, bytesOut: number) => {
      traffic.bytesIn += bytesIn;
      traffic.bytesOut += bytesOut;
    };
    await handle({ operation, requestId, fields, body: message.data, respond, count });
  } catch (cause) {
    failure = cause;
    if (!traffic.responded) failure = tellFailure(cause, requestId, respond);
  }
  const elapsedMs = deps.clock.monotonicMs() - startedMs;
  const error = failure === null ? null : asStoreError(failure);
  deps.metrics.end({ operation, code: error?.code ?? "ok", elapsedMs, ...traffic });
  countRequest(tally, error, elapsedMs);
  logRequest(deps.logger, { requestId, operation, ...traffic }, elapsedMs, failure);
  if (failure instanceof AssertionError) deps.onBug(failure);
}

/** Answers what there is to log. */
function tellFailure(cause: unknown, requestId: string, respond: DoorRequest["respond"]): unknown {
  const error = asStoreError(cause);
  const { serviceCode, title } = FAULTS[error.code];
  try {
    const answer = errorAnswerOf(error, requestId);
    const headers = plainHeaders(requestId);
    headers.set(HEADER.serviceErrorCode, String(serviceCode));
    headers.set(HEADER.serviceError, title);
    headers.set(HEADER.code, error.code);
    respond(headers, Buffer.from(JSON.stringify(answer)));
    return cause;
  } catch (bug) {
    return new AggregateError([cause, bug], "A failure could not be told");
  }
}

function tooBusy(requestsMax: number): StoreError {
  return new StoreError("overloaded", `This gateway works on ${requestsMax} requests, as many as it may`, {
    retriable: true,
  });
}

function countRequest(tally: EndpointTally, error: StoreError | null, elapsedMs: number): void {
  tally.requests += 1;
  tally.processingNs += elapsedMs * 1e6;
  if (error === null) return;
  const { serviceCode, title } = FAULTS[error.code];
  tally.errors += 1;
  tally.lastError = `${serviceCode}:${title}`;
}

type Traffic = {
  readonly requestId: string;
  readonly operation: Operation;
  readonly bytesIn: number;
  readonly bytesOut: number;
};

function logRequest(logger: Logger, traffic: Traffic, elapsedMs: number, failure: unknown): void {
  const { requestId, operation, bytesIn, bytesOut } = traffic;
  const fields: Record<string, unknown> = { requestId, operation, bytesIn, bytesOut };
  fields["ms"] = Math.round(elapsedMs * 100) / 100;
  if (failure === null) return logger.info(fields, "nats request");
  const error = asStoreError(failure);
  fields["code"] = error.code;
  if (FAULTS[error.code].serviceCode < 500) return logger.info(fields, "nats request");
  fields["reason"] = reasonOf(failure);
  logger.warn(fields, "nats request failed");
}

/** For the log only: where it came from, and for what is no `StoreError` how it got there. */
function reasonOf(failure: unknown): string {
  if (!(failure instanceof Error)) return String(failure);
  const cause = failure.cause instanceof Error ? ` (${failure.cause.message})` : "";
  return failure.name === "StoreError" ? `${failure.message}${cause}` : (failure.stack ?? failure.message);
}
