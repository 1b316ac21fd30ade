import { Packr } from "msgpackr";
import { StoreError } from "./errors.ts";
import type { BucketName, ObjectKey, Revision, Txid } from "./ids.ts";
import type { BlobSet, PlacedBlob } from "./manifest.ts";

/**
 * What a write is about to do, durable before it commits. Enough to find everything the write may leave behind: the
 * blobs it plans and, once it has committed, the blobs of the version it replaced.
 */
export type Intent = {
  readonly txid: Txid;
  readonly bucket: BucketName;
  readonly key: ObjectKey;
  readonly startedAtMs: number;
  /** Name of the process that writes; "" in intents of a store without names. */
  readonly writer: string;
  /** Revision of the key that the write saw and will compare with. */
  readonly revisionSeen: Revision;
  /** Blob sets of this txid that it is about to seal. */
  readonly planned: readonly BlobSet[];
  /** Blobs of the replaced version that nothing refers to after the commit. */
  readonly replaces: readonly PlacedBlob[];
};

const FORMAT_VERSION = 1;
const packr = new Packr({ useRecords: false });

/** Layout: version byte, MessagePack of the intent. */
export function encodeIntent(intent: Intent): Uint8Array {
  const { writer, ...nameless } = intent;
  const body = packr.pack(writer === "" ? nameless : intent);
  const bytes = Buffer.allocUnsafe(body.length + 1);
  bytes[0] = FORMAT_VERSION;
  bytes.set(body, 1);
  return bytes;
}

/** @throws {StoreError} `format_unknown` */
export function decodeIntent(bytes: Uint8Array): Intent {
  if (bytes[0] !== FORMAT_VERSION) {
    throw new StoreError(
      "format_unknown",
      `Cannot read an intent of format ${bytes[0]}: this program knows ${FORMAT_VERSION}`,
    );
  }
  // Intents were written without a writer's name before there were clusters.
  return { writer: "", ...(packr.unpack(bytes.subarray(1)) as Omit<Intent, "writer"> & Partial<Intent>) };
}
