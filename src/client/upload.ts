/**
 * Sends a body in numbered chunks to one gateway. Keeps every chunk until that gateway has it, so that a connection that
 * was lost on either side costs a repetition of a few chunks and not the transfer.
 */
import { createHash } from "node:crypto";
import type { Receipt } from "../domain/receipt.ts";
import { assert } from "../lib/assert.ts";
import { HEADER } from "../nats/object-protocol.ts";
import { decodeFrame, encodeFrame, FRAME_HEADER_BYTES, writeFrameHeader, type Frame } from "../nats/transfer-frame.ts";
import { callGateway, isNoResponders, type CallHeaders } from "./call.ts";
import type { Ear, GatewayLink } from "./gateway-link.ts";
import { errorOfAnswer, KintsugiError } from "./kintsugi-error.ts";

/** After this long with nothing to do the gateway is asked where it stands; which also tells it that we live. */
const ASK_AFTER_MS = 1_000;
const ASK_TIMEOUT_MS = 2_000;
/** How long nobody may listen to the transfer: a gateway that reconnects takes a moment. */
const ABSENT_MS_MAX = 3_000;
const ASK_AGAIN_MS = 250;

/**
 * Stores `chunks` under what `headers` say. Resolves with the receipt.
 * @throws {KintsugiError} what the gateway tells; `nats_unavailable` (retriable) when it is lost; what `chunks` throws
 */
export async function sendUpload(
  link: GatewayLink,
  headers: CallHeaders,
  chunks: AsyncIterator<Uint8Array>,
): Promise<Receipt> {
  const upload = new Upload(link, chunks);
  try {
    await upload.open(headers);
    return await upload.run();
  } finally {
    upload.close();
  }
}

type Pending = { readonly frame: Uint8Array } | { readonly ended: true } | { readonly cause: unknown };

class Upload {
  readonly #link: GatewayLink;
  readonly #chunks: AsyncIterator<Uint8Array>;
  readonly #ear: Ear;
  readonly #endReconnects: () => void;
  readonly #digest = createHash("sha256");
  #transfer: string | null = null;
  #chunkBytes = 0;
  /** Chunks before this one have arrived. */
  #acknowledged = 0;
  /** The others that were made. */
  readonly #kept = new Map<number, Uint8Array>();
  /** Chunks made of the source so far. */
  #made = 0;
  #madeBytes = 0;
  /** The next chunk to send; goes back when chunks got lost. */
  #cursor = 0;
  #limit = 0;
  #reading = false;
  #read: Pending | null = null;
  #sourceEnded = false;
  #endSent = false;
  /** Once true a commit cannot be excluded. */
  #endEverSent = false;
  #rest: Uint8Array = new Uint8Array(0);
  #outcome: { readonly receipt: Receipt } | { readonly failure: KintsugiError } | null = null;
  #heardMs: number;
  #absentSinceMs: number | null = null;
  #askSoon = false;
  #change = Promise.withResolvers<void>();

  constructor(link: GatewayLink, chunks: AsyncIterator<Uint8Array>) {
    this.#link = link;
    this.#chunks = chunks;
    this.#heardMs = link.clock.monotonicMs();
    this.#ear = link.listen((frame) => this.#hear(frame));
    this.#endReconnects = link.onReconnect(() => {
      this.#askSoon = true;
      this.#heardMs = link.clock.monotonicMs();
      this.#wakeUp();
    });
  }

  async open(headers: CallHeaders): Promise<void> {
    const answer = await callGateway(this.#link, {
      operation: "put",
      headers: [...headers, [HEADER.deliver, this.#ear.subject]],
      // Nothing is stored before the end was sent, so an opening that went unanswered only has to expire.
      repeatable: true,
    });
    this.#transfer = answer.headers?.get(HEADER.transfer) ?? "";
    this.#chunkBytes = Number(answer.headers?.get(HEADER.chunkBytes));
    this.#limit = Math.max(this.#limit, Number(answer.headers?.get(HEADER.window)));
    if (this.#transfer === "" || !(this.#chunkBytes > 0) || !(this.#limit > 0)) {
      throw new KintsugiError("request_malformed", "The gateway did not say where the chunks should go");
    }
    this.#heardMs = this.#link.clock.monotonicMs();
  }

  async run(): Promise<Receipt> {
    for (;;) {
      if (this.#outcome !== null) {
        if ("failure" in this.#outcome) throw this.#outcome.failure;
        return this.#outcome.receipt;
      }
      if (this.#askSoon && this.#link.connected) await this.#ask();
      else if (!this.#sendSome()) await this.#untilChange();
    }
  }

  close(): void {
    this.#ear.close();
    this.#endReconnects();
    if (this.#transfer !== null) this.#link.publish(this.#transfer, encodeFrame("bye"));
    // Not waited for: a source that is being read may give its next bytes at any time, or never.
    if (!this.#sourceEnded) this.#chunks.return?.().catch(() => {});
  }

  /** One step of sending; false when there is nothing to do before something happens. */
  #sendSome(): boolean {
    if (!this.#link.connected) return false;
    const transfer = this.#transfer as string;
    if (this.#cursor < this.#made) {
      if (this.#cursor === this.#limit) return false;
      const frame = this.#kept.get(this.#cursor);
      assert(frame !== undefined, "a chunk that has not arrived is kept");
      this.#link.publish(transfer, frame);
      this.#cursor += 1;
      return true;
    }
    if (this.#sourceEnded) {
      if (this.#endSent) return false;
      this.#endSent = this.#endEverSent = true;
      this.#link.publish(transfer, encodeFrame("end", this.#made, this.#madeBytes, this.#digest.copy().digest()));
      return true;
    }
    if (this.#cursor === this.#limit) return false;
    return this.#readSome();
  }

  /** Makes a chunk of what the source has given, or has it give more. */
  #readSome(): boolean {
    const read = this.#read;
    if (read === null) {
      if (!this.#reading) void this.#startReading();
      return false;
    }
    this.#read = null;
    if ("cause" in read) {
      this.#sourceEnded = true;
      throw read.cause;
    }
    if ("ended" in read) {
      this.#sourceEnded = true;
      return true;
    }
    const payloadBytes = read.frame.length - FRAME_HEADER_BYTES;
    writeFrameHeader(read.frame, "data", this.#made, this.#madeBytes);
    this.#digest.update(read.frame.subarray(FRAME_HEADER_BYTES));
    this.#kept.set(this.#made, read.frame);
    this.#made += 1;
    this.#madeBytes += payloadBytes;
    return true;
  }

  async #startReading(): Promise<void> {
    this.#reading = true;
    try {
      const frame = await this.#fillFrame();
      this.#read = frame === null ? { ended: true } : { frame };
    } catch (cause) {
      this.#read = { cause };
    }
    this.#reading = false;
    this.#wakeUp();
  }

  /** A frame with room for its header and the next bytes of the source; null at its end. */
  async #fillFrame(): Promise<Uint8Array | null> {
    const frame = Buffer.allocUnsafe(FRAME_HEADER_BYTES + this.#chunkBytes);
    let filled = 0;
    while (filled < this.#chunkBytes) {
      if (this.#rest.length === 0) {
        const next = await this.#chunks.next();
        if (next.done === true) break;
        this.#rest = next.value;
        continue;
      }
      const part = this.#rest.subarray(0, this.#chunkBytes - filled);
      frame.set(part, FRAME_HEADER_BYTES + filled);
      filled += part.length;
      this.#rest = this.#rest.subarray(part.length);
    }
    return filled === 0 ? null : frame.subarray(0, FRAME_HEADER_BYTES + filled);
  }

  #hear(frame: Frame): void {
    this.#heardMs = this.#link.clock.monotonicMs();
    this.#absentSinceMs = null;
    switch (frame.kind) {
      case "credit":
      case "resend":
        this.#limit = Math.max(this.#limit, frame.position);
        this.#acknowledge(Math.min(frame.index, this.#made));
        if (frame.kind === "resend") this.#goBack(frame.index);
        break;
      case "done":
        this.#outcome ??= receiptOutcome(frame.payload);
        break;
      case "failed":
        this.#outcome ??= { failure: this.#failureOf(frame.payload) };
        break;
      default:
        return;
    }
    this.#wakeUp();
  }

  #failureOf(payload: Uint8Array): KintsugiError {
    const failure = errorOfAnswer(payload, this.#endEverSent);
    // A gateway that forgot the transfer may have ended it before.
    if (failure.code !== "request_timeout" || !this.#endEverSent) return failure;
    return new KintsugiError(failure.code, failure.message, { retriable: true, outcomeUnknown: true });
  }

  #acknowledge(count: number): void {
    for (; this.#acknowledged < count; this.#acknowledged += 1) this.#kept.delete(this.#acknowledged);
    this.#cursor = Math.max(this.#cursor, this.#acknowledged);
  }

  /** A complaint may be older than the chunk's arrival. */
  #goBack(wanted: number): void {
    const index = Math.max(wanted, this.#acknowledged);
    if (index > this.#cursor || (index === this.#cursor && !this.#endSent)) return;
    this.#cursor = index;
    this.#endSent = false;
  }

  /** Everything sent before the question has arrived before it, or never will: the answer says where to go on. */
  async #ask(): Promise<void> {
    this.#askSoon = false;
    const options = { timeout: ASK_TIMEOUT_MS };
    try {
      const answer = await this.#link.connection.request(this.#transfer as string, encodeFrame("ask"), options);
      const frame = decodeFrame(answer.data);
      this.#hear(frame);
      if (frame.kind === "credit") this.#goBack(frame.index);
    } catch (cause) {
      if (this.#link.connection.isClosed()) throw this.#lost("the client was closed");
      if (!isNoResponders(cause)) return;
      const nowMs = this.#link.clock.monotonicMs();
      this.#absentSinceMs ??= nowMs;
      if (nowMs - this.#absentSinceMs > ABSENT_MS_MAX) throw this.#lost("the gateway is gone");
      await this.#link.clock.sleep(ASK_AGAIN_MS);
      this.#askSoon = true;
    }
  }

  async #untilChange(): Promise<void> {
    const { clock, timeoutMs } = this.#link;
    if (this.#link.connection.isClosed()) throw this.#lost("the client was closed");
    const silentMs = clock.monotonicMs() - this.#heardMs;
    if (silentMs > timeoutMs) throw this.#lost(`the gateway was silent for ${timeoutMs} ms`);
    const { promise } = this.#change;
    const timer = clock.startTimer(Math.min(ASK_AFTER_MS, timeoutMs), () => {
      this.#askSoon = true;
      this.#wakeUp();
    });
    await promise;
    timer.cancel();
  }

  #lost(reason: string): KintsugiError {
    const doubt = this.#endEverSent ? "; the object may have been stored all the same" : "";
    return new KintsugiError("nats_unavailable", `The upload was cut off: ${reason}${doubt}`, {
      retriable: true,
      outcomeUnknown: this.#endEverSent,
    });
  }

  #wakeUp(): void {
    this.#change.resolve();
    this.#change = Promise.withResolvers<void>();
  }
}

function receiptOutcome(payload: Uint8Array): { readonly receipt: Receipt } | { readonly failure: KintsugiError } {
  try {
    return { receipt: JSON.parse(new TextDecoder().decode(payload)) as Receipt };
  } catch (cause) {
    const message = "The upload was stored, but its receipt cannot be read";
    return { failure: new KintsugiError("request_malformed", message, { outcomeUnknown: true, cause }) };
  }
}
