/**
 * One request to whichever gateway takes it, repeated where that is safe: always when no gateway got it or one says that
 * nothing happened and later it may; when the outcome is in doubt, only what may happen twice.
 */
import {
  headers as newHeaders,
  NoRespondersError,
  RequestError,
  type Msg,
  type MsgHdrs,
} from "@nats-io/transport-node";
import { HEADER, operationSubject, type Operation } from "../nats/object-protocol.ts";
import type { GatewayLink } from "./gateway-link.ts";
import { errorOfAnswer, KintsugiError } from "./kintsugi-error.ts";

export type CallHeaders = readonly (readonly [name: string, value: string])[];

export type Call = {
  readonly operation: Operation;
  readonly headers: CallHeaders;
  readonly body?: Uint8Array;
  /** Repeating it after it may have happened does no harm. */
  readonly repeatable: boolean;
};

const WRITES: ReadonlySet<Operation> = new Set(["put", "patch", "delete", "undelete"]);
const BACKOFF_MS_MIN = 50;
const BACKOFF_MS_MAX = 1_000;
/** One of several gateways may have died with the request: the next attempt goes to another. */
const ATTEMPTS_PER_TIMEOUT = 3;

/** @throws {KintsugiError} */
export async function callGateway(link: GatewayLink, call: Call): Promise<Msg> {
  const overdueMs = link.clock.monotonicMs() + link.timeoutMs;
  const headers = headersOf(call.headers);
  for (let attempt = 0; ; attempt += 1) {
    const remainingMs = overdueMs - link.clock.monotonicMs();
    const failure = await attemptCall(link, call, headers, remainingMs);
    if (!(failure instanceof KintsugiError)) return failure;
    const again = failure.retriable && (call.repeatable || !failure.outcomeUnknown);
    const waitMs = backoffMs(link, attempt, failure.retryAfterMs);
    if (!again || link.clock.monotonicMs() + waitMs >= overdueMs) throw failure;
    await link.clock.sleep(waitMs);
  }
}

/** Doubles, with jitter, so that many clients do not come back at once. */
export function backoffMs(link: GatewayLink, attempt: number, leastMs: number | null): number {
  const upToMs = Math.min(BACKOFF_MS_MAX, BACKOFF_MS_MIN * 2 ** attempt);
  return Math.max(leastMs ?? 0, upToMs / 2) + (link.random.next() * upToMs) / 2;
}

async function attemptCall(
  link: GatewayLink,
  call: Call,
  headers: MsgHdrs,
  remainingMs: number,
): Promise<Msg | KintsugiError> {
  await link.untilConnected(remainingMs);
  if (!link.connected) return notConnected(link);
  const timeout = Math.max(1, call.repeatable ? link.timeoutMs / ATTEMPTS_PER_TIMEOUT : remainingMs);
  const body = call.body ?? new Uint8Array(0);
  const request = link.connection.request(operationSubject(call.operation), body, { timeout, headers });
  const outcome = await (call.repeatable ? untilReconnect(link, request) : settled(request));
  if (!outcome.ok) return errorOfFailure(link, call, outcome.cause);
  const { message } = outcome;
  if (message.headers === undefined || !message.headers.has(HEADER.serviceErrorCode)) return message;
  return errorOfAnswer(message.data, WRITES.has(call.operation));
}

type Outcome = { readonly ok: true; readonly message: Msg } | { readonly ok: false; readonly cause: unknown };

async function settled(request: Promise<Msg>): Promise<Outcome> {
  return await request.then(
    (message) => ({ ok: true, message }),
    (cause: unknown) => ({ ok: false, cause }),
  );
}

/** An answer that was on its way when the connection broke will not come any more. */
async function untilReconnect(link: GatewayLink, request: Promise<Msg>): Promise<Outcome> {
  const { promise: interrupted, resolve } = Promise.withResolvers<Outcome>();
  const end = link.onReconnect(() => resolve({ ok: false, cause: new Error("the connection was lost meanwhile") }));
  try {
    return await Promise.race([settled(request), interrupted]);
  } finally {
    end();
  }
}

function errorOfFailure(link: GatewayLink, call: Call, cause: unknown): KintsugiError {
  if (isNoResponders(cause)) {
    return new KintsugiError("nats_unavailable", `No gateway serves ${operationSubject(call.operation)} right now`, {
      retriable: true,
      cause,
    });
  }
  if (link.connection.isClosed()) return notConnected(link);
  const reason = cause instanceof Error ? cause.message : String(cause);
  const doubt = call.repeatable ? "" : "; it may have been done all the same";
  return new KintsugiError("deadline_exceeded", `The ${call.operation} was not answered: ${reason}${doubt}`, {
    retriable: true,
    outcomeUnknown: !call.repeatable,
    cause,
  });
}

export function isNoResponders(cause: unknown): boolean {
  return cause instanceof NoRespondersError || (cause instanceof RequestError && cause.isNoResponders());
}

function notConnected(link: GatewayLink): KintsugiError {
  const closed = link.connection.isClosed();
  return new KintsugiError(
    "nats_unavailable",
    closed ? "The client is closed" : "There is no connection to NATS at the moment",
    { retriable: !closed },
  );
}

function headersOf(entries: CallHeaders): MsgHdrs {
  const headers = newHeaders();
  for (const [name, value] of entries) headers.set(name, value);
  return headers;
}
