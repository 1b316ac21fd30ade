import type { VersionId } from "../domain/ids.ts";
import type { ObjectRecord, StoredRecord } from "../domain/record.ts";
import { withFence } from "../domain/record.ts";
import { commitRecord, isCommitted } from "./commit-record.ts";
import type { ObjectDeps } from "./deps.ts";
import type { Write } from "./write.ts";

/**
 * `never_current`: nobody has completed the write, and nobody will. `completed`: its blobs belong to a version.
 * `overtaken`: the key is another write's by now, and whether this one was current in between is not known.
 */
export type FenceOutcome =
  | { readonly kind: "never_current" }
  | { readonly kind: "completed" }
  | { readonly kind: "overtaken"; readonly by: ObjectRecord };

/**
 * Makes sure that nobody completes a write whose blobs are about to be removed: recovery may find its intent open and a
 * quorum of its blobs on their nodes, and commits only over the revision that the intent saw.
 * @throws {StoreError} `metadata_unavailable`
 */
export async function fenceWrite(deps: ObjectDeps, write: Write, seen: StoredRecord | null): Promise<FenceOutcome> {
  const record = withFence(seen?.record ?? fenceOf(write), write.txid);
  const result = await commitRecord(deps, record, seen, null);
  if (result.ok || result.current === null) return { kind: "never_current" };
  const { record: current } = result.current;
  return isCommitted(current, write.txid) ? { kind: "completed" } : { kind: "overtaken", by: current };
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
