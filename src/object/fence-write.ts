import type { Txid } from "../domain/ids.ts";
import type { ObjectRecord, StoredRecord } from "../domain/record.ts";
import { judgeFence, withFence } from "../domain/record.ts";
import { VERSION_NONE, commitRecord, isCommitted } from "./commit-record.ts";
import type { ObjectDeps } from "./deps.ts";
import type { Write } from "./write.ts";

/**
 * `never_current`: nobody has completed the write, and nobody will. `completed`: its blobs belong to a version.
 * `overtaken`: the key is another write's by now, and whether this one was current in between is not known. `unknown`:
 * its blobs are recovery's.
 */
export type FenceOutcome =
  | { readonly kind: "never_current" }
  | { readonly kind: "completed" }
  | { readonly kind: "unknown" }
  | { readonly kind: "overtaken"; readonly by: ObjectRecord };

/**
 * Makes sure that nobody completes a write whose blobs are about to be removed: recovery may find its intent open and a
 * quorum of its blobs on their nodes, and commits only over the revision that the intent saw.
 * @throws {StoreError} `metadata_unavailable`
 */
export async function fenceWrite(deps: ObjectDeps, write: Write, seen: StoredRecord | null): Promise<FenceOutcome> {
  const record = withFence(seen?.record ?? fenceOf(write), write.txid);
  const result = await commitRecord(deps, record, seen, null);
  if (result.ok) return { kind: "never_current" };
  // Records are never removed: this one was lost, which proves nothing.
  if (result.current === null) return { kind: "unknown" };
  const { record: current } = result.current;
  if (isCommitted(current, write.txid)) return { kind: "completed" };
  return judgeConflict(seen, current, write.txid) === "overtaken"
    ? { kind: "overtaken", by: current }
    : { kind: "never_current" };
}

/**
 * What a conflict shows of a write that is neither the version found nor named by it. `free`: it was never current, and
 * may try again. `given_up`: it was never current, and will not be. `overtaken`: it may not try again, for it may have
 * been current. Recovery completes a write only over the revision that its intent saw, and marks it as fenced doing so;
 * versions do not return, so where the one that was met last is still there, nothing was completed.
 */
export function judgeConflict(
  metLast: StoredRecord | null,
  current: ObjectRecord,
  txid: Txid,
): "free" | "given_up" | "overtaken" {
  if (judgeFence(metLast?.record ?? null, current, txid) === "free") return "free";
  return current.version === (metLast?.record.version ?? VERSION_NONE) ? "given_up" : "overtaken";
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
