import type { MessagePort } from "node:worker_threads";
import { AssertionError } from "../lib/assert.ts";
import type { ErrorCode } from "../domain/errors.ts";
import { StoreError } from "../domain/errors.ts";
import type { Txid } from "../domain/ids.ts";
import type { DecodeRequest, DocumentTask, EncodeRequest, UploadOptions } from "./coder.ts";
import type { Spent } from "./spent.ts";

/**
 * What the event loop and the coding threads say to each other. Stripes travel as references to shared memory.
 * Failures travel as tagged values, because an error loses its class and its code on the way between threads.
 */

/** Given to every thread when it starts. */
export type CodingThreadSettings = {
  readonly forceFallback: boolean;
  /** For tests of worker death: the thread that is asked to absorb or decode bytes of this txid dies. */
  readonly dieOn: { readonly txid: Txid; readonly by: "exit" | "throw" } | null;
};

/** One task of the pool. An `upload` task lasts as long as its upload, which talks through `port`. */
export type CodingTask =
  | { readonly kind: "upload"; readonly options: UploadOptions; readonly port: MessagePort }
  | { readonly kind: "decode"; readonly memory: SharedArrayBuffer; readonly request: DecodeRequest }
  | { readonly kind: "document"; readonly task: DocumentTask };

/** One call of an upload. The thread answers each with one `Answer`, in order. */
export type UploadCall =
  | { readonly op: "absorb"; readonly memory: SharedArrayBuffer; readonly from: number; readonly to: number }
  | { readonly op: "encode"; readonly memory: SharedArrayBuffer; readonly request: EncodeRequest }
  | {
      readonly op: "absorbAndEncode";
      readonly memory: SharedArrayBuffer;
      readonly from: number;
      readonly to: number;
      readonly request: EncodeRequest;
    }
  | { readonly op: "finish" }
  | { readonly op: "close" };

export type Failure = {
  readonly ok: false;
  /** `assertion` marks a bug in this program rather than an operating failure. */
  readonly code: ErrorCode | "assertion";
  readonly message: string;
  readonly retriable: boolean;
  readonly details: StoreError["details"];
};

/** `spent` is what the call took since the previous answer. */
export type Answer = { readonly ok: true; readonly value: unknown; readonly spent: Spent } | Failure;

export function failureOf(cause: unknown): Failure {
  if (cause instanceof StoreError) {
    const { code, message, retriable, details } = cause;
    return { ok: false, code, message, retriable, details };
  }
  const message = cause instanceof Error ? cause.message : String(cause);
  const code = cause instanceof AssertionError ? "assertion" : "internal";
  return { ok: false, code, message, retriable: false, details: {} };
}

export function errorOf(failure: Failure): Error {
  const { code, message, retriable, details } = failure;
  return code === "assertion" ? new AssertionError(message) : new StoreError(code, message, { retriable, details });
}

/** The same bytes in a buffer of just their size: a message carries the whole buffer under a view. */
export function compactBytes(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const { buffer } = bytes;
  return buffer instanceof ArrayBuffer && buffer.byteLength === bytes.byteLength
    ? new Uint8Array(buffer)
    : new Uint8Array(bytes);
}
