import type { ChangeOp } from "../domain/change-event.ts";
import type { Txid, VersionId } from "../domain/ids.ts";
import { REVISION_NONE } from "../domain/ids.ts";
import { blobSetsOf } from "../domain/manifest.ts";
import type { ObjectRecord, StoredRecord } from "../domain/record.ts";
import type { Deadline } from "../lib/deadline.ts";
import { deadlineIn } from "../lib/deadline.ts";
import type { CommitResult } from "../metadata/metadata-store.ts";
import type { ObjectDeps } from "./deps.ts";

/** The version of the fence on a key that never had one. No write has it, so nobody takes the fence for a commit. */
export const VERSION_NONE = "0".repeat(26) as VersionId;

export function metadataDeadline(deps: Pick<ObjectDeps, "clock" | "timeouts">): Deadline {
  return deadlineIn(deps.clock, deps.timeouts.metadataMs);
}

/** Commits a record over the one that was seen. `op` null: nothing that a reader sees changes. */
export async function commitRecord(
  deps: Pick<ObjectDeps, "metadata" | "clock" | "timeouts">,
  record: ObjectRecord,
  seen: StoredRecord | null,
  op: ChangeOp | null,
): Promise<CommitResult> {
  const change = { record, ifRevision: seen?.revision ?? REVISION_NONE, ...(op === null ? {} : { op }) };
  return await deps.metadata.commit(change, metadataDeadline(deps));
}

/**
 * The same for a record that is all of its write, with a version that no other write has. A conflict with that very
 * version means that an earlier attempt was taken though nobody said so.
 */
export async function commitVersion(
  deps: Pick<ObjectDeps, "metadata" | "clock" | "timeouts">,
  record: ObjectRecord,
  seen: StoredRecord | null,
  op: ChangeOp,
): Promise<CommitResult> {
  const result = await commitRecord(deps, record, seen, op);
  if (result.ok || result.current?.record.version !== record.version) return result;
  return { ok: true, revision: result.current.revision };
}

/**
 * Whether a write stands already: its own commit was taken though nobody said so, or recovery has completed it while
 * its process was held up. Whoever has patched it since still names its blobs.
 */
export function isCommitted(record: ObjectRecord, txid: Txid): boolean {
  const version: string = record.version;
  if (record.state === "fence") return false;
  return version === txid || blobSetsOf(record.manifest).some((set) => set.txid === txid);
}
