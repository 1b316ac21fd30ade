import { describe, expect, test } from "vitest";
import type { BucketName, NodeName, ObjectKey, Revision, Txid, VersionId } from "../../../src/domain/ids.ts";
import { blobIdOf } from "../../../src/domain/ids.ts";
import type { BlobPart } from "../../../src/domain/ids.ts";
import type { Intent } from "../../../src/domain/intent.ts";
import type { BlobSet, Manifest } from "../../../src/domain/manifest.ts";
import type { ObjectRecord } from "../../../src/domain/record.ts";
import type { CollectState } from "../../../src/healer/collect-plan.ts";
import { judgeOrphan } from "../../../src/healer/collect-plan.ts";

const W1 = "01JXT21QZ8GWMBRJDFY5Z9WXK1" as Txid;
const W2 = "01JXT21QZ8GWMBRJDFY5Z9WXK2" as Txid;
const KEY = { bucket: "b" as BucketName, key: "k" as ObjectKey };
const INLINE: Manifest = { strategy: "inline", bytes: new Uint8Array(0) };

/** A replicated set as in `bodyOn(W1, "a", "b")`; `null`: that copy was never stored. */
function bodyOn(txid: Txid, ...names: (string | null)[]): BlobSet {
  const redundancy = { scheme: "replication", copies: names.length } as const;
  return { txid, part: "body", sizeBytes: 10, cellBytes: 10, redundancy, nodes: names as (NodeName | null)[] };
}

function record(version: Txid, manifest: Manifest, state: ObjectRecord["state"] = "object"): ObjectRecord {
  return {
    ...{ ...KEY, state, version: version as string as VersionId, modifiedAtMs: 1, sizeBytes: 10, etag: "e" },
    ...{ sha256: null, contentType: "", userMetadata: {}, manifest, fencedTxids: [] },
  };
}

const replicated = (set: BlobSet): Manifest => ({ strategy: "replication", body: set });
const stored = (of: ObjectRecord) => ({ record: of, revision: 7 as Revision });
const intent = (changes: Partial<Intent>): Intent => ({
  ...{ txid: W2, ...KEY, startedAtMs: 1, writer: "w", revisionSeen: 0 as Revision, planned: [], replaces: [] },
  ...changes,
});

/** One copy of write 1, or its kept record, lies on node x. */
function judge(part: BlobPart, changes: Partial<CollectState> = {}): string {
  const blob = { id: blobIdOf(W1, part, 0), node: "x" as NodeName };
  const sealedWith = record(W1, part === "record" ? INLINE : replicated(bodyOn(W1, "a", "b")));
  const verdict = judgeOrphan({
    ...{ blob, descriptor: { record: sealedWith, revisionSeen: 0 as Revision }, intents: [], stored: null },
    ...{ pinned: false, heldWhereNamed: null, siblingsHeld: 0, keptOfCurrent: 0 },
    ...changes,
  });
  return verdict.verdict === "delete" ? "delete" : `${verdict.verdict}: ${verdict.why}`;
}

const replaced = { stored: stored(record(W2, replicated(bodyOn(W2, "a", "b")))) };
const replacedInline = { stored: stored(record(W2, INLINE)) };
const namedHere = { stored: stored(record(W1, replicated(bodyOn(W1, "x", "b")))) };
const namedElsewhere = { stored: stored(record(W1, replicated(bodyOn(W1, "a", "b")))) };
const neverStored = { stored: stored(record(W1, replicated(bodyOn(W1, null, "b")))) };

describe("judgeOrphan() of content", () => {
  test.each<[what: string, state: Partial<CollectState>, verdict: string]>([
    ["replaced by another write", replaced, "delete"],
    ["replaced by inline content", replacedInline, "delete"],
    ["named on its node", namedHere, "keep: named"],
    ["named on its node, whatever else is known", { ...namedHere, heldWhereNamed: true, pinned: true }, "keep: named"],
    ["of a write under way", { ...replaced, intents: [intent({ txid: W1 })] }, "keep: intent"],
    [
      "planned by a write under way",
      { ...replaced, intents: [intent({ planned: [bodyOn(W1, "a")] })] },
      "keep: intent",
    ],
    [
      "about to be freed by an intent",
      { ...replaced, intents: [intent({ replaces: [{ id: blobIdOf(W1, "body", 0), node: "x" as NodeName }] })] },
      "keep: intent",
    ],
    [
      "an intent frees its like on another node",
      { ...replaced, intents: [intent({ replaces: [{ id: blobIdOf(W1, "body", 0), node: "y" as NodeName }] })] },
      "delete",
    ],
    ["an intent of another write", { ...replaced, intents: [intent({})] }, "delete"],
    ["read from", { ...replaced, pinned: true }, "later: pinned"],
    ["named elsewhere, and held there", { ...namedElsewhere, heldWhereNamed: true }, "delete"],
    ["named elsewhere, and not held there", { ...namedElsewhere, heldWhereNamed: false }, "later: not settled"],
    ["of a set that lacks just this one", { ...neverStored, heldWhereNamed: null }, "later: not settled"],
    ["without a record, and its set can be read", { siblingsHeld: 1 }, "keep: unclaimed"],
    ["without a record, and its set cannot be read", { siblingsHeld: 0 }, "delete"],
    ["without a record, and not all nodes can be asked", { siblingsHeld: null }, "later: not settled"],
  ])("%s", (_what, state, verdict) => {
    expect(judge("body", state)).toBe(verdict);
  });
});

describe("judgeOrphan() of a kept record", () => {
  test.each<[what: string, state: Partial<CollectState>, verdict: string]>([
    ["the present one", { stored: stored(record(W1, INLINE)) }, "keep: kept record"],
    ["of a delete", { stored: stored(record(W1, INLINE, "tombstone")) }, "keep: kept record"],
    ["the next one is not kept yet", replacedInline, "later: not settled"],
    ["the next one is kept", { ...replacedInline, keptOfCurrent: 1 }, "delete"],
    ["the next one needs no keeping", replaced, "delete"],
    ["without a record", { siblingsHeld: 0 }, "keep: unclaimed"],
  ])("%s", (_what, state, verdict) => {
    expect(judge("record", state)).toBe(verdict);
  });
});
