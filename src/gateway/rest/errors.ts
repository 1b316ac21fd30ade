import type { ErrorCode } from "../../domain/errors.ts";

export type ProblemKind = {
  readonly status: number;
  readonly title: string;
  /** Whether the client may read the error's own words and details, or only the title: faults of ours tell nothing. */
  readonly open: boolean;
  /** Seconds after which trying again makes sense, where it does. */
  readonly retryAfterS?: number;
};

/** What each failure is in HTTP. The only place that knows. */
export const PROBLEMS = {
  bucket_invalid: { status: 400, title: "Bucket name not valid", open: true },
  key_invalid: { status: 400, title: "Key not valid", open: true },
  key_too_long: { status: 400, title: "Key too long", open: true },
  parameter_invalid: { status: 400, title: "Parameter not valid", open: true },
  strategy_unknown: { status: 400, title: "Strategy unknown", open: true },
  header_invalid: { status: 400, title: "Header not valid", open: true },
  metadata_too_large: { status: 400, title: "User metadata too large", open: true },
  body_too_large: { status: 413, title: "Body too large", open: true },
  body_incomplete: { status: 400, title: "Body incomplete", open: true },
  body_required: { status: 400, title: "Body required", open: true },
  digest_mismatch: { status: 400, title: "Digest does not match", open: true },
  range_invalid: { status: 416, title: "Range not satisfiable", open: true },
  json_invalid: { status: 400, title: "JSON not valid", open: true },
  json_not_object: { status: 400, title: "Not a JSON object", open: true },
  json_too_deep: { status: 400, title: "JSON nested too deeply", open: true },
  json_too_large: { status: 413, title: "JSON too large", open: true },
  hot_field_duplicate: { status: 400, title: "Hot field given twice", open: true },
  media_type_unsupported: { status: 415, title: "Media type not supported", open: true },
  method_not_allowed: { status: 405, title: "Method not allowed", open: true },
  request_malformed: { status: 400, title: "Request malformed", open: true },
  request_timeout: { status: 408, title: "Request too slow", open: true },
  object_not_found: { status: 404, title: "Not found", open: true },
  precondition_failed: { status: 412, title: "Precondition failed", open: true },
  write_conflict: { status: 409, title: "Conflicting writes", open: true, retryAfterS: 1 },
  not_deleted: { status: 409, title: "Not deleted", open: true },
  undelete_expired: { status: 410, title: "Gone", open: true },
  node_unknown: { status: 404, title: "No such node", open: true },
  node_in_use: { status: 409, title: "Node still in use", open: true },
  node_removed: { status: 409, title: "Node removed", open: true },
  job_unknown: { status: 404, title: "No such job", open: true },
  overloaded: { status: 503, title: "Too busy", open: true, retryAfterS: 1 },
  rate_limited: { status: 429, title: "Too many requests", open: true, retryAfterS: 1 },
  quorum_unavailable: { status: 503, title: "Too few nodes took the write", open: true, retryAfterS: 2 },
  placement_impossible: { status: 503, title: "Too few nodes for this redundancy", open: true, retryAfterS: 10 },
  metadata_unavailable: { status: 503, title: "Metadata not available", open: false, retryAfterS: 2 },
  wal_unavailable: { status: 503, title: "Log not available", open: false, retryAfterS: 2 },
  work_unavailable: { status: 503, title: "Work queue not available", open: false, retryAfterS: 2 },
  healing_unavailable: { status: 503, title: "No healer leads", open: true, retryAfterS: 2 },
  node_unavailable: { status: 503, title: "Storage node not available", open: false, retryAfterS: 2 },
  node_full: { status: 507, title: "Storage full", open: false, retryAfterS: 60 },
  node_fenced: { status: 503, title: "Storage node out of service", open: false, retryAfterS: 10 },
  storage_error: { status: 503, title: "Storage failed", open: false, retryAfterS: 10 },
  blob_not_found: { status: 500, title: "Stored data missing", open: false },
  blob_damaged: { status: 500, title: "Stored data damaged", open: false },
  object_damaged: { status: 500, title: "Too much of the object is missing or damaged", open: false },
  deadline_exceeded: { status: 503, title: "Took too long", open: false, retryAfterS: 2 },
  worker_failed: { status: 503, title: "Worker failed", open: false, retryAfterS: 1 },
  shutting_down: { status: 503, title: "Shutting down", open: true, retryAfterS: 5 },
  format_unknown: { status: 500, title: "Stored format unknown", open: false },
  data_dir_locked: { status: 500, title: "Internal error", open: false },
  config_invalid: { status: 500, title: "Internal error", open: false },
  nats_unavailable: { status: 503, title: "Cluster not reachable", open: false, retryAfterS: 2 },
  nats_unsafe: { status: 500, title: "Internal error", open: false },
  cluster_mismatch: { status: 500, title: "Internal error", open: false },
  metadata_lost: { status: 503, title: "Metadata lost", open: true, retryAfterS: 60 },
  name_taken: { status: 500, title: "Internal error", open: false },
  node_refused: { status: 503, title: "Storage node not available", open: false, retryAfterS: 10 },
  internal: { status: 500, title: "Internal error", open: false },
} as const satisfies Record<ErrorCode, ProblemKind>;
