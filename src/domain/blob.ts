import { Packr } from "msgpackr";
import { StoreError } from "./errors.ts";
import type { BlobId, Revision } from "./ids.ts";
import type { ObjectRecord } from "./record.ts";
import { decodeRecord, encodeRecord } from "./record.ts";

/** Checksum of one cell: XXH64 of its payload, mixed with its identity so that a cell in the wrong place does not verify. */
export type CellChecksum = bigint;

/** One verified-or-not cell as a node gives it. `payload` belongs to the receiver. */
export type Cell = { readonly index: number; readonly payload: Uint8Array; readonly checksum: CellChecksum };

/**
 * What a blob says about itself, sealed with it: the record that its write was about to commit and the revision of the
 * key which that write saw. From these alone a lost metadata store is rebuilt and a dead gateway's write resurrected.
 */
export type BlobDescriptor = { readonly record: ObjectRecord; readonly revisionSeen: Revision };

/** What a node knows of a stored blob without reading its cells. */
export type BlobInfo = {
  readonly id: BlobId;
  readonly cellCount: number;
  readonly payloadBytes: number;
  readonly sealedAtMs: number;
};

const FORMAT_VERSION = 1;
const packr = new Packr({ useRecords: false });

/** Layout: version byte, MessagePack of [revision seen, encoded record]. All blobs of one write carry the same bytes. */
export function encodeDescriptor(descriptor: BlobDescriptor): Uint8Array {
  const body = packr.pack([descriptor.revisionSeen, encodeRecord(descriptor.record)]);
  const bytes = Buffer.allocUnsafe(body.length + 1);
  bytes[0] = FORMAT_VERSION;
  bytes.set(body, 1);
  return bytes;
}

/** @throws {StoreError} `format_unknown` */
export function decodeDescriptor(bytes: Uint8Array): BlobDescriptor {
  if (bytes[0] !== FORMAT_VERSION) {
    throw new StoreError(
      "format_unknown",
      `Cannot read a descriptor of format ${bytes[0]}: this program knows ${FORMAT_VERSION}`,
    );
  }
  const [revisionSeen, record] = packr.unpack(bytes.subarray(1)) as [Revision, Uint8Array];
  return { revisionSeen, record: decodeRecord(record) };
}
