import type { BlobId, Revision, Txid, VersionId } from "./ids.ts";
import { blobIdOf } from "./ids.ts";
import { blobSetsOf } from "./manifest.ts";
import type { ObjectRecord } from "./record.ts";

/**
 * Records that nodes keep, so that they alone can rebuild the metadata. Every blob of content is sealed with the record that
 * its write was about to commit; what no such blob describes is kept as a blob of its own, with no content but that
 * descriptor: inline objects, hot updates, deletes, undeletes.
 */
export function needsKeeping(record: ObjectRecord): boolean {
  if (record.state !== "object") return record.state === "tombstone";
  const version: string = record.version;
  return !blobSetsOf(record.manifest).some(({ txid, part }) => txid === version && part !== "copy");
}

/** On how many nodes a record is kept, where there are so many. */
export const KEPT_COPIES = 3;

/** A blob of the set of a version's kept copies. */
export function keptBlobId(version: VersionId, index: number): BlobId {
  return blobIdOf(version as string as Txid, "record", index);
}

/** The name of that set, as in `<txid>.<part>`. */
export function keptSetName(version: VersionId): string {
  return `${version}.record`;
}

/**
 * Orders the states of one key as nodes tell of them: the higher was committed later. A blob of content says which revision
 * its write saw; a kept record says under which one it is stored, which the next write of the key then sees.
 */
export function stateOrder(kind: "content" | "kept", revision: Revision): number {
  return kind === "content" ? 2 * revision : 2 * revision - 1;
}
