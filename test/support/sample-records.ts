/** Records and intents as small as the formats allow, for tests that care about keys, states and revisions. */
import type { BucketName, NodeName, ObjectKey, Txid, VersionId } from "../../src/domain/ids.ts";
import type { Intent } from "../../src/domain/intent.ts";
import type { ObjectRecord } from "../../src/domain/record.ts";

export const BUCKET = "photos" as BucketName;
export const OTHER_BUCKET = "photos.archive" as BucketName;

/** The `n`-th of a rising series of ULIDs. */
export function sampleTxid(n: number): Txid {
  return `01JZ${n.toString().padStart(22, "0")}` as Txid;
}

export function sampleRecord(key: string, changes: Partial<ObjectRecord> = {}): ObjectRecord {
  return {
    state: "object",
    bucket: BUCKET,
    key: key as ObjectKey,
    version: sampleTxid(1) as string as VersionId,
    modifiedAtMs: 1_750_000_000_000,
    sizeBytes: 3,
    etag: "e1",
    sha256: null,
    contentType: "text/plain",
    userMetadata: Object.assign(Object.create(null), { owner: "fleet-7" }),
    manifest: { strategy: "inline", bytes: Buffer.from("abc") },
    fencedTxids: [],
    ...changes,
  };
}

export function sampleIntent(n: number, changes: Partial<Intent> = {}): Intent {
  return {
    txid: sampleTxid(n),
    bucket: BUCKET,
    key: `key-${n}` as ObjectKey,
    startedAtMs: 1_750_000_000_000 + n,
    writer: `gateway-${n % 3}`,
    revisionSeen: 0 as Intent["revisionSeen"],
    planned: [
      {
        txid: sampleTxid(n),
        part: "body",
        sizeBytes: 0,
        cellBytes: 1_024,
        redundancy: { scheme: "replication", copies: 2 },
        nodes: ["n1" as NodeName, null],
      },
    ],
    replaces: [],
    ...changes,
  };
}
