/** How a command ends. The numbers are a promise to scripts; `docs/cli.md` lists them. */
import type { ErrorCode } from "../domain/errors.ts";
import { isStoreError } from "../domain/errors.ts";

export const EXIT = Object.freeze({
  ok: 0,
  failure: 1,
  /** The command line or the configuration is wrong. */
  usage: 2,
  notFound: 3,
  preconditionFailed: 4,
  /** Bytes are damaged, or did not match their digest. */
  damaged: 5,
  /** The store is not there, or asks to try again later. */
  unavailable: 6,
  interrupted: 130,
});
export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** A failure that a command reports in one line. `code` is the store's, or one of this program. */
export class CliError extends Error {
  override readonly name = "CliError";
  readonly exitCode: ExitCode;
  readonly code: string;
  /** The id under which the store logged the request; null when it never got there. */
  readonly requestId: string | null;

  constructor(exitCode: ExitCode, code: string, message: string, requestId: string | null = null) {
    super(message);
    this.exitCode = exitCode;
    this.code = code;
    this.requestId = requestId;
  }
}

export function usageError(message: string): CliError {
  return new CliError(EXIT.usage, "usage", message);
}

const EXIT_BY_CODE = {
  bucket_invalid: EXIT.failure,
  key_invalid: EXIT.failure,
  key_too_long: EXIT.failure,
  parameter_invalid: EXIT.failure,
  strategy_unknown: EXIT.failure,
  header_invalid: EXIT.failure,
  metadata_too_large: EXIT.failure,
  body_too_large: EXIT.failure,
  body_incomplete: EXIT.failure,
  body_required: EXIT.failure,
  digest_mismatch: EXIT.damaged,
  range_invalid: EXIT.failure,
  json_invalid: EXIT.failure,
  json_not_object: EXIT.failure,
  json_too_deep: EXIT.failure,
  json_too_large: EXIT.failure,
  hot_field_duplicate: EXIT.failure,
  media_type_unsupported: EXIT.failure,
  method_not_allowed: EXIT.failure,
  request_malformed: EXIT.failure,
  request_timeout: EXIT.unavailable,
  object_not_found: EXIT.notFound,
  precondition_failed: EXIT.preconditionFailed,
  write_conflict: EXIT.preconditionFailed,
  not_deleted: EXIT.preconditionFailed,
  undelete_expired: EXIT.notFound,
  node_unknown: EXIT.notFound,
  node_in_use: EXIT.preconditionFailed,
  node_removed: EXIT.usage,
  job_unknown: EXIT.notFound,
  overloaded: EXIT.unavailable,
  rate_limited: EXIT.unavailable,
  quorum_unavailable: EXIT.unavailable,
  placement_impossible: EXIT.unavailable,
  metadata_unavailable: EXIT.unavailable,
  wal_unavailable: EXIT.unavailable,
  work_unavailable: EXIT.unavailable,
  healing_unavailable: EXIT.unavailable,
  node_unavailable: EXIT.unavailable,
  node_full: EXIT.unavailable,
  node_fenced: EXIT.unavailable,
  storage_error: EXIT.failure,
  blob_not_found: EXIT.damaged,
  blob_damaged: EXIT.damaged,
  object_damaged: EXIT.damaged,
  deadline_exceeded: EXIT.unavailable,
  worker_failed: EXIT.unavailable,
  shutting_down: EXIT.unavailable,
  format_unknown: EXIT.failure,
  data_dir_locked: EXIT.failure,
  config_invalid: EXIT.usage,
  nats_unavailable: EXIT.unavailable,
  nats_unsafe: EXIT.usage,
  cluster_mismatch: EXIT.usage,
  metadata_lost: EXIT.unavailable,
  name_taken: EXIT.usage,
  node_refused: EXIT.unavailable,
  internal: EXIT.failure,
} satisfies Record<ErrorCode, ExitCode>;

/** The exit code for a store's error code; unknown ones, of a newer store, are judged by their HTTP status. */
export function exitCodeOf(code: string, status: number): ExitCode {
  if (Object.hasOwn(EXIT_BY_CODE, code)) return EXIT_BY_CODE[code as ErrorCode];
  if (status === 404 || status === 410) return EXIT.notFound;
  if (status === 409 || status === 412) return EXIT.preconditionFailed;
  if (status === 429 || status === 503 || status === 504 || status === 507) return EXIT.unavailable;
  return EXIT.failure;
}

/** Any thrown value as a line for stderr and an exit code. Only bugs of this program keep their stack. */
export function describeFailure(cause: unknown): { line: string; exitCode: ExitCode } {
  if (cause instanceof CliError) {
    const request = cause.requestId === null ? "" : ` (request ${cause.requestId})`;
    return { line: `kintsugi: ${cause.code}: ${cause.message}${request}`, exitCode: cause.exitCode };
  }
  if (isStoreError(cause)) {
    return { line: `kintsugi: ${cause.code}: ${cause.message}`, exitCode: EXIT_BY_CODE[cause.code] };
  }
  if (cause instanceof Error && "code" in cause && "syscall" in cause) {
    return { line: `kintsugi: ${String(cause.code)}: ${cause.message}`, exitCode: EXIT.failure };
  }
  return { line: `kintsugi: ${cause instanceof Error ? cause.stack : String(cause)}`, exitCode: EXIT.failure };
}
