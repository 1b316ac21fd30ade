import { StoreError } from "../domain/errors.ts";
import type { VersionId } from "../domain/ids.ts";
import type { Receipt } from "../domain/receipt.ts";
import type { ObjectRecord, StoredRecord } from "../domain/record.ts";
import { isBuried } from "../domain/record.ts";
import { commitVersion } from "./commit-record.ts";
import { evaluateConditions } from "./conditions.ts";
import type { ObjectDeps } from "./deps.ts";
import { lookAgain } from "./look-for-write.ts";
import type { UndeleteRequest } from "./requests.ts";
import { receiptOf } from "./write.ts";

const UNDELETE_ATTEMPTS_MAX = 64;

/**
 * Brings a deleted object back, as a new version of the same content: the tombstone still names the blobs, and so does the
 * record that replaces it. A burial at the same time loses or wins by the revision that both saw. Conditions are those of
 * the object as it was deleted.
 * @throws {StoreError} `object_not_found`, `not_deleted`, `undelete_expired`, `precondition_failed`, `write_conflict`,
 * `metadata_unavailable`
 */
export async function undeleteObject(deps: ObjectDeps, request: UndeleteRequest): Promise<Receipt> {
  deps.faults.reach("undelete.parsed");
  const version = deps.nextTxid() as string as VersionId;
  let { stored } = await lookAgain(deps, request);
  for (let attempt = 0; attempt < UNDELETE_ATTEMPTS_MAX; attempt += 1) {
    const tombstone = requireTombstone(stored);
    if (evaluateConditions(request.preconditions, stored, "write") !== "proceed") {
      throw new StoreError(
        "precondition_failed",
        `The precondition does not hold: the entity tag of what was deleted is "${tombstone.etag}"`,
      );
    }
    const record: ObjectRecord = { ...tombstone, state: "object", version, modifiedAtMs: deps.clock.wallMs() };
    const result = await commitVersion(deps, record, stored, "put");
    if (result.ok) {
      deps.faults.reach("undelete.committed");
      return receiptOf(record, null, []);
    }
    stored = result.current;
  }
  throw new StoreError("write_conflict", "Cannot undelete: other writers of this key were faster every time", {
    retriable: true,
  });
}

function requireTombstone(stored: StoredRecord | null): ObjectRecord {
  if (stored === null || stored.record.state === "fence") {
    throw new StoreError("object_not_found", "There was no object of this name");
  }
  if (stored.record.state === "object") {
    throw new StoreError("not_deleted", "The object is there: nothing is to be brought back");
  }
  if (isBuried(stored.record)) {
    throw new StoreError("undelete_expired", "The object was deleted too long ago: its content has been given up");
  }
  return stored.record;
}
