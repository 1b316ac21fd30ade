/**
 * What the record of one key was, told by what nodes hold of it. Pure: no I/O.
 *
 * | the newest state that nodes tell of                       | the record                                               |
 * |-----------------------------------------------------------|----------------------------------------------------------|
 * | an object of which enough is there to read it             | that object; blobs that are missing make it dirty        |
 * | an object of which too little is there                    | the next older state: it was never committed, or is lost |
 * | a tombstone, what it names is there                       | the tombstone: it can be brought back as before          |
 * | a tombstone, what it names is gone                        | the tombstone, buried                                    |
 */
import type { NodeName, Revision } from "../domain/ids.ts";
import { stateOrder } from "../domain/kept-record.ts";
import type { BlobSet, Manifest } from "../domain/manifest.ts";
import { blobSetsOf, blobsNeeded } from "../domain/manifest.ts";
import type { ObjectRecord } from "../domain/record.ts";
import { buriedOf } from "../domain/record.ts";
import { blobSetNameOf } from "../object/read-pins.ts";

/** One state of a key as a blob tells of it. `revision`: seen by the write of content, or that of the kept record itself. */
export type FoundState = {
  readonly kind: "content" | "kept";
  readonly revision: Revision;
  readonly record: ObjectRecord;
};

/** For each blob of a set the nodes that hold it. */
export type PlacesOf = (set: BlobSet) => readonly (readonly NodeName[])[];

export type RebuiltKey = {
  /** Null: no state of the key can be read. */
  readonly record: ObjectRecord | null;
  /** Newer states of which too little is there. */
  readonly passedOver: number;
};

export function planRebuiltKey(states: readonly FoundState[], placesOf: PlacesOf): RebuiltKey {
  let passedOver = 0;
  for (const { record } of states.toSorted(newestFirst)) {
    const sets = new Map(blobSetsOf(record.manifest).map((set) => [blobSetNameOf(set), placedSet(set, placesOf(set))]));
    const manifest = readableManifest(record.manifest, sets);
    if (manifest !== null) return { record: { ...record, manifest }, passedOver };
    if (record.state === "tombstone") return { record: buriedOf(record), passedOver };
    passedOver += 1;
  }
  return { record: null, passedOver };
}

/** Of two writes that saw the same state the one that began later comes first. */
function newestFirst(a: FoundState, b: FoundState): number {
  const order = stateOrder(b.kind, b.revision) - stateOrder(a.kind, a.revision);
  if (order !== 0) return order;
  return a.record.version < b.record.version ? 1 : -1;
}

/** Where a blob lies on several nodes, the one that was meant to hold it is named. */
function placedSet(set: BlobSet, places: readonly (readonly NodeName[])[]): BlobSet {
  const nodes = set.nodes.map((planned, index) => {
    const found = places[index] ?? [];
    return planned !== null && found.includes(planned) ? planned : (found[0] ?? null);
  });
  return { ...set, nodes };
}

/** Null: too little is there. A further copy that cannot be read is no loss. */
function readableManifest(manifest: Manifest, sets: ReadonlyMap<string, BlobSet>): Manifest | null {
  const placed = (set: BlobSet) => sets.get(blobSetNameOf(set)) as BlobSet;
  const isReadable = (set: BlobSet) =>
    placed(set).nodes.filter((node) => node !== null).length >= blobsNeeded(set.redundancy);
  switch (manifest.strategy) {
    case "inline":
      return manifest;
    case "replication":
      return isReadable(manifest.body) ? { ...manifest, body: placed(manifest.body) } : null;
    case "ec": {
      const { copy, ...rest } = manifest;
      if (!isReadable(rest.body)) return null;
      const copied = copy !== undefined && isReadable(copy) ? { copy: placed(copy) } : {};
      return { ...rest, body: placed(rest.body), ...copied };
    }
    case "field_hybrid": {
      const { copy, hot, ...rest } = manifest;
      if (!isReadable(rest.cold) || (hot.kind === "blobs" && !isReadable(hot.blobs))) return null;
      const hotPart = hot.kind === "blobs" ? { ...hot, blobs: placed(hot.blobs) } : hot;
      const copied = copy !== undefined && isReadable(copy) ? { copy: placed(copy) } : {};
      return { ...rest, hot: hotPart, cold: placed(rest.cold), ...copied };
    }
  }
}
