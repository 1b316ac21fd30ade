import { KIB, MIB } from "../lib/bytes.ts";
import { assert } from "../lib/assert.ts";
import { LIMITS } from "../limits.ts";

/** Bounds of the messages between a node and its clients. Part of the protocol: both sides count on them. */
export const WIRE_LIMITS = Object.freeze({
  /** Payload of any frame. */
  framePayloadBytesMax: 4 * MIB,
  /** What a frame says about its payload. */
  frameMetaBytesMax: 64,
  batchItemsMax: 256,
  /** A client closes a batch here; the item that passes this mark is still in it. */
  batchBytesTarget: 1 * MIB,
  batchRequestBytesMax: 2 * MIB,
  /** A node sends what it has of a batch's answers when they reach this. */
  batchAnswerBytesTarget: 1 * MIB,
  /** A read that gives more is answered with `alone`: it is asked for again in a request of its own. */
  batchReadBytesMax: 64 * KIB,
  descriptorBytesMax: 512 * KIB,
  /** Cells of a blob that is put in one step. */
  packedCellsMax: 4_096,
  deleteIdsMax: 1_000,
  /** An answer to a read has one cell at least; behind these marks the rest is left for the next request. */
  readAnswerBytesTarget: 1 * MIB,
  readAnswerCellsMax: 1_024,
  listMax: 5_000,
  /** Any request but a batch, a writer and a cell to mend. */
  requestBytesMax: 4 * KIB,
  /** A cell and what it is. */
  mendRequestBytesMax: LIMITS.cellBytesMax + 4 * KIB,
  errorMessageBytesMax: 2 * KIB,
  /** A refusal comes from nobody who has proved anything: little of it is read. */
  refusalBytesMax: 4 * KIB,
  waitMsMax: 24 * 60 * 60 * 1_000,
});

assert(
  WIRE_LIMITS.batchBytesTarget + LIMITS.packedBlobBytesMax + WIRE_LIMITS.descriptorBytesMax + 64 * KIB <=
    WIRE_LIMITS.batchRequestBytesMax,
  "any single item fits a batch that is not full",
);
assert(LIMITS.cellBytesMax <= WIRE_LIMITS.framePayloadBytesMax, "a cell fits a frame");
