import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseHeadProof, isHeadProved } from "../../../src/blob/node-proof.ts";
import { decodeBatch, decodeBatchResults } from "../../../src/blob/wire-batch.ts";
import { decodeWireError, encodeWireError } from "../../../src/blob/wire-error.ts";
import { FRAME_KINDS, FrameReader, FrameSealer, readSingleFrame, type Frame } from "../../../src/blob/wire-frame.ts";
import * as messages from "../../../src/blob/wire-messages.ts";
import { ERROR_CODES, isStoreError, StoreError } from "../../../src/domain/errors.ts";
import { comparable, readGolden } from "../../support/golden.ts";
import * as values from "./golden/wire-values.ts";

const golden = readGolden(join(import.meta.dirname, "golden/wire-1.txt"));
const bytesOf = (name: string) => golden.get(name) as Buffer;
const unreadable = expect.objectContaining({ code: "format_unknown" });

/** The frames of a message, fed in pieces of the given lengths. */
function readFrames(message: Buffer, pieceBytes = message.length, counter = 9): Frame[] {
  const reader = new FrameReader(values.MAC, counter);
  const frames: Frame[] = [];
  for (let from = 0; from < message.length; from += pieceBytes) {
    const piece = message.subarray(from, from + pieceBytes);
    for (let at = 0; at < piece.length;) {
      at = reader.push(piece, at);
      if (reader.stage === "placing") reader.place(Buffer.alloc(reader.payloadBytes));
      else if (reader.stage === "complete") frames.push(reader.finish());
    }
  }
  return frames;
}

const FRAMES = ["request", "cell", "seal", "alive", "abort", "answer", "error"] as const;
const message = () => Buffer.concat(FRAMES.map((kind) => bytesOf(`${kind} frame`)));

describe("messages between node and client", () => {
  test.each(Object.keys(values.ENCODED))("%s has the bytes of version 1", (name) => {
    expect(Buffer.from(values.ENCODED[name] as Uint8Array).toString("hex")).toBe(golden.get(name)?.toString("hex"));
  });

  test("golden bytes are read back as what they were made of", () => {
    expect(comparable(decodeBatch(bytesOf("batch")))).toEqual(comparable(values.ITEMS.map(withoutIndexes)));
    expect(comparable(decodeBatchResults(bytesOf("batch results")).map(({ result }) => result))).toEqual(
      comparable(values.RESULTS),
    );
    expect(decodeBatchResults(bytesOf("batch results")).map(({ itemIndex }) => itemIndex)).toEqual([
      1, 2, 3, 4, 5, 6, 7,
    ]);
    expect(messages.decodeReadRequest(bytesOf("read request"))).toEqual(values.READ);
    expect(messages.decodeReadEnd(bytesOf("read end"))).toBe(true);
    expect(messages.decodeListRequest(bytesOf("list request"))).toEqual(values.LIST);
    expect(messages.decodeListAnswer(bytesOf("list answer"))).toEqual(values.INFOS);
    expect(comparable(messages.decodeMendRequest(bytesOf("mend request")))).toEqual(
      comparable({ id: values.ID, index: 3, waitMs: 30, payload: Buffer.from("payload") }),
    );
    expect(messages.decodeVerifyRequest(bytesOf("verify request"))).toEqual({ id: values.ID, waitMs: 30 });
    expect(messages.decodeVerifyAnswer(bytesOf("verify answer"), values.ID)).toEqual(values.DAMAGES);
    expect(messages.decodeStatsAnswer(bytesOf("stats answer"))).toEqual(values.USAGE);
    const query = bytesOf("write target").toString().split("?")[1] as string;
    expect(messages.parseWriteTarget(query)).toEqual({ id: values.ID, waitMs: 500 });
  });

  test("errors arrive with their code, message, retriability and details", () => {
    expect(decodeWireError(bytesOf("error"))).toEqual(values.ERROR);
    for (const code of ERROR_CODES) {
      const error = new StoreError(code, "größer ".repeat(1_000), { retriable: code.length % 2 === 0 });
      const told = decodeWireError(encodeWireError(error));
      expect([told.code, told.retriable, told.details]).toEqual([code, error.retriable, {}]);
      expect(error.message.startsWith(told.message.slice(0, 1_000))).toBe(true);
    }
    const unknown = Buffer.from(bytesOf("error"));
    unknown.write("xxxx", 1);
    expect(decodeWireError(unknown).code).toBe("internal");
  });

  test("any bytes are read, or refused as unknown", () => {
    const decoders = {
      batch: decodeBatch,
      "batch results": decodeBatchResults,
      error: decodeWireError,
      "read request": messages.decodeReadRequest,
      "list request": messages.decodeListRequest,
      "list answer": messages.decodeListAnswer,
      "mend request": messages.decodeMendRequest,
      "verify request": messages.decodeVerifyRequest,
      "stats answer": messages.decodeStatsAnswer,
      hello: (bytes: Buffer) => values.PROOF.openHello(bytes),
      "hello answer": (bytes: Buffer) => values.PROOF.openHelloAnswer(bytesOf("hello"), bytes),
    };
    const change = fc.record({
      at: fc.nat(),
      bytes: fc.uint8Array({ maxLength: 8 }),
      cut: fc.nat(),
      name: fc.constantFrom(...Object.keys(decoders)),
    });
    fc.assert(
      fc.property(change, ({ at, bytes, cut, name }) => {
        const changed = Buffer.from(bytesOf(name)).subarray(0, bytesOf(name).length - (cut % 20));
        changed.set(bytes.subarray(0, Math.max(0, changed.length - (at % changed.length))), at % changed.length);
        try {
          decoders[name as keyof typeof decoders](changed);
        } catch (cause) {
          expect(isStoreError(cause, "format_unknown")).toBe(true);
        }
      }),
      { numRuns: 500 },
    );
    for (const [name, decode] of Object.entries(decoders)) {
      expect(() => decode(bytesOf(name).subarray(0, -1)), name).toThrowError(unreadable);
      expect(() => decode(Buffer.concat([bytesOf(name), Buffer.alloc(1)])), name).toThrowError(unreadable);
    }
  });
});

describe("FrameReader", () => {
  test("finish() gives the frames of a message, however its bytes are cut", () => {
    for (const pieceBytes of [1, 2, 7, 23, 24, 25, 100, 1_000]) {
      const frames = readFrames(message(), pieceBytes);
      expect(frames.map(({ kind }) => kind)).toEqual(FRAMES);
      expect(frames.map(({ payload }) => Buffer.from(payload).toString())).toEqual([
        "payload",
        "bytes of a cell",
        "descriptor",
        "",
        "",
        "result",
        "error",
      ]);
      expect(messages.decodeCellMeta(frames[1]?.meta as Buffer)).toEqual({ index: 3, checksum: 0xff02030405060708n });
      expect(messages.decodeAnswerMeta(frames[5]?.meta as Buffer)).toEqual({ state: "full", isLast: true });
    }
    expect([...FRAME_KINDS].sort()).toEqual([...FRAMES].sort());
  });

  test("finish() refuses every change of a single bit", () => {
    const whole = message();
    for (let bit = 0; bit < whole.length * 8; bit += 1) {
      const changed = Buffer.from(whole);
      changed[bit >> 3] = (changed[bit >> 3] as number) ^ (1 << (bit & 7));
      expect(
        outcomeOf(() => readFrames(changed)),
        `bit ${bit}`,
      ).not.toBe("7 frames");
    }
  });

  test("finish() refuses frames of another request, in another order, or twice", () => {
    const [request, cell] = [bytesOf("request frame"), bytesOf("cell frame")];
    const refused = expect.objectContaining({ code: "node_refused" });
    expect(() => readFrames(request, request.length, 10)).toThrowError(refused);
    expect(() => readFrames(cell)).toThrowError(refused);
    expect(() => readFrames(Buffer.concat([request, request]))).toThrowError(refused);
  });

  test("push() refuses what is too large before any of it has come", () => {
    const reader = new FrameReader(values.MAC, 9, 6);
    expect(() => reader.push(bytesOf("request frame").subarray(0, 24), 0)).toThrowError(unreadable);
  });

  test("readSingleFrame() takes exactly one frame of the kind that is expected", () => {
    const read = (bytes: Buffer) => readSingleFrame(new FrameReader(values.MAC, 9), bytes, "request");
    expect(Buffer.from(read(bytesOf("request frame")).payload).toString()).toBe("payload");
    expect(() => read(bytesOf("request frame").subarray(0, -1))).toThrowError(unreadable);
    expect(() => read(Buffer.concat([bytesOf("request frame"), Buffer.alloc(1)]))).toThrowError(unreadable);
    const other = Buffer.concat([
      new FrameSealer(values.MAC, 9).seal("seal", Buffer.alloc(0), Buffer.from("x")),
      Buffer.from("x"),
    ]);
    expect(() => read(other)).toThrowError(unreadable);
  });
});

describe("ClusterProof", () => {
  const keys = () => values.PROOF.sessionKeys(values.HELLO, values.HELLO_ANSWER);

  test("handshakes are opened by who knows the secret, and by nobody else", async () => {
    const { ClusterProof } = await import("../../../src/blob/node-proof.ts");
    const stranger = new ClusterProof("another secret");
    expect(comparable(values.PROOF.openHello(bytesOf("hello")))).toEqual(comparable(values.HELLO));
    expect(stranger.openHello(bytesOf("hello"))).toBeNull();
    const answer = bytesOf("hello answer");
    expect(comparable(values.PROOF.openHelloAnswer(bytesOf("hello"), answer))).toEqual(comparable(values.HELLO_ANSWER));
    expect(stranger.openHelloAnswer(bytesOf("hello"), answer)).toBeNull();
    const otherHello = values.PROOF.sealHello({ ...values.HELLO, clientNonce: Buffer.alloc(32, 9) });
    expect(values.PROOF.openHelloAnswer(otherHello, answer), "the answer to another handshake").toBeNull();
  });

  test("a head's proof holds for its session, counter, target and length alone", () => {
    const header = bytesOf("head proof").toString().replace("session", "A".repeat(22));
    const proof = parseHeadProof(header);
    if (proof === null) throw new Error("the proof is not understood");
    expect(isHeadProved(keys(), proof, "/v1/batch", 100)).toBe(true);
    expect(isHeadProved(keys(), proof, "/v1/list", 100)).toBe(false);
    expect(isHeadProved(keys(), proof, "/v1/batch", 101)).toBe(false);
    expect(isHeadProved(keys(), proof, "/v1/batch", null)).toBe(false);
    expect(isHeadProved(keys(), { ...proof, counter: 6 }, "/v1/batch", 100)).toBe(false);
    expect(isHeadProved(keys(), { ...proof, counter: 2 ** 49 }, "/v1/batch", 100)).toBe(false);
    const others = values.PROOF.sessionKeys({ ...values.HELLO, clientNonce: Buffer.alloc(32) }, values.HELLO_ANSWER);
    expect(isHeadProved(others, proof, "/v1/batch", 100)).toBe(false);
    for (const none of [undefined, "", "2 x", `${header} x`, [header]]) expect(parseHeadProof(none)).toBeNull();
  });

  test("each direction has a key of its own", () => {
    const { toNode, toClient } = keys();
    expect(toNode.tag(1, 2, 3, Buffer.from("x"))).not.toEqual(toClient.tag(1, 2, 3, Buffer.from("x")));
  });
});

function outcomeOf(read: () => Frame[]): string {
  try {
    return `${read().length} frames`;
  } catch (cause) {
    if (isStoreError(cause)) return cause.code;
    throw cause;
  }
}

/** Cells on their way to a node are counted, not numbered. */
function withoutIndexes(item: (typeof values.ITEMS)[number]): unknown {
  if (item.op !== "put") return item;
  const cells = item.blob.cells.map(({ payload, checksum }) => ({ payload, checksum }));
  return { ...item, blob: { ...item.blob, cells } };
}
