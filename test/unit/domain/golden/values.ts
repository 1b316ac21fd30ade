/** The values whose encodings stand in `version-1.txt`. Neither file changes when the formats' code does. */
import type { BlobDescriptor } from "../../../../src/domain/blob.ts";
import type { BucketName, NodeName, ObjectKey, Revision, Txid, VersionId } from "../../../../src/domain/ids.ts";
import type { Intent } from "../../../../src/domain/intent.ts";
import type { BlobSet, HybridLayout, Manifest } from "../../../../src/domain/manifest.ts";
import type { ObjectRecord } from "../../../../src/domain/record.ts";

const TXID = "01JD0000000000000000000001" as Txid;
const OLDER = "01JC0000000000000000000002" as Txid;
const SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
const node = (name: string) => name as NodeName;

const copies: BlobSet = {
  txid: TXID,
  part: "body",
  sizeBytes: 5_000,
  cellBytes: 1_048_064,
  redundancy: { scheme: "replication", copies: 3 },
  nodes: [node("node-1"), null, node("node-6")],
};
const shards: BlobSet = {
  txid: TXID,
  part: "body",
  sizeBytes: 5_000_000_000,
  cellBytes: 1_048_064,
  redundancy: { scheme: "ec", k: 4, m: 2 },
  nodes: ["node-1", "node-2", "node-3", "node-4", "node-5", "node-6"].map(node),
};
const hotCopies: BlobSet = { ...copies, txid: OLDER, part: "hot", sizeBytes: 20_000 };
const coldShards: BlobSet = { ...shards, txid: OLDER, part: "cold", sizeBytes: 801_234 };

const layout: HybridLayout = {
  memberCount: 12,
  closeAt: 801_233,
  fields: [
    { name: "battery", ordinal: 0, commaBefore: -1, keyAt: 1, valueAt: 11, commaAfter: 11, valueBytes: 4 },
    { name: "__proto__", ordinal: 7, commaBefore: 300, keyAt: 301, valueAt: 313, commaAfter: -1, valueBytes: -1 },
    { name: "größe", ordinal: -1, commaBefore: -1, keyAt: -1, valueAt: -1, commaAfter: -1, valueBytes: 2 },
  ],
  absent: ["seen"],
  addressable: true,
};

function record(manifest: Manifest, changes: Partial<ObjectRecord> = {}): ObjectRecord {
  return {
    state: "object",
    bucket: "default" as BucketName,
    key: "photos/ключ 😀.jpg" as ObjectKey,
    version: TXID as string as VersionId,
    modifiedAtMs: 1_750_000_000_123,
    sizeBytes: 5_000,
    etag: SHA256,
    sha256: SHA256,
    contentType: "image/jpeg",
    userMetadata: metadata({ owner: "fleet-7" }),
    manifest,
    fencedTxids: [],
    ...changes,
  };
}

function metadata(values: Record<string, string>): Record<string, string> {
  return Object.assign(Object.create(null) as Record<string, string>, values);
}

const hybrid: Manifest = {
  strategy: "field_hybrid",
  hot: { kind: "inline", bytes: Buffer.from('81.0"d-7"') },
  cold: coldShards,
  coldSha256: SHA256,
  layout,
};

export const RECORDS: Readonly<Record<string, ObjectRecord>> = {
  "record inline": record({ strategy: "inline", bytes: Buffer.from("hello") }, { sizeBytes: 5 }),
  "record replication": record({ strategy: "replication", body: copies }),
  "record ec": record({ strategy: "ec", body: shards }, { sizeBytes: 5_000_000_000 }),
  "record field_hybrid": record(hybrid, { sizeBytes: 801_247, sha256: null }),
  "record field_hybrid with hot blobs": record({ ...hybrid, hot: { kind: "blobs", blobs: hotCopies } }),
  "record tombstone": record({ strategy: "replication", body: copies }, { state: "tombstone", fencedTxids: [OLDER] }),
  "record fence": record(
    { strategy: "inline", bytes: Buffer.alloc(0) },
    { state: "fence", sizeBytes: 0, etag: "", sha256: null, contentType: "", fencedTxids: [OLDER, TXID] },
  ),
  "record with names that objects already have": record(
    { strategy: "inline", bytes: Buffer.alloc(0) },
    {
      userMetadata: metadata(
        Object.fromEntries([
          ["__proto__", "kept"],
          ["__proto_", "another"],
          ["constructor", "c"],
          ["hasownproperty", "h"],
          ["empty", ""],
          ["größe", "ж"],
        ]),
      ),
    },
  ),
};

export const DESCRIPTORS: Readonly<Record<string, BlobDescriptor>> = {
  "descriptor of a first version": {
    record: RECORDS["record replication"] as ObjectRecord,
    revisionSeen: 0 as Revision,
  },
  "descriptor at a large revision": {
    record: RECORDS["record field_hybrid"] as ObjectRecord,
    revisionSeen: (2 ** 45 + 3) as Revision,
  },
};

export const INTENTS: Readonly<Record<string, Intent>> = {
  "intent of a first version": {
    txid: TXID,
    bucket: "default" as BucketName,
    key: "k" as ObjectKey,
    startedAtMs: 1_750_000_000_123,
    writer: "",
    revisionSeen: 0 as Revision,
    planned: [{ ...shards, sizeBytes: 0 }],
    replaces: [],
  },
  "intent that replaces": {
    txid: TXID,
    bucket: "default" as BucketName,
    key: "photos/ключ 😀.jpg" as ObjectKey,
    startedAtMs: 1_750_000_000_123,
    writer: "",
    revisionSeen: (2 ** 45 + 3) as Revision,
    planned: [
      { ...coldShards, txid: TXID, sizeBytes: 0 },
      { ...hotCopies, txid: TXID, sizeBytes: 0 },
    ],
    replaces: [
      { id: `${OLDER}.body.0` as never, node: node("node-1") },
      { id: `${OLDER}.body.2` as never, node: node("node-6") },
    ],
  },
};
