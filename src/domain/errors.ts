/**
 * Every operating failure the store can report. The code is stable: clients, logs, metrics and the error table of each
 * front door key on it. Expected branches (not found, conflict) are values inside the store and become one of these
 * only at its edge.
 */
export const ERROR_CODES = [
  // what the client sent
  "bucket_invalid",
  "key_invalid",
  "key_too_long",
  "parameter_invalid",
  "strategy_unknown",
  "header_invalid",
  "metadata_too_large",
  "body_too_large",
  "body_incomplete",
  "body_required",
  "digest_mismatch",
  "range_invalid",
  "json_invalid",
  "json_not_object",
  "json_too_deep",
  "json_too_large",
  "hot_field_duplicate",
  "media_type_unsupported",
  "method_not_allowed",
  "request_malformed",
  "request_timeout",
  // the state it met
  "object_not_found",
  "precondition_failed",
  "write_conflict",
  "not_deleted",
  "undelete_expired",
  "node_unknown",
  "node_in_use",
  "node_removed",
  "job_unknown",
  // what the store could not do
  "overloaded",
  "rate_limited",
  "quorum_unavailable",
  "placement_impossible",
  "metadata_unavailable",
  "wal_unavailable",
  "work_unavailable",
  "healing_unavailable",
  "node_unavailable",
  "node_full",
  "node_fenced",
  "storage_error",
  "blob_not_found",
  "blob_damaged",
  "object_damaged",
  "deadline_exceeded",
  "worker_failed",
  "shutting_down",
  "format_unknown",
  "data_dir_locked",
  "config_invalid",
  // a cluster that this process cannot be part of
  "nats_unavailable",
  "nats_unsafe",
  "cluster_mismatch",
  "metadata_lost",
  "name_taken",
  "node_refused",
  "internal",
] as const;

export type ErrorCode = (typeof ERROR_CODES)[number];

export type StoreErrorOptions = {
  /** True when the same request may succeed later without a change on the client's side. */
  retriable?: boolean;
  cause?: unknown;
  /** Facts for the reader of the error: sizes, limits, offsets. Never bodies or credentials. */
  details?: Record<string, string | number | boolean | null>;
};

/** An operating failure. `message` names the action that failed, the state met and the state wanted. */
export class StoreError extends Error {
  override readonly name = "StoreError";
  readonly code: ErrorCode;
  readonly retriable: boolean;
  readonly details: Readonly<Record<string, string | number | boolean | null>>;

  constructor(code: ErrorCode, message: string, options: StoreErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.retriable = options.retriable ?? false;
    this.details = options.details ?? {};
  }
}

export function isStoreError(value: unknown, code?: ErrorCode): value is StoreError {
  return value instanceof StoreError && (code === undefined || value.code === code);
}
