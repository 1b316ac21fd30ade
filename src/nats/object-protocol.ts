/**
 * What clients and gateways say to each other over NATS: subjects, header names, sizes. Gateways serve it in
 * `gateway/nats/`, `client/` speaks it; docs/nats.md is its description for everyone else.
 */
import { StoreError } from "../domain/errors.ts";
import { KIB } from "../lib/bytes.ts";

/** The name of the micro service, and the first token of its subjects. */
export const OBJECT_SERVICE = "kintsugi";

export const OPERATIONS = ["put", "get", "head", "delete", "undelete", "list", "patch", "fields"] as const;
export type Operation = (typeof OPERATIONS)[number];

export function operationSubject(operation: Operation): string {
  return `${OBJECT_SERVICE}.${operation}`;
}

/** Where one gateway hears of its transfers. */
export function transferSubject(gatewayId: string, transferId: string): string {
  return `${OBJECT_SERVICE}.transfer.${gatewayId}.${transferId}`;
}

/** Names are compared without regard to case. What may hold any text is percent-encoded UTF-8. */
export const HEADER = Object.freeze({
  // requests
  key: "Kintsugi-Key",
  bucket: "Kintsugi-Bucket",
  strategy: "Kintsugi-Strategy",
  consistency: "Kintsugi-Consistency",
  contentType: "Kintsugi-Content-Type",
  metaPrefix: "Kintsugi-Meta-",
  ifMatch: "Kintsugi-If-Match",
  ifNoneMatch: "Kintsugi-If-None-Match",
  sha256: "Kintsugi-Sha256",
  range: "Kintsugi-Range",
  prefix: "Kintsugi-Prefix",
  delimiter: "Kintsugi-Delimiter",
  after: "Kintsugi-After",
  limit: "Kintsugi-Limit",
  fields: "Kintsugi-Fields",
  /** Whole bytes of the object; in a request what the sender announces. */
  size: "Kintsugi-Size",
  /** Where the client wants the frames of a transfer. */
  deliver: "Kintsugi-Deliver",
  /** How many chunks may be on their way at once. */
  window: "Kintsugi-Window",
  requestId: "Kintsugi-Request-Id",
  // answers
  etag: "Kintsugi-Etag",
  version: "Kintsugi-Version",
  modifiedAt: "Kintsugi-Modified-At",
  outcome: "Kintsugi-Outcome",
  /** Where the gateway wants the frames of a transfer. */
  transfer: "Kintsugi-Transfer",
  chunkBytes: "Kintsugi-Chunk-Bytes",
  source: "Kintsugi-Source",
  // errors
  code: "Kintsugi-Code",
  serviceError: "Nats-Service-Error",
  serviceErrorCode: "Nats-Service-Error-Code",
});

/** The value of `HEADER.outcome` where the condition of a read says that the client has it already. */
export const NOT_MODIFIED = "not_modified";

/**
 * Bodies up to this size travel in one message. Far below the usual 1 MiB, because everything else on a connection
 * waits behind a large message.
 */
export const MESSAGE_BODY_BYTES_MAX = 256 * KIB;
export const CHUNK_BYTES = 128 * KIB;
/** Chunks that a gateway lets be on their way: what a transfer may hold in memory is this times their size. */
export const WINDOW_CHUNKS = 8;

/** The body of an error answer, and of a frame that ends a transfer. */
export type ErrorAnswer = {
  readonly code: string;
  readonly title: string;
  readonly message: string;
  /** The same request may succeed later. */
  readonly retriable: boolean;
  /** `unknown`: a write may have happened nevertheless. */
  readonly outcome: "none" | "unknown";
  readonly retryAfterMs: number | null;
  readonly details: Readonly<Record<string, string | number | boolean | null>>;
  readonly requestId: string;
};

/** @throws {StoreError} `key_invalid` for text that is not well-formed Unicode */
export function encodeHeaderText(text: string): string {
  if (!text.isWellFormed()) throw new StoreError("key_invalid", "The text is not well-formed Unicode");
  return encodeURIComponent(text);
}

/** Null when an escape is broken or the bytes are not UTF-8. */
export function decodeHeaderText(text: string): string | null {
  if (!text.includes("%")) return text;
  try {
    return decodeURIComponent(text);
  } catch {
    return null;
  }
}
