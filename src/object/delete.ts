import { StoreError } from "../domain/errors.ts";
import type { VersionId } from "../domain/ids.ts";
import type { ObjectRecord } from "../domain/record.ts";
import { commitVersion } from "./commit-record.ts";
import { evaluateConditions, readable, requireConditions } from "./conditions.ts";
import type { ObjectDeps } from "./deps.ts";
import { glance, lookAgain } from "./look-for-write.ts";
import type { DeleteRequest, DeleteResult } from "./requests.ts";

const DELETE_ATTEMPTS_MAX = 64;

/**
 * Deletes an object: commits a tombstone that still names the blobs, so that an undelete is possible until they are
 * collected. Deleting what is not there succeeds and says so.
 * @throws {StoreError} `precondition_failed`, `write_conflict`, `metadata_unavailable`
 */
export async function deleteObject(deps: ObjectDeps, request: DeleteRequest): Promise<DeleteResult> {
  deps.faults.reach("delete.parsed");
  let look = await glance(deps, request);
  for (let attempt = 0; attempt < DELETE_ATTEMPTS_MAX; attempt += 1) {
    const { stored } = look;
    const visible = readable(stored);
    const isRefused = evaluateConditions(request.preconditions, visible, "write") !== "proceed";
    if (!look.isFresh && (isRefused || visible === null)) {
      look = await lookAgain(deps, request);
      continue;
    }
    requireConditions(request.preconditions, stored);
    if (visible === null) return { existed: false };
    const tombstone: ObjectRecord = {
      ...visible.record,
      state: "tombstone",
      version: deps.nextTxid() as string as VersionId,
      modifiedAtMs: deps.clock.wallMs(),
    };
    const result = await commitVersion(deps, tombstone, stored, "delete");
    if (result.ok) {
      deps.faults.reach("delete.committed");
      return { existed: true };
    }
    look = { stored: result.current, isFresh: true };
  }
  throw new StoreError("write_conflict", "Cannot delete: other writers of this key were faster every time", {
    retriable: true,
  });
}
