import { monotonicFactory } from "ulid";
import type { Clock } from "../lib/clock.ts";
import type { Random } from "../lib/random.ts";
import { LIMITS } from "../limits.ts";
import { StoreError } from "./errors.ts";

declare const brand: unique symbol;
type Branded<T, Name extends string> = T & { readonly [brand]: Name };

export type BucketName = Branded<string, "BucketName">;
/** Any Unicode text of 1…1,024 bytes of UTF-8 without NUL; compared and ordered by its bytes. */
export type ObjectKey = Branded<string, "ObjectKey">;
/** ULID that names one write; also the version it creates. */
export type Txid = Branded<string, "Txid">;
/** ULID of one immutable state of a key. Equal to the txid of the write that made it. */
export type VersionId = Branded<string, "VersionId">;
export type NodeName = Branded<string, "NodeName">;
/** `<txid>.<part>.<index>`: one immutable byte string on one node. */
export type BlobId = Branded<string, "BlobId">;
/** Order of commits, given by the metadata store; 0 stands for "no record". Only equality and order mean anything. */
export type Revision = Branded<number, "Revision">;

export const REVISION_NONE = 0 as Revision;

/**
 * Which part of an object a blob belongs to. `copy`: a further, replicated copy of erasure-coded content that is read
 * often. `record`: no content at all, but the record, so that nodes know it.
 */
export type BlobPart = "body" | "hot" | "cold" | "copy" | "record";

const BUCKET_PATTERN = /^[a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?$/;
const NODE_PATTERN = /^[a-z0-9](?:[a-z0-9-]{0,62})$/;
const BLOB_PATTERN = /^[0-9A-HJKMNP-TV-Z]{26}\.(?:body|hot|cold|copy|record)\.\d{1,3}$/;

/** @throws {StoreError} `bucket_invalid` */
export function parseBucketName(text: string): BucketName {
  if (!BUCKET_PATTERN.test(text)) {
    throw new StoreError(
      "bucket_invalid",
      "Bucket names have 1 to 63 characters: lower-case letters, digits, dots and hyphens",
    );
  }
  return text as BucketName;
}

/** Takes the decoded key. @throws {StoreError} `key_invalid`, `key_too_long` */
export function parseObjectKey(text: string): ObjectKey {
  if (text.length === 0) throw new StoreError("key_invalid", "The key is empty: give 1 to 1,024 bytes");
  if (text.includes("\0")) throw new StoreError("key_invalid", "The key holds a NUL character, which no key may");
  if (!text.isWellFormed()) throw new StoreError("key_invalid", "The key is not well-formed Unicode");
  const keyBytes = Buffer.byteLength(text);
  if (keyBytes > LIMITS.keyBytesMax) {
    throw new StoreError("key_too_long", `The key has ${keyBytes} bytes, at most ${LIMITS.keyBytesMax} are allowed`, {
      details: { keyBytes, keyBytesMax: LIMITS.keyBytesMax },
    });
  }
  return text as ObjectKey;
}

/** @throws {StoreError} `config_invalid` */
export function parseNodeName(text: string): NodeName {
  if (!NODE_PATTERN.test(text)) {
    throw new StoreError("config_invalid", `Node name "${text}" is not lower-case letters, digits and hyphens`);
  }
  return text as NodeName;
}

export function blobIdOf(txid: Txid, part: BlobPart, index: number): BlobId {
  return `${txid}.${part}.${index}` as BlobId;
}

/** The parts of a blob id, or null when `text` is none. */
export function parseBlobId(text: string): { id: BlobId; txid: Txid; part: BlobPart; index: number } | null {
  if (!BLOB_PATTERN.test(text)) return null;
  const [txid, part, index] = text.split(".") as [string, string, string];
  return { id: text as BlobId, txid: txid as Txid, part: part as BlobPart, index: Number(index) };
}

/** Makes txids that rise within this process, also within one millisecond and when the wall clock steps back. */
export function createTxidSource(clock: Clock, random: Random): () => Txid {
  const next = monotonicFactory(() => random.next());
  return () => next(clock.wallMs()) as Txid;
}
