/**
 * An object sent in chunks, never more of them than the client has given credit for. Nothing is repeated here: a client
 * that lost a chunk asks for the rest as a range, of any gateway.
 */
import { StoreError } from "../../domain/errors.ts";
import { encodeFrame, FRAME_HEADER_BYTES, writeFrameHeader, type Frame } from "../../nats/transfer-frame.ts";
import type { Transfer } from "./transfer-board.ts";

export type DownloadParts = {
  readonly send: (frame: Uint8Array, reply: string | null) => void;
  readonly windowChunks: number;
  readonly chunkBytes: number;
};

export class Download implements Transfer {
  readonly #parts: DownloadParts;
  #next = 0;
  #sentBytes = 0;
  #limit: number;
  #failure: StoreError | null = null;
  readonly ended = false;
  #wake: (() => void) | null = null;

  constructor(parts: DownloadParts) {
    this.#parts = parts;
    this.#limit = parts.windowChunks;
  }

  get sentBytes(): number {
    return this.#sentBytes;
  }

  receive(frame: Frame, reply: string | null): void {
    switch (frame.kind) {
      case "credit":
        // Whatever a client allows, no more is on its way than was accounted for.
        this.#limit = Math.max(this.#limit, Math.min(frame.position, frame.index + this.#parts.windowChunks));
        return this.#wakeUp();
      case "ask":
        return this.#parts.send(encodeFrame("credit", this.#next, this.#limit), reply);
      case "bye":
        return this.fail(new StoreError("body_incomplete", "The client gave the transfer up"));
      default:
        throw new StoreError("request_malformed", `A download takes no ${frame.kind} frames`);
    }
  }

  fail(error: StoreError): void {
    this.#failure ??= error;
    this.#wakeUp();
  }

  /**
   * Sends all of `chunks`, whose memory is theirs again once the next is asked for, then the end.
   * @throws {StoreError} what `chunks` throws; `body_incomplete` when the client gives up, `request_timeout`
   */
  async run(chunks: AsyncIterable<Uint8Array>, sha256: string | null): Promise<void> {
    const { chunkBytes } = this.#parts;
    let frame = Buffer.allocUnsafe(FRAME_HEADER_BYTES + chunkBytes);
    let filled = 0;
    for await (const chunk of chunks) {
      for (let at = 0; at < chunk.length;) {
        const part = chunk.subarray(at, at + chunkBytes - filled);
        frame.set(part, FRAME_HEADER_BYTES + filled);
        at += part.length;
        filled += part.length;
        if (filled < chunkBytes) continue;
        await this.#sendChunk(frame);
        frame = Buffer.allocUnsafe(FRAME_HEADER_BYTES + chunkBytes);
        filled = 0;
      }
      if (this.#failure !== null) throw this.#failure;
    }
    if (filled > 0) await this.#sendChunk(frame.subarray(0, FRAME_HEADER_BYTES + filled));
    const digest = sha256 === null ? undefined : Buffer.from(sha256, "hex");
    this.#parts.send(encodeFrame("end", this.#next, this.#sentBytes, digest), null);
  }

  async #sendChunk(frame: Uint8Array): Promise<void> {
    while (this.#failure === null && this.#next >= this.#limit) {
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
    if (this.#failure !== null) throw this.#failure;
    writeFrameHeader(frame, "data", this.#next, this.#sentBytes);
    this.#parts.send(frame, null);
    this.#next += 1;
    this.#sentBytes += frame.length - FRAME_HEADER_BYTES;
  }

  #wakeUp(): void {
    this.#wake?.();
    this.#wake = null;
  }
}
