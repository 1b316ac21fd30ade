import type { BlobId, NodeName, Txid, BlobPart } from "./ids.ts";
import { blobIdOf } from "./ids.ts";

/**
 * Where the bytes of one version are. A manifest is bounded: it names blobs by txid, part and index, never cell by
 * cell. Everything about the cells follows from the geometry (`domain/geometry.ts`).
 */
export const STRATEGIES = ["inline", "replication", "ec", "field_hybrid"] as const;
export type Strategy = (typeof STRATEGIES)[number];
/** What a client may ask for; `auto` lets the bucket's settings and the body decide. */
export type StrategyChoice = Strategy | "auto";

/** How the blobs of a set relate to the bytes: each a whole copy, or each one column of the stripes. */
export type Redundancy =
  | { readonly scheme: "replication"; readonly copies: number }
  | { readonly scheme: "ec"; readonly k: number; readonly m: number };

/**
 * The blobs that hold one byte string. Blob `i` has the id `<txid>.<part>.<i>` and lives on `nodes[i]`; null marks one
 * that was planned and is not stored: it makes the record dirty.
 */
export type BlobSet = {
  readonly txid: Txid;
  readonly part: BlobPart;
  /** Bytes of content, without parity or padding. */
  readonly sizeBytes: number;
  /** Payload bytes of a full cell. */
  readonly cellBytes: number;
  readonly redundancy: Redundancy;
  readonly nodes: readonly (NodeName | null)[];
};

/**
 * One hot field of a document, in the coordinates of the stored cold bytes. Offsets are -1 where there is none.
 * The members between are cold and always present; what a reader sees follows from this table (`placement/layout.ts`).
 */
export type HotField = {
  /**
   * Decoded name. Empty for an entry that is no field: the first bytes of a value, already taken from the stream when the
   * value (or the document) turned out not to be one the store can address. They are always emitted at `valueAt`. A
   * member whose name is the empty string is therefore never hot.
   */
  readonly name: string;
  /** Position among the members of the document as stored; -1 for a field that a patch appended. */
  readonly ordinal: number;
  /** Cold offset of the comma before the member, of the key's opening quote, of the place where the value belongs, of the comma after the member. */
  readonly commaBefore: number;
  readonly keyAt: number;
  readonly valueAt: number;
  readonly commaAfter: number;
  /** Bytes of the value in the hot part, which is the concatenation of all live values in table order; -1 when a patch removed the field. */
  readonly valueBytes: number;
};

/** How hot and cold bytes interleave. */
export type HybridLayout = {
  /** Members of the document as stored, hot and cold. */
  readonly memberCount: number;
  /** Cold offset of the closing brace. */
  readonly closeAt: number;
  /** In the order of the document, then fields that patches appended. */
  readonly fields: readonly HotField[];
  /**
   * Hot names that the splitter looked for and the stored document does not have. Only such a name may be appended by
   * a patch without reading the cold bytes: any other that is not in `fields` may sit among them.
   */
  readonly absent: readonly string[];
  /** False for bytes that turned out not to be a JSON object with unique hot fields: whole reads work, field access does not. */
  readonly addressable: boolean;
};

export type HotPart =
  | { readonly kind: "inline"; readonly bytes: Uint8Array }
  | { readonly kind: "blobs"; readonly blobs: BlobSet };

export type Manifest =
  | { readonly strategy: "inline"; readonly bytes: Uint8Array }
  | { readonly strategy: "replication"; readonly body: BlobSet }
  | {
      readonly strategy: "ec";
      readonly body: BlobSet;
      /** Whole copies beside the shards, while the object is hot. They may be missing at any time. */
      readonly copy?: BlobSet;
    }
  | {
      readonly strategy: "field_hybrid";
      readonly hot: HotPart;
      readonly cold: BlobSet;
      /** Lower-case hex. */
      readonly coldSha256: string;
      readonly layout: HybridLayout;
      /** The same of the cold part. */
      readonly copy?: BlobSet;
    };

/** All blob sets a manifest refers to. */
export function blobSetsOf(manifest: Manifest): BlobSet[] {
  switch (manifest.strategy) {
    case "inline":
      return [];
    case "replication":
      return [manifest.body];
    case "ec":
      return manifest.copy === undefined ? [manifest.body] : [manifest.body, manifest.copy];
    case "field_hybrid": {
      const { hot, cold, copy } = manifest;
      return [...(hot.kind === "blobs" ? [hot.blobs] : []), cold, ...(copy === undefined ? [] : [copy])];
    }
  }
}

/** Those without which it cannot be read. */
export function contentSetsOf(manifest: Manifest): BlobSet[] {
  return blobSetsOf(manifest).filter(({ part }) => part !== "copy");
}

/** The coded content of which there may be whole copies beside its shards; null where there is none. */
export function codedContentOf(manifest: Manifest): { readonly coded: BlobSet; readonly copy: BlobSet | null } | null {
  switch (manifest.strategy) {
    case "ec":
      return { coded: manifest.body, copy: manifest.copy ?? null };
    case "field_hybrid":
      return { coded: manifest.cold, copy: manifest.copy ?? null };
    default:
      return null;
  }
}

/** With these whole copies beside the shards, or with none. */
export function withCopy(manifest: Manifest, copy: BlobSet | null): Manifest {
  if (manifest.strategy !== "ec" && manifest.strategy !== "field_hybrid") return manifest;
  const { copy: _, ...bare } = manifest;
  return copy === null ? bare : { ...bare, copy };
}

export type PlacedBlob = { readonly id: BlobId; readonly node: NodeName };

/** The blobs of a set that are stored, with their nodes. */
export function placedBlobsOf(set: BlobSet): PlacedBlob[] {
  return set.nodes.flatMap((node, index) => (node === null ? [] : [{ id: blobIdOf(set.txid, set.part, index), node }]));
}

/** The node on which the blob is to be; null when the manifest does not name it, or no node for it. */
export function placeOf(manifest: Manifest, id: BlobId): NodeName | null {
  const placed = blobSetsOf(manifest).flatMap(placedBlobsOf);
  return placed.find((blob) => blob.id === id)?.node ?? null;
}

/** How many blobs of a set are enough to read it. */
export function blobsNeeded(redundancy: Redundancy): number {
  return redundancy.scheme === "ec" ? redundancy.k : 1;
}

export function blobsPlanned(redundancy: Redundancy): number {
  return redundancy.scheme === "ec" ? redundancy.k + redundancy.m : redundancy.copies;
}
