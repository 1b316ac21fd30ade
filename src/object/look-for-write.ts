import type { StoredRecord } from "../domain/record.ts";
import { metadataDeadline } from "./commit-record.ts";
import { evaluateConditions, readable, requireConditions } from "./conditions.ts";
import type { ObjectDeps } from "./deps.ts";
import type { ObjectAddress, Preconditions } from "./requests.ts";

/**
 * What a writer knows of the key it is about to change. Its commit finds out whether that is still true, so what this
 * process happens to know is enough to begin with; but nobody is refused for what may be out of date.
 */
export type Look = { readonly stored: StoredRecord | null; readonly isFresh: boolean };

/** Costs no round trip. */
export async function glance(deps: ObjectDeps, { bucket, key }: ObjectAddress): Promise<Look> {
  return { stored: await deps.metadata.peek(bucket, key, metadataDeadline(deps)), isFresh: false };
}

/** What is true now, or was a moment ago. */
export async function lookAgain(deps: ObjectDeps, { bucket, key }: ObjectAddress): Promise<Look> {
  return { stored: await deps.metadata.get(bucket, key, metadataDeadline(deps)), isFresh: true };
}

/** The record to write over. @throws {StoreError} `precondition_failed` */
export async function findReplaceable(
  deps: ObjectDeps,
  request: ObjectAddress & { readonly preconditions: Preconditions },
): Promise<StoredRecord | null> {
  const { stored: known } = await glance(deps, request);
  if (evaluateConditions(request.preconditions, readable(known), "write") === "proceed") return known;
  const { stored } = await lookAgain(deps, request);
  requireConditions(request.preconditions, stored);
  return stored;
}
