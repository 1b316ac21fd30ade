import { StoreError } from "../domain/errors.ts";
import type { StoredRecord } from "../domain/record.ts";
import type { Preconditions } from "./requests.ts";

export type ConditionOutcome = "proceed" | "not_modified" | "failed";

/** The version that a client can see, or null: tombstones and fences are invisible. */
export function readable(stored: StoredRecord | null): StoredRecord | null {
  return stored !== null && stored.record.state === "object" ? stored : null;
}

/** Evaluates preconditions in the order of RFC 9110 §13.2.2. `stored` is what a client can see. */
export function evaluateConditions(
  conditions: Preconditions,
  stored: StoredRecord | null,
  method: "read" | "write",
): ConditionOutcome {
  const { ifMatch, ifNoneMatch, ifModifiedSinceMs, ifUnmodifiedSinceMs } = conditions;
  if (ifMatch !== null) {
    if (stored === null || !matches(ifMatch, stored.record.etag)) return "failed";
  } else if (ifUnmodifiedSinceMs !== null && stored !== null) {
    if (wholeSeconds(stored.record.modifiedAtMs) > ifUnmodifiedSinceMs) return "failed";
  }
  if (ifNoneMatch !== null) {
    if (stored !== null && matches(ifNoneMatch, stored.record.etag))
      return method === "read" ? "not_modified" : "failed";
  } else if (ifModifiedSinceMs !== null && method === "read" && stored !== null) {
    if (wholeSeconds(stored.record.modifiedAtMs) <= ifModifiedSinceMs) return "not_modified";
  }
  return "proceed";
}

/** @throws {StoreError} `precondition_failed` unless a write on `stored` may go ahead */
export function requireConditions(conditions: Preconditions, stored: StoredRecord | null): void {
  if (evaluateConditions(conditions, readable(stored), "write") === "proceed") return;
  throw new StoreError(
    "precondition_failed",
    stored === null || readable(stored) === null
      ? "The precondition does not hold: the object does not exist"
      : `The precondition does not hold: the object's entity tag is "${stored.record.etag}"`,
  );
}

function matches(tags: readonly string[], etag: string): boolean {
  return tags.includes("*") || tags.includes(etag);
}

/** HTTP dates have whole seconds. */
function wholeSeconds(ms: number): number {
  return Math.floor(ms / 1_000) * 1_000;
}
