import { Packr } from "msgpackr";
import { StoreError } from "./errors.ts";
import type { BucketName, NodeName, ObjectKey, VersionId } from "./ids.ts";
import type { PlacedBlob } from "./manifest.ts";

/**
 * How many more nodes the object can lose, as far as known: 0 is done first. What endangers nothing, such as
 * giving space back, is 2.
 */
export const URGENCIES = [0, 1, 2] as const;
export type Urgency = (typeof URGENCIES)[number];

export const MEND_REASONS = ["dirty", "damaged", "missing", "node_lost"] as const;
/** dirty: committed with fewer blobs than planned. damaged: a reader or a scrub met bad bytes. missing: a node does not hold what the record says. node_lost: the node was given up. */
export type MendReason = (typeof MEND_REASONS)[number];

type OfObject = { readonly bucket: BucketName; readonly key: ObjectKey };

/**
 * A piece of work that any healer can take. It is a hint, never an order: whoever takes it looks at the record and at
 * the nodes anew, decides by what it finds, and may find nothing to do. So work may be lost, repeated or out of date.
 */
export type Work =
  /** Bring the object back to its full redundancy. `suspects` are blobs whose bytes are to be verified on the way. */
  | (OfObject & {
      readonly kind: "mend";
      readonly urgency: Urgency;
      readonly reason: MendReason;
      readonly suspects: readonly PlacedBlob[];
    })
  /** A node met a blob that it cannot read at all, so that nobody knows whose it is. Other blobs of the set know. */
  | { readonly kind: "identify"; readonly urgency: Urgency; readonly blob: PlacedBlob }
  /** Move one blob of the object to a better node. */
  | (OfObject & {
      readonly kind: "move";
      readonly urgency: Urgency;
      readonly blob: PlacedBlob;
      readonly to: NodeName;
    })
  /** Look whether these blobs are really nobody's, and then delete them. All are on the one node. */
  | {
      readonly kind: "collect";
      readonly urgency: Urgency;
      readonly node: NodeName;
      readonly blobs: readonly PlacedBlob[];
    }
  /** The grace period of a deleted object is over: free its blobs. */
  | (OfObject & { readonly kind: "bury"; readonly urgency: Urgency; readonly version: VersionId })
  /** Write the record itself to nodes, so that they can rebuild the metadata. */
  | (OfObject & { readonly kind: "keep_record"; readonly urgency: Urgency; readonly version: VersionId })
  /** Give a hot object so many more copies, or take them away again (0). */
  | (OfObject & {
      readonly kind: "heat";
      readonly urgency: Urgency;
      readonly version: VersionId;
      readonly copies: number;
    });

export type WorkKind = Work["kind"];
export type WorkOf<Kind extends WorkKind> = Extract<Work, { kind: Kind }>;

/**
 * What a piece of work is about: of those that wait with the same name the later one replaces the earlier. So a work
 * names everything that it is about.
 */
export function workName(work: Work): string {
  switch (work.kind) {
    case "mend":
    case "keep_record":
    case "bury":
    case "heat":
      return `${work.kind}\0${work.bucket}\0${work.key}`;
    case "move":
      return `move\0${work.blob.id}\0${work.blob.node}`;
    case "identify":
      return `identify\0${work.blob.id}\0${work.blob.node}`;
    case "collect":
      return `collect\0${work.node}\0${work.blobs[0]?.id ?? ""}`;
  }
}

/** Blobs that one piece of work may name. */
export const BLOBS_PER_WORK_MAX = 256;

const FORMAT_VERSION = 1;
const packr = new Packr({ useRecords: false });

/** Layout: version byte, MessagePack of the work. */
export function encodeWork(work: Work): Uint8Array {
  const body = packr.pack(work);
  const bytes = Buffer.allocUnsafe(body.length + 1);
  bytes[0] = FORMAT_VERSION;
  bytes.set(body, 1);
  return bytes;
}

/** @throws {StoreError} `format_unknown` */
export function decodeWork(bytes: Uint8Array): Work {
  if (bytes[0] !== FORMAT_VERSION) {
    throw new StoreError(
      "format_unknown",
      `Cannot read a piece of work of format ${bytes[0]}: this program knows ${FORMAT_VERSION}`,
    );
  }
  return packr.unpack(bytes.subarray(1)) as Work;
}
