import type { StoreError } from "../domain/errors.ts";
import type { NodeState } from "../domain/node-info.ts";
import { malformedMessage } from "./wire-bytes.ts";
import { decodeWireError } from "./wire-error.ts";
import type { Frame, FrameKind, FrameReader } from "./wire-frame.ts";
import { WIRE_LIMITS } from "./wire-limits.ts";
import { decodeAnswerMeta } from "./wire-messages.ts";

/** What an answer was, once it has ended. */
export type NodeOutcome =
  | { readonly kind: "answered"; readonly error: StoreError | null }
  /** Nothing about it is proved. */
  | { readonly kind: "refused"; readonly status: number; readonly text: string };

export type FrameSink = {
  /** Memory for a payload that has just been announced; it may be written to until the request has ended. */
  place(kind: FrameKind, meta: Buffer, payloadBytes: number): Uint8Array;
  /** A proved frame of kind `cell` or `answer`. */
  take(frame: Frame): void;
};

/** Told what state the node says it is in, before the frame that says so is handed on. */
export type OnNodeState = (state: NodeState) => void;

/** The body of one answer on its way in: proved frames for whoever asked, or the text of a refusal. */
export class NodeAnswer {
  readonly #reader: FrameReader;
  readonly #sink: FrameSink;
  readonly #onState: OnNodeState;
  readonly #refusal: Buffer[] = [];
  #refusalBytes = 0;
  #status = 0;
  #error: StoreError | null = null;
  #isComplete = false;

  constructor(reader: FrameReader, sink: FrameSink, onState: OnNodeState) {
    this.#reader = reader;
    this.#sink = sink;
    this.#onState = onState;
  }

  begin(status: number): void {
    this.#status = status;
  }

  /** Keeps nothing of `piece` itself. @throws {StoreError} `format_unknown`, `node_refused` for what the node cannot have sent */
  feed(piece: Buffer): void {
    if (this.#status !== 200) return this.#keepRefusal(piece);
    for (let at = 0; at < piece.length;) {
      if (this.#isComplete) throw malformedMessage("an answer goes on behind its end");
      at = this.#reader.push(piece, at);
      if (this.#reader.stage === "placing") this.#reader.place(this.#memory());
      else if (this.#reader.stage === "complete") this.#take(this.#reader.finish());
    }
  }

  /** @throws {StoreError} `format_unknown` for an answer without its end */
  end(): NodeOutcome {
    if (this.#status !== 200) {
      const text = Buffer.concat(this.#refusal).toString();
      return { kind: "refused", status: this.#status, text };
    }
    if (!this.#isComplete) throw malformedMessage("an answer has no end");
    return { kind: "answered", error: this.#error };
  }

  #memory(): Uint8Array {
    const { kind, meta, payloadBytes } = this.#reader;
    const isOurs = kind === "error";
    return isOurs ? Buffer.allocUnsafe(payloadBytes) : this.#sink.place(kind, meta, payloadBytes);
  }

  #take(frame: Frame): void {
    if (frame.kind === "cell") return this.#sink.take(frame);
    if (frame.kind !== "answer" && frame.kind !== "error") {
      throw malformedMessage(`an answer has a frame of kind ${frame.kind}`);
    }
    const { state, isLast } = decodeAnswerMeta(frame.meta);
    this.#onState(state);
    this.#isComplete = isLast;
    if (frame.kind === "error") this.#error = decodeWireError(frame.payload as Buffer);
    else this.#sink.take(frame);
  }

  #keepRefusal(piece: Buffer): void {
    if (this.#refusalBytes >= WIRE_LIMITS.refusalBytesMax) return;
    this.#refusal.push(Buffer.from(piece));
    this.#refusalBytes += piece.length;
  }
}
