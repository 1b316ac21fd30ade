/**
 * What every route shares: a request id, one log line, one observation, one way for errors. Handlers only do their own
 * work and throw.
 */
import { AssertionError } from "../../lib/assert.ts";
import type { Clock } from "../../lib/clock.ts";
import type { Logger } from "../../lib/logger.ts";
import type { Random } from "../../lib/random.ts";
import type { HttpExchange } from "../../runtime/http-exchange.ts";
import type { ClientAddressOf } from "../client-address.ts";
import type { HttpMetrics } from "../metrics.ts";
import type { RateLimit } from "../rate-limit.ts";
import { PROBLEMS } from "./errors.ts";
import { asStoreError, sendProblem } from "./problem.ts";
import { splitTarget } from "./target.ts";

export type RouteDeps = {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: HttpMetrics;
  readonly clientAddressOf: ClientAddressOf;
  /** Of writes; null for no limit. */
  readonly writeLimit: RateLimit | null;
  readonly nextRequestId: () => string;
  /** Told of a broken invariant after its request was answered. */
  readonly onBug: (cause: AssertionError) => void;
};

/** A request on its way through a handler. */
export type RestRequest = {
  readonly exchange: HttpExchange;
  readonly requestId: string;
  /** Raw, as sent. */
  readonly path: string;
  readonly query: string;
};

export type RestHandler = (request: RestRequest) => Promise<void>;
/** Answers with what `handle` does, or with its error. `route` is the pattern under which it is counted. Never rejects. */
export async function serveExchange(
  deps: RouteDeps,
  exchange: HttpExchange,
  route: string,
  handle: RestHandler,
): Promise<void> {
  const requestId = requestIdOf(exchange, deps.nextRequestId);
  deps.metrics.begin();
  let failure: unknown = null;
  try {
    await handle({ exchange, requestId, ...splitTarget(exchange.target) });
  } catch (cause) {
    failure = cause;
    await sendProblem(exchange, cause, requestId).catch((bug: unknown) => {
      // What answers errors has failed itself: the connection cannot be trusted to be in step.
      exchange.abort();
      failure = new AggregateError([cause, bug], "A failure could not be told");
    });
  }
  record(deps, exchange, route, requestId, failure);
  if (failure instanceof AssertionError) deps.onBug(failure);
}

/** What nginx notes for a client that went away; never sent. */
const STATUS_CLIENT_GONE = 499;

function record(deps: RouteDeps, exchange: HttpExchange, route: string, requestId: string, failure: unknown): void {
  const error = failure === null ? null : asStoreError(failure);
  // A broken answer counts by its cause: 200 was sent, and is not what the client got.
  const fault = error !== null && PROBLEMS[error.code].status >= 500;
  const status = !exchange.broken ? exchange.status : fault ? PROBLEMS[error.code].status : STATUS_CLIENT_GONE;
  const elapsedMs = exchange.elapsedMs();
  const { method, bytesOut } = exchange;
  const bytesIn = exchange.body.bytes;
  deps.metrics.end({ method, route, status, elapsedMs, bytesIn, bytesOut });
  const fields: Record<string, unknown> = {
    requestId,
    method,
    route,
    status,
    bytesIn,
    bytesOut,
    ms: Math.round(elapsedMs * 100) / 100,
  };
  if (error !== null) fields["code"] = error.code;
  // A page that tells of an unwell cluster has not failed.
  if (status < 500 || failure === null) return deps.logger.info(fields, "request");
  fields["reason"] = reasonOf(failure);
  deps.logger.warn(fields, "request failed");
}

/** For the log only: where it came from, and for what is no `StoreError` how it got there. */
function reasonOf(failure: unknown): string {
  if (!(failure instanceof Error)) return String(failure);
  const cause = failure.cause instanceof Error ? ` (${failure.cause.message})` : "";
  return failure.name === "StoreError" ? `${failure.message}${cause}` : (failure.stack ?? failure.message);
}

const REQUEST_ID = /^[A-Za-z0-9._:/+=@-]{1,64}$/;

function requestIdOf(exchange: HttpExchange, next: () => string): string {
  const given = exchange.incoming.headers["x-request-id"];
  return typeof given === "string" && REQUEST_ID.test(given) ? given : next();
}

/** Ids that are unique across processes and rise within one. */
export function createRequestIdSource(random: Random): () => string {
  const prefix = Buffer.from(random.bytes(6)).toString("hex");
  let count = 0;
  return () => `${prefix}-${(count += 1).toString(36)}`;
}
