import type { Intent } from "../domain/intent.ts";
import type { BlobSet, PlacedBlob } from "../domain/manifest.ts";
import { blobSetsOf, placedBlobsOf } from "../domain/manifest.ts";
import type { ObjectRecord, StoredRecord } from "../domain/record.ts";
import { quorumOf } from "../placement/strategies.ts";

/**
 * What to do about an intent whose write is not under way any more.
 *
 * | the record of the key …                            | then                                                        |
 * |----------------------------------------------------|-------------------------------------------------------------|
 * | refers to the txid's blobs, or is its version      | committed: free what it replaced and what it does not name  |
 * | names the txid as fenced                           | given up before: remove its blobs                           |
 * | is still at the revision seen, blobs reach quorum  | resurrect: commit what the blobs' descriptor says           |
 * | anything else                                      | roll back: fence first unless the writer is dead, remove    |
 */
export type RecoverPlan =
  | { readonly action: "finish"; readonly remove: readonly PlacedBlob[] }
  | { readonly action: "resurrect"; readonly record: ObjectRecord; readonly remove: readonly PlacedBlob[] }
  | { readonly action: "roll_back"; readonly fence: boolean; readonly remove: readonly PlacedBlob[] };

export type RecoverState = {
  readonly intent: Intent;
  readonly stored: StoredRecord | null;
  /** The planned sets with a node on which each blob was really found. */
  readonly found: readonly BlobSet[];
  /** Blobs found on a further node: a spare took over while the first had stored its blob after all. */
  readonly strays: readonly PlacedBlob[];
  /** From the sealed descriptor of any blob found. */
  readonly draft: ObjectRecord | null;
  /** True when the writer is known to be gone for good: an embedded store has no process beside its own. */
  readonly writerDead: boolean;
};

export function planRecovery(state: RecoverState): RecoverPlan {
  const { intent, stored, found } = state;
  const ours = [...found.flatMap(placedBlobsOf), ...state.strays];
  const kept = new Set(stored === null ? [] : blobSetsOf(stored.record.manifest).flatMap(placedBlobsOf).map(nameOf));
  const unnamed = (blobs: readonly PlacedBlob[]) => blobs.filter((blob) => !kept.has(nameOf(blob)));

  // What the write replaced is garbage unless the current version still names it, whoever has replaced it since.
  const remove = unnamed([...ours, ...intent.replaces]);
  if (stored !== null && isCommitted(stored.record, intent)) {
    return { action: "finish", remove };
  }
  const fenced = stored?.record.fencedTxids.includes(intent.txid) === true;
  if (!fenced && (stored?.revision ?? 0) === intent.revisionSeen) {
    const record = resurrectable(state);
    if (record !== null) return { action: "resurrect", record, remove: [...state.strays, ...intent.replaces] };
  }
  return { action: "roll_back", fence: !fenced && !state.writerDead, remove };
}

function nameOf(blob: PlacedBlob): string {
  return `${blob.id}@${blob.node}`;
}

function isCommitted(record: ObjectRecord, intent: Intent): boolean {
  const version: string = record.version;
  return version === intent.txid || blobSetsOf(record.manifest).some((set) => set.txid === intent.txid);
}

/** The record to commit, naming the blobs that are there, when every set has reached the quorum of a plain write. */
function resurrectable({ intent, found, draft, stored }: RecoverState): ObjectRecord | null {
  if (draft === null || found.length === 0) return null;
  const complete = found.every(
    (set) => set.nodes.filter((node) => node !== null).length >= quorumOf(set.redundancy, "quorum"),
  );
  const version: string = draft.version;
  if (!complete || version !== intent.txid) return null;
  const replaceSet = (set: BlobSet): BlobSet => {
    const match = found.find((other) => other.txid === set.txid && other.part === set.part);
    return match === undefined ? set : { ...set, nodes: match.nodes };
  };
  const { manifest } = draft;
  const fencedTxids = stored?.record.fencedTxids ?? [];
  switch (manifest.strategy) {
    case "inline":
      return null;
    case "replication":
    case "ec":
      return { ...draft, fencedTxids, manifest: { ...manifest, body: replaceSet(manifest.body) } };
    case "field_hybrid": {
      const { hot } = manifest;
      const hotPart = hot.kind === "blobs" ? { ...hot, blobs: replaceSet(hot.blobs) } : hot;
      return { ...draft, fencedTxids, manifest: { ...manifest, hot: hotPart, cold: replaceSet(manifest.cold) } };
    }
  }
}
