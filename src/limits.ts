import { GIB, KIB, MIB } from "./lib/bytes.ts";
import { assert } from "./lib/assert.ts";

/**
 * Limits that are part of the formats and protocols. What an operator may change lives in `config.ts`; each limit a
 * client can hit has an error code of its own in `domain/errors.ts`.
 */
export const LIMITS = Object.freeze({
  keyBytesMax: 1_024,
  /** Names and values of user metadata together. */
  userMetadataBytesMax: 8 * KIB,
  contentTypeBytesMax: 1 * KIB,
  dataShardsMax: 16,
  parityShardsMax: 8,
  /** A large value takes whole pages of LMDB, the first of which begins with a header. */
  pageBytes: 4 * KIB,
  pageHeaderBytes: 24,
  cellBytesMax: 1 * MIB,
  /** Data bytes of one stripe, so that wide codes do not multiply memory. */
  stripeDataBytesMax: 4 * MIB,
  /** Blobs up to this size are one value on their node: descriptor, checksums and bytes together. */
  packedBlobBytesMax: 64 * KIB,
  /** Bodies that a client may ask to keep inside the record. */
  inlineBytesMax: 64 * KIB,
  objectBytesMax: 5 * 1_024 * GIB,
  /** Nesting of any JSON the store looks into. */
  jsonDepthMax: 512,
  hotFieldsMax: 64,
  hotFieldNameBytesMax: 256,
  /** A hot value beyond this stays in the cold part. */
  hotValueBytesMax: 16 * KIB,
  /** Hot parts up to this size live inside the record, larger ones are replicated blobs. */
  hotInlineBytesMax: 16 * KIB,
  /** Cold bytes held back until their digest is known, so that a pure hot update of a document up to this size costs no node I/O. */
  coldDeferredBytesMax: 8 * MIB,
  /** The body of one merge patch. */
  patchBytesMax: 1 * MIB,
  /** A document that a patch has to rewrite or a projection has to read whole. */
  documentBytesMax: 64 * MIB,
  projectionFieldsMax: 64,
  listPageMax: 1_000,
  commitBatchMax: 512,
  /** Fenced txids that a record remembers; a writer that may be among those before them gives up by itself. */
  fencedTxidsMax: 16,
});

assert(LIMITS.packedBlobBytesMax <= LIMITS.cellBytesMax, "a packed blob is at most one cell");
assert(LIMITS.dataShardsMax + LIMITS.parityShardsMax < 31, "a set of shards fits the bits of an integer");
