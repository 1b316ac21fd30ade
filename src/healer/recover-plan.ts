import type { NodeName } from "../domain/ids.ts";
import { REVISION_NONE, blobIdOf } from "../domain/ids.ts";
import type { Intent } from "../domain/intent.ts";
import type { BlobSet, PlacedBlob } from "../domain/manifest.ts";
import { blobSetsOf, placedBlobsOf } from "../domain/manifest.ts";
import type { ObjectRecord, StoredRecord } from "../domain/record.ts";
import { fencesOf, withFence } from "../domain/record.ts";
import { quorumOf } from "../placement/strategies.ts";

/**
 * What to do about an intent whose write is not under way any more, as far as anybody can tell. Its writer may be dead,
 * or asleep and about to go on: nothing here may hurt what it commits then (promise 8).
 *
 * | the record of the key …                 | the intent's blobs …                               | then                              |
 * |-----------------------------------------|----------------------------------------------------|-----------------------------------|
 * | is absent, though the intent saw one    | anywhere                                           | wait: lost metadata proves nothing |
 * | names blobs of a clean-up intent        | anywhere                                           | wait up to `restMs`: whoever appended it may be about to let go of them; then finish |
 * | any                                     | of a clean-up intent                               | finish                            |
 * | is the txid's version, or names its blobs | anywhere, also where nobody can be asked         | finish                            |
 * | names the txid as fenced, or once did   | anywhere                                           | roll back, without another fence  |
 * | is still at the revision seen           | reach the quorum on the nodes that answered        | resurrect: commit what they say, and fence |
 * | is still at the revision seen           | may reach it on nodes that cannot be asked         | wait, but not beyond `patienceMs` |
 * | anything else                           | anything else                                      | roll back: fence first unless the writer is dead |
 *
 * Patience costs nothing but time: a write that never committed was never acknowledged, so rolling it back is always
 * safe, and completing it is a kindness.
 *
 * A resurrected txid is fenced too: its writer, waking up when yet another version has replaced it, would else commit it
 * a second time, naming blobs that were freed.
 *
 * Then blobs are deleted, only such as the record of the key does not name:
 *
 * | blobs                                   | are deleted                                                          |
 * |-----------------------------------------|----------------------------------------------------------------------|
 * | of the txid, which was never current or still is | at once: no reader can know of them                         |
 * | of the txid, when the key has moved on  | once they have been out of the record for `releaseMs`: it may have been current, and readers that hold that record be about to begin |
 * | that its write replaced, or that a clean-up intent names | likewise                                            |
 * | of the txid, not found where they may be, after a roll back | with the last look: they may be on their way, and a node that was told to delete a blob takes it no more |
 *
 * Then the intent ends. A fenced writer that wakes up cleans up behind itself, unless it dies doing so: that is why a
 * roll back is looked at again after `lookAgainMs`. What it seals later still is refused by every node that answered.
 *
 * | some blob may be on                     | the intent                                                           |
 * |-----------------------------------------|----------------------------------------------------------------------|
 * | no node                                 | is settled                                                           |
 * | a node that cannot be asked now         | becomes a clean-up intent: it plans nothing, belongs to no writer, and replaces just those blobs |
 * | a node, and is not held where the record names it since | likewise: it may be the last                          |
 * | a node that is given up                 | forgets them: if it ever returns, the collector finds them           |
 */
export type RecoverPlan =
  | { readonly action: "wait" }
  | ({ readonly action: "finish" } & Ending)
  | ({ readonly action: "resurrect"; readonly record: ObjectRecord } & Ending)
  | ({ readonly action: "roll_back"; readonly fence: boolean } & Ending);

type Ending = {
  readonly remove: readonly PlacedBlob[];
  /** What becomes of the intent when the blobs are removed. */
  readonly after:
    | { readonly step: "settle" }
    | { readonly step: "look_again"; readonly inMs: number }
    | { readonly step: "clean_up"; readonly blobs: readonly PlacedBlob[] };
};

export type RecoverBounds = {
  /** Age up to which an intent waits for nodes that may decide its case. */
  readonly patienceMs: number;
  /** From the fence to the second look for blobs of a writer that may have slept. */
  readonly lookAgainMs: number;
  /** How long replaced blobs stay for readers that hold the old record but have not begun to stream. */
  readonly releaseMs: number;
  /** How long a clean-up intent whose blobs the record still names waits for its compare-and-set. */
  readonly restMs: number;
};

export type RecoverState = {
  readonly intent: Intent;
  readonly stored: StoredRecord | null;
  /** The planned sets with a node on which each blob was really found. */
  readonly found: readonly BlobSet[];
  /**
   * Blobs found on a further node: a spare took over while the first had stored its blob after all. And blobs whose seal is
   * damaged: they count for nothing, and go unless the record names them, which mending then sees to.
   */
  readonly strays: readonly PlacedBlob[];
  /** From the sealed descriptor of any blob found. */
  readonly draft: ObjectRecord | null;
  /** Nodes that told which of the planned blobs they hold. */
  readonly answered: ReadonlySet<NodeName>;
  /** Nodes that cannot be asked now and may hold any blob. */
  readonly unasked: ReadonlySet<NodeName>;
  /** Nodes that are gone for good, as far as the cluster is concerned. */
  readonly givenUp: ReadonlySet<NodeName>;
  /** True when the writer is known to be gone for good: an embedded store has no process beside its own. */
  readonly writerDead: boolean;
  readonly ageMs: number;
  /** The record names the txid as fenced, or did at an earlier look. */
  readonly fenced: boolean;
  /** How long the txid is known to be fenced. */
  readonly fencedMs: number;
  /** How long the replaced blobs that the record does not name are known to be out of it. */
  readonly replacedMs: number;
  /** How long the record is known to be of another write for good. */
  readonly overMs: number;
  readonly bounds: RecoverBounds;
};

export function planRecovery(state: RecoverState): RecoverPlan {
  const { intent, stored, fenced, writerDead, bounds } = state;
  if (stored === null && intent.revisionSeen !== REVISION_NONE) return { action: "wait" };
  if (isCleanUp(intent)) return planCleanUp(state);
  const replacedMs = bounds.releaseMs - state.replacedMs;
  if (stored !== null && isCommitted(stored.record, intent)) {
    return { action: "finish", ...endingOf(state, stored.record, { replacedMs }) };
  }
  const unchanged = !fenced && (stored?.revision ?? REVISION_NONE) === intent.revisionSeen;
  if (unchanged) {
    const record = resurrectable(state);
    // The next look meets the commit: it has the time to find what a writer that slept seals now.
    if (record !== null) {
      const restMs = writerDead ? 0 : bounds.releaseMs;
      return { action: "resurrect", record, ...endingOf(state, record, { replacedMs: bounds.releaseMs, restMs }) };
    }
    if (couldReachQuorum(state) && state.ageMs < bounds.patienceMs) return { action: "wait" };
  }
  const restMs = writerDead ? 0 : bounds.lookAgainMs - state.fencedMs;
  const oursMs = unchanged ? 0 : bounds.releaseMs - state.overMs;
  const ending = endingOf(state, stored?.record ?? null, { oursMs, replacedMs, restMs });
  const fence = !fenced && !writerDead;
  if (writerDead || ending.after.step === "look_again") return { action: "roll_back", fence, ...ending };
  return { action: "roll_back", fence, ...ending, remove: [...ending.remove, ...underWay(state, ending.remove)] };
}

/** What nodes were not found to hold, and may be sent yet: from a network that was cut, or by a writer that was paused. */
function underWay({ intent, answered }: RecoverState, found: readonly PlacedBlob[]): PlacedBlob[] {
  const names = new Set(found.map(nameOf));
  return possiblyOn(answered, intent).filter((blob) => !names.has(nameOf(blob)));
}

/** An intent that only remembers blobs for nodes that were away when its write was settled. */
export function cleanUpIntent(intent: Intent, blobs: readonly PlacedBlob[]): Intent {
  return { ...intent, writer: "", planned: [], replaces: blobs };
}

export function isCleanUp(intent: Intent): boolean {
  return intent.writer === "" && intent.planned.length === 0;
}

function planCleanUp(state: RecoverState): RecoverPlan {
  const { intent, stored, bounds } = state;
  const named = stored === null ? [] : blobSetsOf(stored.record.manifest).flatMap(placedBlobsOf);
  const isNamed = intent.replaces.some((blob) => named.some(({ id, node }) => id === blob.id && node === blob.node));
  if (isNamed && state.ageMs < bounds.restMs) return { action: "wait" };
  const ending = endingOf(state, stored?.record ?? null, { replacedMs: bounds.releaseMs - state.replacedMs });
  const { after } = ending;
  const nothingNew = after.step === "clean_up" && after.blobs.length === state.intent.replaces.length;
  return nothingNew ? { action: "wait" } : { action: "finish", ...ending };
}

/** In how many milliseconds the txid's own blobs may go, those that it replaced, and the intent itself. */
type Waits = { readonly oursMs?: number; readonly replacedMs?: number; readonly restMs?: number };

/** Ends an intent whose outcome is `record`. */
function endingOf(state: RecoverState, record: ObjectRecord | null, waits: Waits): Ending {
  const { intent, unasked, givenUp } = state;
  const { oursMs = 0, replacedMs = 0, restMs = 0 } = waits;
  const kept = new Set(record === null ? [] : blobSetsOf(record.manifest).flatMap(placedBlobsOf).map(nameOf));
  const unnamed = (blobs: readonly PlacedBlob[]) => blobs.filter((blob) => !kept.has(nameOf(blob)));

  // What the write replaced is garbage unless the current version still names it, whoever has replaced it since.
  const replaced = unnamed(intent.replaces).filter(({ node }) => !givenUp.has(node));
  const ours = unnamed([...state.found.flatMap(placedBlobsOf), ...state.strays]);
  const remove = [
    ...(oursMs > 0 ? [] : ours),
    ...(replacedMs > 0 ? [] : replaced.filter(({ node }) => !unasked.has(node))),
  ];

  const inMs = Math.max(restMs, ours.length === 0 ? 0 : oursMs, replaced.length === 0 ? 0 : replacedMs);
  if (inMs > 0) return { remove, after: { step: "look_again", inMs } };
  const remote = [...unnamed(possiblyOn(unasked, intent)), ...replaced.filter(({ node }) => unasked.has(node))];
  return { remove, after: remote.length === 0 ? { step: "settle" } : { step: "clean_up", blobs: remote } };
}

function nameOf(blob: PlacedBlob): string {
  return `${blob.id}@${blob.node}`;
}

/** Whether the record is the write's: its version, or one that shares its blobs. A mere fence is nobody's. */
export function isCommitted(record: ObjectRecord, intent: Intent): boolean {
  const version: string = record.version;
  if (record.state === "fence") return false;
  return version === intent.txid || blobSetsOf(record.manifest).some((set) => set.txid === intent.txid);
}

/** Planned blobs that nodes may hold: a planned node its own one, any other node any one as a spare. */
function possiblyOn(nodes: ReadonlySet<NodeName>, intent: Intent): PlacedBlob[] {
  return [...nodes].flatMap((node) =>
    intent.planned.flatMap((set) => {
      const planned = set.nodes.indexOf(node);
      const indexes = planned === -1 ? set.nodes.keys() : [planned];
      return [...indexes].map((index) => ({ id: blobIdOf(set.txid, set.part, index), node }));
    }),
  );
}

/** The record to commit, naming the blobs that are there, when every set has reached the quorum of a plain write. */
function resurrectable({ intent, found, draft, stored, writerDead }: RecoverState): ObjectRecord | null {
  if (draft === null || found.length === 0) return null;
  const complete = found.every((set) => countFound(set) >= quorumOf(set.redundancy, "quorum"));
  const version: string = draft.version;
  if (!complete || version !== intent.txid) return null;
  const replaceSet = (set: BlobSet): BlobSet => {
    const match = found.find((other) => other.txid === set.txid && other.part === set.part);
    return match === undefined ? set : { ...set, nodes: match.nodes };
  };
  const { manifest } = draft;
  const unfenced = { ...draft, ...fencesOf(stored?.record ?? null) };
  const fenced = writerDead ? unfenced : withFence(unfenced, intent.txid);
  switch (manifest.strategy) {
    case "inline":
      return null;
    case "replication":
    case "ec":
      return { ...fenced, manifest: { ...manifest, body: replaceSet(manifest.body) } };
    case "field_hybrid": {
      const { hot } = manifest;
      const hotPart = hot.kind === "blobs" ? { ...hot, blobs: replaceSet(hot.blobs) } : hot;
      return { ...fenced, manifest: { ...manifest, hot: hotPart, cold: replaceSet(manifest.cold) } };
    }
  }
}

/** Whether every set would reach the quorum if the nodes that cannot be asked held all that they may hold. */
function couldReachQuorum({ intent, found, unasked }: RecoverState): boolean {
  if (found.length === 0) return false;
  return found.every((set, at) => {
    const planned = intent.planned[at]?.nodes ?? [];
    const missing = [...set.nodes.keys()].filter((index) => set.nodes[index] === null);
    const atPlanned = missing.filter((index) => isAmong(unasked, planned[index])).length;
    const spares = [...unasked].filter((node) => !planned.includes(node)).length;
    const most = countFound(set) + atPlanned + Math.min(missing.length - atPlanned, spares);
    return most >= quorumOf(set.redundancy, "quorum");
  });
}

function countFound(set: BlobSet): number {
  return set.nodes.filter((node) => node !== null).length;
}

function isAmong(nodes: ReadonlySet<NodeName>, node: NodeName | null | undefined): boolean {
  return node !== null && node !== undefined && nodes.has(node);
}
