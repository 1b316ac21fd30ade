import { StoreError, type ErrorCode } from "../../domain/errors.ts";
import type { ErrorAnswer } from "../../nats/object-protocol.ts";

export type FaultKind = {
  /** `Nats-Service-Error-Code`, numbered as in HTTP. */
  readonly serviceCode: number;
  readonly title: string;
  /** Whether the client may read the error's own words and details, or only the title: faults of ours tell nothing. */
  readonly open: boolean;
  /** After which trying again makes sense, where it does. */
  readonly retryAfterMs?: number;
  /** A write that failed so may have been committed nevertheless. */
  readonly doubtful?: true;
};

/** What each failure is over NATS. The only place that knows. */
export const FAULTS = {
  bucket_invalid: { serviceCode: 400, title: "Bucket name not valid", open: true },
  key_invalid: { serviceCode: 400, title: "Key not valid", open: true },
  key_too_long: { serviceCode: 400, title: "Key too long", open: true },
  parameter_invalid: { serviceCode: 400, title: "Parameter not valid", open: true },
  strategy_unknown: { serviceCode: 400, title: "Strategy unknown", open: true },
  header_invalid: { serviceCode: 400, title: "Header not valid", open: true },
  metadata_too_large: { serviceCode: 400, title: "User metadata too large", open: true },
  body_too_large: { serviceCode: 413, title: "Body too large", open: true },
  body_incomplete: { serviceCode: 400, title: "Body incomplete", open: true },
  body_required: { serviceCode: 400, title: "Body required", open: true },
  digest_mismatch: { serviceCode: 400, title: "Digest does not match", open: true },
  range_invalid: { serviceCode: 416, title: "Range not satisfiable", open: true },
  json_invalid: { serviceCode: 400, title: "JSON not valid", open: true },
  json_not_object: { serviceCode: 400, title: "Not a JSON object", open: true },
  json_too_deep: { serviceCode: 400, title: "JSON nested too deeply", open: true },
  json_too_large: { serviceCode: 413, title: "JSON too large", open: true },
  hot_field_duplicate: { serviceCode: 400, title: "Hot field given twice", open: true },
  media_type_unsupported: { serviceCode: 415, title: "Media type not supported", open: true },
  method_not_allowed: { serviceCode: 405, title: "Method not allowed", open: true },
  request_malformed: { serviceCode: 400, title: "Request malformed", open: true },
  request_timeout: { serviceCode: 408, title: "Request too slow", open: true },
  object_not_found: { serviceCode: 404, title: "Not found", open: true },
  precondition_failed: { serviceCode: 412, title: "Precondition failed", open: true },
  write_conflict: { serviceCode: 409, title: "Conflicting writes", open: true, retryAfterMs: 500 },
  not_deleted: { serviceCode: 409, title: "Not deleted", open: true },
  undelete_expired: { serviceCode: 410, title: "Gone", open: true },
  node_unknown: { serviceCode: 404, title: "No such node", open: true },
  node_in_use: { serviceCode: 409, title: "Node still in use", open: true },
  node_removed: { serviceCode: 409, title: "Node removed", open: true },
  job_unknown: { serviceCode: 404, title: "No such job", open: true },
  overloaded: { serviceCode: 503, title: "Too busy", open: true, retryAfterMs: 500 },
  rate_limited: { serviceCode: 429, title: "Too many requests", open: true, retryAfterMs: 1_000 },
  quorum_unavailable: { serviceCode: 503, title: "Too few nodes took the write", open: true, retryAfterMs: 2_000 },
  placement_impossible: {
    serviceCode: 503,
    title: "Too few nodes for this redundancy",
    open: true,
    retryAfterMs: 10_000,
  },
  metadata_unavailable: {
    serviceCode: 503,
    title: "Metadata not available",
    open: false,
    retryAfterMs: 2_000,
    doubtful: true,
  },
  wal_unavailable: { serviceCode: 503, title: "Log not available", open: false, retryAfterMs: 2_000 },
  work_unavailable: { serviceCode: 503, title: "Work queue not available", open: false, retryAfterMs: 2_000 },
  healing_unavailable: { serviceCode: 503, title: "No healer leads", open: true, retryAfterMs: 2_000 },
  node_unavailable: { serviceCode: 503, title: "Storage node not available", open: false, retryAfterMs: 2_000 },
  node_full: { serviceCode: 507, title: "Storage full", open: false, retryAfterMs: 60_000 },
  node_fenced: { serviceCode: 503, title: "Storage node out of service", open: false, retryAfterMs: 10_000 },
  storage_error: { serviceCode: 503, title: "Storage failed", open: false, retryAfterMs: 10_000, doubtful: true },
  blob_not_found: { serviceCode: 500, title: "Stored data missing", open: false },
  blob_damaged: { serviceCode: 500, title: "Stored data damaged", open: false },
  object_damaged: { serviceCode: 500, title: "Too much of the object is missing or damaged", open: false },
  deadline_exceeded: { serviceCode: 503, title: "Took too long", open: false, retryAfterMs: 2_000, doubtful: true },
  worker_failed: { serviceCode: 503, title: "Worker failed", open: false, retryAfterMs: 1_000 },
  shutting_down: { serviceCode: 503, title: "Shutting down", open: true, retryAfterMs: 250 },
  format_unknown: { serviceCode: 500, title: "Stored format unknown", open: false },
  data_dir_locked: { serviceCode: 500, title: "Internal error", open: false },
  config_invalid: { serviceCode: 500, title: "Internal error", open: false },
  nats_unavailable: {
    serviceCode: 503,
    title: "Cluster not reachable",
    open: false,
    retryAfterMs: 2_000,
    doubtful: true,
  },
  nats_unsafe: { serviceCode: 500, title: "Internal error", open: false },
  cluster_mismatch: { serviceCode: 500, title: "Internal error", open: false },
  metadata_lost: { serviceCode: 503, title: "Metadata lost", open: true, retryAfterMs: 60_000 },
  name_taken: { serviceCode: 500, title: "Internal error", open: false },
  node_refused: { serviceCode: 503, title: "Storage node not available", open: false, retryAfterMs: 10_000 },
  internal: { serviceCode: 500, title: "Internal error", open: false, doubtful: true },
} as const satisfies Record<ErrorCode, FaultKind>;

/** Anything but a `StoreError` tells nothing. */
export function asStoreError(cause: unknown): StoreError {
  return cause instanceof StoreError ? cause : new StoreError("internal", "Unexpected failure", { cause });
}

export function errorAnswerOf(error: StoreError, requestId: string): ErrorAnswer {
  const kind: FaultKind = FAULTS[error.code];
  return {
    code: error.code,
    title: kind.title,
    message: kind.open ? error.message : `${kind.title}. The log of the gateway has more under the request id.`,
    retriable: error.retriable || kind.retryAfterMs !== undefined,
    outcome: kind.doubtful === true ? "unknown" : "none",
    retryAfterMs: kind.retryAfterMs ?? null,
    details: kind.open ? error.details : {},
    requestId,
  };
}
