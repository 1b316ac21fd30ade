/**
 * Frames: what requests and answers between a node and its clients are made of once a session stands. Each carries a
 * tag that only the two parties of the session can make, and that binds it to its request, its direction and its place.
 * So nothing can be changed, left out, repeated or moved on the way; a cut shows as the lack of the last frame.
 *
 * Layout, little endian: version u8, kind u8, meta bytes u16, payload bytes u32, tag 16 bytes, meta, payload.
 *
 * The tag is MAC(head ‖ meta ‖ MAC(payload)), sixteen zeros standing for the MAC of no payload: a payload may lie in
 * memory of its own, and is never copied to be authenticated. The nonce is the request's counter, the frame's index
 * within its message, and 0 for the payload's or 1 for the frame's MAC; each direction has a key of its own.
 */
import { StoreError } from "../domain/errors.ts";
import { assert } from "../lib/assert.ts";
import { equalTags, TAG_BYTES, type BulkMac } from "../lib/bulk-mac.ts";
import { malformedMessage } from "./wire-bytes.ts";
import { WIRE_LIMITS } from "./wire-limits.ts";

export const FRAME_KINDS = ["request", "answer", "error", "cell", "seal", "abort", "alive"] as const;
export type FrameKind = (typeof FRAME_KINDS)[number];

/** One frame as received; its tag has been found right. `payload` is where the receiver wanted it. */
export type Frame = { readonly kind: FrameKind; readonly meta: Buffer; readonly payload: Uint8Array };

export const FRAME_VERSION = 1;
export const FRAME_HEAD_BYTES = 24;
const TAG_AT = 8;
const NO_PAYLOAD_TAG = Buffer.alloc(TAG_BYTES);
const PART_PAYLOAD = 0;
const PART_FRAME = 1;
const EMPTY = Buffer.alloc(0);

/** Makes the frames of one message, in order. */
export class FrameSealer {
  readonly #mac: BulkMac;
  readonly #counter: number;
  #index = 0;

  constructor(mac: BulkMac, counter: number) {
    this.#mac = mac;
    this.#counter = counter;
  }

  /** What precedes the payload on the wire: head, tag and meta. The payload must not change before it is sent. */
  seal(kind: FrameKind, meta: Uint8Array, payload: Uint8Array): Buffer {
    assert(meta.length <= WIRE_LIMITS.frameMetaBytesMax, "what a frame says of its payload is small");
    assert(payload.length <= WIRE_LIMITS.framePayloadBytesMax, "a payload fits a frame");
    const bytes = Buffer.allocUnsafe(FRAME_HEAD_BYTES + meta.length);
    bytes[0] = FRAME_VERSION;
    bytes[1] = FRAME_KINDS.indexOf(kind) + 1;
    bytes.writeUInt16LE(meta.length, 2);
    bytes.writeUInt32LE(payload.length, 4);
    bytes.set(meta, FRAME_HEAD_BYTES);
    bytes.set(tagOf(this.#mac, this.#counter, this.#index, bytes, payload), TAG_AT);
    this.#index += 1;
    return bytes;
  }
}

type Stage = "head" | "meta" | "placing" | "payload" | "complete";

/**
 * Takes the frames of one message from the pieces in which it arrives. `push` takes bytes up to the next thing to
 * decide: `placing`, when the payload needs memory, or `complete`, when a frame can be taken with `finish`.
 */
export class FrameReader {
  readonly #mac: BulkMac;
  readonly #counter: number;
  readonly #payloadBytesMax: number;
  readonly #head = Buffer.alloc(FRAME_HEAD_BYTES);
  #meta: Buffer = EMPTY;
  #payload: Uint8Array = EMPTY;
  #stage: Stage = "head";
  /** Bytes of the present stage that have come. */
  #filled = 0;
  #index = 0;

  constructor(mac: BulkMac, counter: number, payloadBytesMax: number = WIRE_LIMITS.framePayloadBytesMax) {
    this.#mac = mac;
    this.#counter = counter;
    this.#payloadBytesMax = payloadBytesMax;
  }

  get stage(): Stage {
    return this.#stage;
  }

  /** True between two frames. */
  get idle(): boolean {
    return this.#stage === "head" && this.#filled === 0;
  }

  /** What the frame under way claims to be; nothing is proved before `finish`. From `placing` on. */
  get kind(): FrameKind {
    return kindOf(this.#head);
  }

  get meta(): Buffer {
    return this.#meta;
  }

  get payloadBytes(): number {
    return this.#head.readUInt32LE(4);
  }

  /** Takes bytes of `piece` from `at`; answers where it stopped. @throws {StoreError} `format_unknown` */
  push(piece: Uint8Array, at: number): number {
    let next = at;
    while (next < piece.length) {
      if (this.#stage === "head") {
        next = this.#fill(this.#head, piece, next);
        if (this.#filled === FRAME_HEAD_BYTES) this.#beginMeta();
      } else if (this.#stage === "meta") {
        next = this.#fill(this.#meta, piece, next);
        if (this.#filled === this.#meta.length) this.#beginPayload();
      } else if (this.#stage === "payload") {
        next = this.#fill(this.#payload, piece, next);
        if (this.#filled === this.#payload.length) this.#stage = "complete";
      }
      if (this.#stage === "placing" || this.#stage === "complete") return next;
    }
    return next;
  }

  /** Gives the payload its memory, which has exactly `payloadBytes`. */
  place(memory: Uint8Array): void {
    assert(this.#stage === "placing" && memory.length === this.payloadBytes, "a payload gets the memory it needs");
    this.#payload = memory;
    this.#stage = "payload";
  }

  /** Instead of `place`: the payload is all there already, and stays where it is. */
  placeFilled(payload: Uint8Array): void {
    this.place(payload);
    this.#stage = "complete";
  }

  /** The complete frame; the next one begins. @throws {StoreError} `node_refused` when its tag is wrong */
  finish(): Frame {
    assert(this.#stage === "complete", "a frame is taken when it is complete");
    const whole = Buffer.concat([this.#head, this.#meta]);
    const tag = tagOf(this.#mac, this.#counter, this.#index, whole, this.#payload);
    if (!equalTags(tag, this.#head.subarray(TAG_AT))) {
      throw new StoreError("node_refused", "A message between node and client was changed on its way");
    }
    const frame = { kind: this.kind, meta: this.#meta, payload: this.#payload };
    this.#index += 1;
    this.#stage = "head";
    this.#filled = 0;
    this.#meta = EMPTY;
    this.#payload = EMPTY;
    return frame;
  }

  #fill(target: Uint8Array, piece: Uint8Array, at: number): number {
    const bytes = Math.min(target.length - this.#filled, piece.length - at);
    target.set(at === 0 && bytes === piece.length ? piece : piece.subarray(at, at + bytes), this.#filled);
    this.#filled += bytes;
    return at + bytes;
  }

  #beginMeta(): void {
    const version = this.#head[0];
    if (version !== FRAME_VERSION)
      throw malformedMessage(`its format is ${version}, this program knows ${FRAME_VERSION}`);
    kindOf(this.#head);
    const metaBytes = this.#head.readUInt16LE(2);
    if (metaBytes > WIRE_LIMITS.frameMetaBytesMax) throw malformedMessage("the meta part of a frame is too long");
    if (this.payloadBytes > this.#payloadBytesMax) {
      throw malformedMessage(`a frame has ${this.payloadBytes} bytes, at most ${this.#payloadBytesMax} are allowed`);
    }
    this.#meta = Buffer.allocUnsafe(metaBytes);
    this.#filled = 0;
    this.#stage = "meta";
    if (metaBytes === 0) this.#beginPayload();
  }

  #beginPayload(): void {
    this.#filled = 0;
    this.#payload = EMPTY;
    this.#stage = this.payloadBytes === 0 ? "complete" : "placing";
  }
}

/** The only frame of a message that is all there. @throws {StoreError} `format_unknown`, `node_refused` */
export function readSingleFrame(reader: FrameReader, message: Uint8Array, kind: FrameKind): Frame {
  let at = reader.push(message, 0);
  if (reader.stage === "placing") {
    const payloadEnd = at + reader.payloadBytes;
    if (payloadEnd > message.length) throw malformedMessage("it is cut short");
    reader.placeFilled(message.subarray(at, payloadEnd));
    at = payloadEnd;
  }
  if (reader.stage !== "complete") throw malformedMessage("it is cut short");
  if (at !== message.length) throw malformedMessage("there is more than one frame");
  const frame = reader.finish();
  if (frame.kind !== kind) throw malformedMessage(`it is of kind ${frame.kind} where ${kind} belongs`);
  return frame;
}

function tagOf(mac: BulkMac, counter: number, index: number, headAndMeta: Buffer, payload: Uint8Array): Buffer {
  const payloadTag = payload.length === 0 ? NO_PAYLOAD_TAG : mac.tag(counter, index, PART_PAYLOAD, payload);
  const claimed = Buffer.concat([headAndMeta.subarray(0, TAG_AT), headAndMeta.subarray(FRAME_HEAD_BYTES), payloadTag]);
  return mac.tag(counter, index, PART_FRAME, claimed);
}

function kindOf(head: Buffer): FrameKind {
  const kind = FRAME_KINDS[(head[1] as number) - 1];
  if (kind === undefined) throw malformedMessage(`its kind ${head[1]} is unknown`);
  return kind;
}
