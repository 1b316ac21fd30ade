import { ERROR_CODES, StoreError, type ErrorCode } from "../domain/errors.ts";
import type { ErrorAnswer } from "../nats/object-protocol.ts";

export type KintsugiErrorOptions = {
  readonly retriable?: boolean;
  readonly outcomeUnknown?: boolean;
  readonly details?: Readonly<Record<string, string | number | boolean | null>>;
  readonly requestId?: string | null;
  readonly retryAfterMs?: number | null;
  readonly cause?: unknown;
};

/**
 * A failure told by a gateway, or met on the way to one. `code` is one of docs/errors of the store: the same that REST
 * answers. A newer gateway may tell one that this library does not know.
 */
export class KintsugiError extends Error {
  override readonly name = "KintsugiError";
  readonly code: ErrorCode | (string & {});
  /** The same call may succeed later without a change. */
  readonly retriable: boolean;
  /** A write may have happened all the same: read before repeating it. */
  readonly outcomeUnknown: boolean;
  readonly details: Readonly<Record<string, string | number | boolean | null>>;
  /** Under which a gateway logged the request; null when none did. */
  readonly requestId: string | null;
  /** How long to wait before trying again, where the gateway says so. */
  readonly retryAfterMs: number | null;

  constructor(code: ErrorCode | (string & {}), message: string, options: KintsugiErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.retriable = options.retriable ?? false;
    this.outcomeUnknown = options.outcomeUnknown ?? false;
    this.details = options.details ?? {};
    this.requestId = options.requestId ?? null;
    this.retryAfterMs = options.retryAfterMs ?? null;
  }
}

/** What a gateway told. `writes`: whether the doubt it may have means anything. */
export function errorOfAnswer(bytes: Uint8Array, writes: boolean): KintsugiError {
  const answer = parseAnswer(bytes);
  const code = answer.code ?? "internal";
  return new KintsugiError(code, answer.message ?? answer.title ?? "The gateway answered with an error", {
    retriable: answer.retriable === true,
    // What cannot be understood may have been anything.
    outcomeUnknown: writes && (answer.outcome !== "none" || !ERROR_CODES.includes(code as ErrorCode)),
    details: answer.details ?? {},
    requestId: answer.requestId === "" ? null : (answer.requestId ?? null),
    retryAfterMs: answer.retryAfterMs ?? null,
  });
}

function parseAnswer(bytes: Uint8Array): Partial<ErrorAnswer> {
  try {
    const answer = JSON.parse(new TextDecoder().decode(bytes)) as Partial<ErrorAnswer> | null;
    return typeof answer === "object" && answer !== null ? answer : {};
  } catch {
    return {};
  }
}

/** A refusal of the store's own rules, met before anything was sent. */
export function asKintsugiError(cause: unknown): unknown {
  return cause instanceof StoreError ? new KintsugiError(cause.code, cause.message, { details: cause.details }) : cause;
}
