import type { VersionId } from "../domain/ids.ts";
import type { ObjectRecord, StoredRecord } from "../domain/record.ts";
import { withFence } from "../domain/record.ts";
import { commitRecord, isCommitted } from "./commit-record.ts";
import type { ObjectDeps } from "./deps.ts";
import type { Write } from "./write.ts";

/**
 * Makes sure that nobody completes a write whose blobs are about to be removed: recovery may find its intent open and a
 * quorum of its blobs on their nodes, and commits only over the revision that the intent saw. True once that cannot
 * happen any more; false when it has happened, and the blobs belong to a version.
 * @throws {StoreError} `metadata_unavailable`
 */
export async function fenceWrite(deps: ObjectDeps, write: Write, seen: StoredRecord | null): Promise<boolean> {
  const record = withFence(seen?.record ?? fenceOf(write), write.txid);
  const result = await commitRecord(deps, record, seen, null);
  return result.ok || result.current === null || !isCommitted(result.current.record, write.txid);
}

/** The record of a key that has no version: nobody reads it. */
function fenceOf(write: Write): ObjectRecord {
  return {
    ...write.attributes,
    state: "fence",
    bucket: write.bucket,
    key: write.key,
    version: VERSION_NONE,
    modifiedAtMs: write.startedAtMs,
    sizeBytes: 0,
    etag: "",
    sha256: null,
    manifest: { strategy: "inline", bytes: new Uint8Array(0) },
    fencedTxids: [],
  };
}

/** No write has it, so nobody takes the fence for a commit. */
const VERSION_NONE = "0".repeat(26) as VersionId;
