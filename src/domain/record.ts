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
  /** Txids that may not commit on this key any more (promise 8). */
  readonly fencedTxids: readonly Txid[];
};

/** A record with the revision under which the metadata store holds it. */
export type StoredRecord = { readonly record: ObjectRecord; readonly revision: Revision };

/** True when some planned blob of the version is not stored. */
export function isDirty(record: ObjectRecord): boolean {
  return blobSetsOf(record.manifest).some((set) => set.nodes.includes(null));
}

export function strategyOf(record: ObjectRecord): Strategy {
  return record.manifest.strategy;
}

/** Adds `txid` to those that may not commit on the key any more. */
export function withFence(record: ObjectRecord, txid: Txid): ObjectRecord {
  return { ...record, fencedTxids: [...record.fencedTxids, txid].slice(-LIMITS.fencedTxidsMax) };
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
