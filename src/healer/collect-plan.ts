import type { BlobDescriptor } from "../domain/blob.ts";
import { needsKeeping } from "../domain/kept-record.ts";
import { parseBlobId } from "../domain/ids.ts";
import type { Intent } from "../domain/intent.ts";
import type { PlacedBlob } from "../domain/manifest.ts";
import { blobSetsOf, blobsNeeded } from "../domain/manifest.ts";
import type { StoredRecord } from "../domain/record.ts";

/** Everything that speaks for or against a blob that may be nobody's. Read in this order: blob, intents, record. */
export type CollectState = {
  readonly blob: PlacedBlob;
  readonly descriptor: BlobDescriptor;
  readonly intents: readonly Intent[];
  readonly stored: StoredRecord | null;
  /** Somebody reads from the set. */
  readonly pinned: boolean;
  /** Whether the node that the record names for this blob of a set that it still names has it; null where it names none. */
  readonly heldWhereNamed: boolean | null;
  /** How many different blobs of the set there are, on all nodes that could be asked; null when not all could. */
  readonly siblingsHeld: number | null;
  /** How many copies of the key's present record nodes keep, where that has to be kept. */
  readonly keptOfCurrent: number;
};

export type CollectVerdict =
  | { readonly verdict: "delete" }
  /** It is somebody's, or may be. */
  | { readonly verdict: "keep"; readonly why: "named" | "intent" | "kept record" | "unclaimed" }
  | { readonly verdict: "later"; readonly why: "pinned" | "not settled" };

/**
 * Whether a blob that two audits found to be nobody's may be deleted:
 *
 * | what is found now                                                  | then                                                |
 * |--------------------------------------------------------------------|-----------------------------------------------------|
 * | the record names it on this node                                   | keep                                                |
 * | an open intent names it, or is of its write                        | keep: recovery's                                    |
 * | it keeps the present record of its key                             | keep                                                |
 * | somebody reads from its set                                        | later                                               |
 * | the record names its set, but the blob is not where it should be   | later: mending may want this one                    |
 * | it keeps an earlier record, and the present one is not kept yet    | later                                               |
 * | its key has no record, and enough of its set is left to read it    | keep, unclaimed: a record that is not there proves nothing |
 * | its key has no record, and not all nodes can be asked              | later                                               |
 * | anything else                                                      | delete                                              |
 */
export function judgeOrphan(state: CollectState): CollectVerdict {
  const { blob, descriptor, stored, pinned } = state;
  const parsed = parseBlobId(blob.id);
  if (parsed === null) return { verdict: "keep", why: "unclaimed" };
  const { txid, part, index } = parsed;
  const record = stored?.record ?? null;
  const sets = record === null ? [] : blobSetsOf(record.manifest);
  const set = sets.find((one) => one.txid === txid && one.part === part);
  if (set?.nodes[index] === blob.node) return { verdict: "keep", why: "named" };
  if (state.intents.some((intent) => concerns(intent, txid, blob))) return { verdict: "keep", why: "intent" };
  if (part === "record" && record !== null && isKeptOf(record.version, txid) && needsKeeping(record)) {
    return { verdict: "keep", why: "kept record" };
  }
  if (pinned) return { verdict: "later", why: "pinned" };
  if (set !== undefined)
    return state.heldWhereNamed === true ? { verdict: "delete" } : { verdict: "later", why: "not settled" };
  if (record === null) {
    if (part === "record") return { verdict: "keep", why: "unclaimed" };
    if (state.siblingsHeld === null) return { verdict: "later", why: "not settled" };
    const own = blobSetsOf(descriptor.record.manifest).find((one) => one.txid === txid && one.part === part);
    const needed = own === undefined ? 0 : blobsNeeded(own.redundancy);
    return state.siblingsHeld >= needed ? { verdict: "keep", why: "unclaimed" } : { verdict: "delete" };
  }
  if (part === "record" && needsKeeping(record) && state.keptOfCurrent === 0) {
    return { verdict: "later", why: "not settled" };
  }
  return { verdict: "delete" };
}

/** Whether the write that an intent tells of made the blob, or the intent is about to free it. */
function concerns({ txid: writer, planned, replaces }: Intent, txid: string, blob: PlacedBlob): boolean {
  if (writer === txid || planned.some((set) => set.txid === txid)) return true;
  return replaces.some(({ id, node }) => id === blob.id && node === blob.node);
}

function isKeptOf(version: string, txid: string): boolean {
  return version === txid;
}
