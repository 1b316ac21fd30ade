import { StoreError } from "../domain/errors.ts";
import type { Body } from "./requests.ts";

/**
 * Pulls a body piecewise into memory that the caller owns. Keeps the rest of a chunk that did not fit, counts bytes,
 * and stops the source at the size limit or when it disagrees with what was declared.
 */
export class BodyReader {
  readonly #source: AsyncIterator<Uint8Array> | null;
  readonly #declaredBytes: number | null;
  readonly #bytesMax: number;
  #rest: Uint8Array;
  #readBytes: number;
  #ended: boolean;

  constructor(body: Body, bytesMax: number) {
    this.#bytesMax = bytesMax;
    if (body.kind === "bytes") {
      this.#source = null;
      this.#rest = body.bytes;
      this.#declaredBytes = body.bytes.length;
    } else {
      this.#source = body.chunks[Symbol.asyncIterator]();
      this.#rest = new Uint8Array(0);
      this.#declaredBytes = body.sizeBytes;
    }
    this.#readBytes = this.#rest.length;
    this.#ended = this.#source === null;
    this.#checkSize(this.#declaredBytes ?? 0);
  }

  /** Null when the sender did not say. */
  get declaredBytes(): number | null {
    return this.#declaredBytes;
  }

  /** True once every byte has been handed out and the sender has said that no more follow. */
  get ended(): boolean {
    return this.#ended && this.#rest.length === 0;
  }

  /**
   * Looks at up to `wantedBytes` from the start without consuming them. Shorter only when the body ends there; then
   * its size is known. Holds what it looks at in memory.
   */
  async peek(wantedBytes: number): Promise<{ bytes: Uint8Array; ended: boolean }> {
    const chunks = [this.#rest];
    let length = this.#rest.length;
    while (length < wantedBytes && !this.#ended) {
      const chunk = await this.#pull();
      if (chunk === null) break;
      // The source reuses a chunk once the next one is asked for.
      const kept = Uint8Array.from(chunk);
      chunks.push(kept);
      length += kept.length;
    }
    if (chunks.length > 1) this.#rest = Buffer.concat(chunks);
    return { bytes: this.#rest, ended: this.#ended };
  }

  /** Fills `target` as far as the body reaches; fewer bytes mean that it has ended. */
  async fill(target: Uint8Array): Promise<number> {
    let filled = 0;
    while (filled < target.length) {
      if (this.#rest.length === 0) {
        if (this.#ended) break;
        const chunk = await this.#pull();
        if (chunk === null) break;
        this.#rest = chunk;
        continue;
      }
      const part = this.#rest.subarray(0, target.length - filled);
      target.set(part, filled);
      filled += part.length;
      this.#rest = this.#rest.subarray(part.length);
    }
    // With the last announced byte in hand the end is known now, not only after the next stripe has been taken.
    while (this.#rest.length === 0 && !this.#ended && this.#readBytes === this.#declaredBytes) {
      // Nothing, an empty chunk, or an error: more than was announced is refused.
      await this.#pull();
    }
    return filled;
  }

  /** Tells the source that nobody reads on. */
  async cancel(): Promise<void> {
    if (!this.#ended) await this.#source?.return?.();
  }

  async #pull(): Promise<Uint8Array | null> {
    const next = await (this.#source as AsyncIterator<Uint8Array>).next();
    if (next.done === true) {
      this.#ended = true;
      this.#checkComplete();
      return null;
    }
    this.#readBytes += next.value.length;
    this.#checkSize(this.#readBytes);
    if (this.#declaredBytes !== null && this.#readBytes > this.#declaredBytes) {
      throw new StoreError("body_incomplete", `The body has more than the ${this.#declaredBytes} bytes announced`);
    }
    return next.value;
  }

  #checkSize(sizeBytes: number): void {
    if (sizeBytes <= this.#bytesMax) return;
    throw new StoreError("body_too_large", `The body has more than ${this.#bytesMax} bytes, which is the limit`, {
      details: { bytesMax: this.#bytesMax },
    });
  }

  #checkComplete(): void {
    if (this.#declaredBytes === null || this.#declaredBytes === this.#readBytes) return;
    throw new StoreError(
      "body_incomplete",
      `The body ended after ${this.#readBytes} bytes, ${this.#declaredBytes} were announced`,
    );
  }
}
