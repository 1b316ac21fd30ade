/** Messages between a node and its clients whose bytes are kept beside in `wire-1.txt`. */
import { createSecretKey } from "node:crypto";
import { ClusterProof, sealHead } from "../../../../src/blob/node-proof.ts";
import { encodeBatch, encodeBatchResult, joinBatchResults } from "../../../../src/blob/wire-batch.ts";
import type { BatchItem, BatchResult } from "../../../../src/blob/wire-batch.ts";
import { encodeWireError } from "../../../../src/blob/wire-error.ts";
import { FrameSealer } from "../../../../src/blob/wire-frame.ts";
import * as messages from "../../../../src/blob/wire-messages.ts";
import { StoreError } from "../../../../src/domain/errors.ts";
import type { BlobId, NodeName } from "../../../../src/domain/ids.ts";
import { BulkMac } from "../../../../src/lib/bulk-mac.ts";

export const ID = "01JZ0000000000000000000000.body.2" as BlobId;
const OTHER = "01JZ0000000000000000000001.cold.15" as BlobId;
export const NODE = "n1" as NodeName;
export const MAC = new BulkMac("gmac", createSecretKey(Buffer.alloc(32, 1)));
export const PROOF = new ClusterProof("a secret");
export const HELLO = { clientNonce: Buffer.alloc(32, 2), node: NODE, macs: ["gmac" as const, "poly1305" as const] };
export const HELLO_ANSWER = { sessionId: Buffer.alloc(16, 3), nodeNonce: Buffer.alloc(32, 4), mac: "gmac" as const };

const cell = (index: number, text: string) => ({ index, payload: Buffer.from(text), checksum: 0x0102030405060708n });

export const ITEMS: readonly BatchItem[] = [
  {
    op: "put",
    waitMs: 1_000,
    blob: { id: ID, descriptor: Buffer.from("says"), cells: [cell(0, "first"), cell(1, ""), cell(2, "third")] },
  },
  { op: "delete", waitMs: 2_000, ids: [ID, OTHER] },
  { op: "read", waitMs: 3_000, id: ID, first: 7, count: 1 },
  { op: "describe", waitMs: 86_400_000, id: OTHER },
];

export const ERROR = new StoreError("node_full", "Cannot write on node n1: full", {
  retriable: true,
  details: { freeBytes: 5, what: "disk", whole: true, none: null },
});

export const RESULTS: readonly BatchResult[] = [
  { outcome: "put" },
  { outcome: "deleted", count: 2 },
  { outcome: "cells", cells: [cell(7, "payload"), cell(8, "")] },
  { outcome: "alone" },
  {
    outcome: "described",
    found: {
      cellCount: 3,
      payloadBytes: 5_000_000_000_000,
      sealedAtMs: 1_750_000_000_000,
      descriptor: Buffer.from("x"),
    },
  },
  { outcome: "unknown" },
  { outcome: "error", error: ERROR },
];

export const READ = { id: ID, first: 1, count: 70_000, waitMs: 10 };
export const LIST = { after: ID, limit: 100, waitMs: 20 };
export const INFOS = [
  { id: ID, cellCount: 1, payloadBytes: 2, sealedAtMs: 3 },
  { id: OTHER, cellCount: 70_000, payloadBytes: 2 ** 40, sealedAtMs: 1_750_000_000_000 },
];
export const DAMAGES = [
  { id: ID, cellIndex: null, reason: "its seal is cut short" },
  { id: ID, cellIndex: 3, reason: "größer" },
];
export const USAGE = {
  blobCount: 1,
  liveBytes: 2,
  fileBytes: 3,
  volumeCount: 4,
  quarantinedCount: 5,
  diskFreeBytes: 2 ** 44,
};

const hello = PROOF.sealHello(HELLO);
const sealer = new FrameSealer(MAC, 9);
const framed = (kind: Parameters<typeof sealer.seal>[0], meta: Buffer, text: string) =>
  Buffer.concat([sealer.seal(kind, meta, Buffer.from(text)), Buffer.from(text)]);

/** What the program makes of the values today; in order, as the frames are those of one message. */
export const ENCODED: Readonly<Record<string, Uint8Array>> = {
  hello,
  "hello answer": PROOF.sealHelloAnswer(hello, HELLO_ANSWER),
  "head proof": Buffer.from(sealHead(PROOF.sessionKeys(HELLO, HELLO_ANSWER), "session", 5, "/v1/batch", 100)),
  "open head proof": Buffer.from(sealHead(PROOF.sessionKeys(HELLO, HELLO_ANSWER), "session", 6, "/v1/write?x", null)),
  "request frame": framed("request", Buffer.alloc(0), "payload"),
  "cell frame": framed("cell", messages.encodeCellMeta(3, 0xff02030405060708n), "bytes of a cell"),
  "seal frame": framed("seal", Buffer.alloc(0), "descriptor"),
  "alive frame": framed("alive", Buffer.alloc(0), ""),
  "abort frame": framed("abort", Buffer.alloc(0), ""),
  "answer frame": framed("answer", messages.encodeAnswerMeta({ state: "full", isLast: true }), "result"),
  "error frame": framed("error", messages.encodeAnswerMeta({ state: "live", isLast: false }), "error"),
  batch: encodeBatch(ITEMS),
  "batch results": joinBatchResults(RESULTS.map((result, index) => encodeBatchResult(index + 1, result))),
  error: encodeWireError(ERROR),
  "write target": Buffer.from(messages.writeTarget(ID, 500)),
  "read request": messages.encodeReadRequest(READ),
  "read end": messages.encodeReadEnd(true),
  "list request": messages.encodeListRequest(LIST),
  "list answer": messages.encodeListAnswer(INFOS),
  "mend request": messages.encodeMendRequest({ id: ID, index: 3, waitMs: 30, payload: Buffer.from("payload") }),
  "verify request": messages.encodeVerifyRequest({ id: ID, waitMs: 30 }),
  "verify answer": messages.encodeVerifyAnswer(DAMAGES),
  "stats answer": messages.encodeStatsAnswer(USAGE),
};
