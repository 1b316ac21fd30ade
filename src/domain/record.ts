import { Packr } from "msgpackr";
import { LIMITS } from "../limits.ts";
import { StoreError } from "./errors.ts";
import type { BucketName, NodeName, ObjectKey, Revision, Txid, VersionId } from "./ids.ts";
import type { BlobSet, Manifest, Strategy } from "./manifest.ts";
import { blobSetsOf } from "./manifest.ts";

/** What clients attach to an object and get back unchanged. */
export type UserAttributes = {
  readonly contentType: string;
  /** Names without the `x-kintsugi-meta-` prefix, lower case. */
  readonly userMetadata: Readonly<Record<string, string>>;
};

/**
 * The metadata of a key's current version. `object` can be read; `tombstone` was deleted and keeps what an undelete
 * needs; `fence` marks a key that never had a version but whose late writer must not commit any more.
 */
export type ObjectRecord = UserAttributes & {
  readonly state: "object" | "tombstone" | "fence";
  readonly bucket: BucketName;
  readonly key: ObjectKey;
  readonly version: VersionId;
  /** Wall time of the write; shown to people and used for Last-Modified, never for ordering. */
  readonly modifiedAtMs: number;
  readonly sizeBytes: number;
  /** Opaque entity tag without quotes. */
  readonly etag: string;
  /** Lower-case hex of the whole content; null when nobody has read it all since a hot update. */
  readonly sha256: string | null;
  readonly manifest: Manifest;
  /**
   * Txids that may not commit on this key any more (promise 8), in the order in which they were fenced. The oldest leave
   * the list, the fences hold for ever: see `judgeFence`. So whoever removes a record for good forgets fences that a
   * sleeping writer may still have to meet.
   */
  readonly fencedTxids: readonly Txid[];
  /** How many have left `fencedTxids`. Absent before the first fence, and in records stored before this was counted. */
  readonly fencesForgotten?: number;
};

/** A record with the revision under which the metadata store holds it. */
export type StoredRecord = { readonly record: ObjectRecord; readonly revision: Revision };

/** True when some planned blob of the version is not stored. */
export function isDirty(record: ObjectRecord): boolean {
  return blobSetsOf(record.manifest).some((set) => set.nodes.includes(null));
}

/** The tombstone of an object whose content is given up, so that it cannot be brought back. */
export function buriedOf(record: ObjectRecord): ObjectRecord {
  const nothing = { sizeBytes: 0, etag: "", sha256: null, contentType: "", userMetadata: {} };
  return { ...record, ...nothing, manifest: { strategy: "inline", bytes: new Uint8Array(0) } };
}

export function isBuried({ state, etag }: ObjectRecord): boolean {
  return state === "tombstone" && etag === "";
}

export function strategyOf(record: ObjectRecord): Strategy {
  return record.manifest.strategy;
}

/** The bound of the list when what left it was not counted yet. */
const UNCOUNTED_MAX = 16;

/** Adds `txid` to those that may not commit on the key any more. */
export function withFence(record: ObjectRecord, txid: Txid): ObjectRecord {
  const fenced = [...record.fencedTxids, txid];
  const fencedTxids = fenced.slice(-LIMITS.fencedTxidsMax);
  return { ...record, fencedTxids, fencesForgotten: countForgotten(record) + fenced.length - fencedTxids.length };
}

/** What the next record of the key takes over from the one that it replaces. */
export function fencesOf(record: ObjectRecord | null): Pick<ObjectRecord, "fencedTxids" | "fencesForgotten"> {
  if (record === null) return { fencedTxids: [] };
  const { fencedTxids, fencesForgotten } = record;
  return fencesForgotten === undefined ? { fencedTxids } : { fencedTxids, fencesForgotten };
}

/**
 * `fenced`: the write may not commit. `free`: nobody has fenced it. `unknown`: fences have left the list since, and its
 * own may have been among them.
 */
export type FenceVerdict = "fenced" | "free" | "unknown";

/**
 * Whether a write is fenced that was not when its writer saw `before`. Fences are numbered as they are added, from 1: the
 * writer knows those up to the count in `before`, and the list has all above `fencesForgotten`. With no gap in between,
 * a fence that is not listed does not exist. Fewer fences than before are those of another record, made after the one
 * that was seen had been removed.
 */
export function judgeFence(before: ObjectRecord | null, current: ObjectRecord, txid: Txid): FenceVerdict {
  if (current.fencedTxids.includes(txid)) return "fenced";
  const known = before === null ? 0 : countFences(before);
  return countForgotten(current) <= known && known <= countFences(current) ? "free" : "unknown";
}

function countFences(record: ObjectRecord): number {
  return countForgotten(record) + record.fencedTxids.length;
}

/** Of a full list that was stored uncounted: more than who saw one that was not full can account for. */
function countForgotten({ fencedTxids, fencesForgotten }: ObjectRecord): number {
  return fencesForgotten ?? (fencedTxids.length < UNCOUNTED_MAX ? 0 : UNCOUNTED_MAX);
}

const FORMAT_VERSION = 1;
const packr = new Packr({ useRecords: false, variableMapSize: true });

/**
 * Layout: version byte, then MessagePack of the record, with user metadata as pairs: their names come from clients, and
 * `__proto__` as the key of a map does not survive MessagePack.
 */
export function encodeRecord(record: ObjectRecord): Uint8Array {
  const body = packr.pack({ ...record, userMetadata: Object.entries(record.userMetadata) });
  const bytes = Buffer.allocUnsafe(body.length + 1);
  bytes[0] = FORMAT_VERSION;
  bytes.set(body, 1);
  return bytes;
}

/** @throws {StoreError} `format_unknown` */
export function decodeRecord(bytes: Uint8Array): ObjectRecord {
  if (bytes[0] !== FORMAT_VERSION) {
    throw new StoreError(
      "format_unknown",
      `Cannot read a record of format ${bytes[0]}: this program knows ${FORMAT_VERSION}`,
    );
  }
  const { userMetadata, ...record } = packr.unpack(bytes.subarray(1)) as EncodedRecord;
  return { ...record, userMetadata: nullPrototype(userMetadata) };
}

type EncodedRecord = Omit<ObjectRecord, "userMetadata"> & { readonly userMetadata: readonly [string, string][] };

/** An object that has these properties and no others, whatever they are called. */
function nullPrototype(entries: readonly [string, string][]): Record<string, string> {
  return Object.assign(Object.create(null) as Record<string, string>, Object.fromEntries(entries));
}

/** The nodes that hold bytes of this version, each once. */
export function nodesOf(sets: readonly BlobSet[]): NodeName[] {
  return [...new Set(sets.flatMap((set) => set.nodes.filter((node) => node !== null)))];
}
