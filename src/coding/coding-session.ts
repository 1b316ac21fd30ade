import { assert } from "../lib/assert.ts";
import type { Clock } from "../lib/clock.ts";
import type { CellChecksum } from "../domain/blob.ts";
import { CallOrder } from "./call-order.ts";
import type { CodingUpload, EncodeRequest, Stripe, UploadDigests, UploadOptions } from "./coder.ts";
import type { ReedSolomon } from "./reed-solomon.ts";
import type { Spent } from "./spent.ts";
import { encodeStripe } from "./stripe-code.ts";
import { UploadState } from "./upload-state.ts";

export type CodingDeps = { readonly reedSolomon: ReedSolomon; readonly clock: Clock };

/**
 * One upload in the thread that does its work. Calls run in order, so `close` resolves only when nothing of this upload
 * touches a stripe any more.
 */
export class CodingSession implements CodingUpload {
  readonly #deps: CodingDeps;
  readonly #options: UploadOptions;
  readonly #state: UploadState;
  readonly #spent: Spent;
  readonly #order = new CallOrder();

  /** Adds the time it takes to `spent`. */
  constructor(deps: CodingDeps, options: UploadOptions, spent: Spent) {
    this.#deps = deps;
    this.#options = options;
    this.#state = new UploadState(options);
    this.#spent = spent;
  }

  absorb(stripe: Stripe, from: number, to: number): Promise<number> {
    return this.#order.run(() => this.#absorb(stripe, from, to));
  }

  encode(stripe: Stripe, request: EncodeRequest): Promise<CellChecksum[]> {
    return this.#order.run(() => this.#encode(stripe, request, () => {}));
  }

  absorbAndEncode(stripe: Stripe, from: number, to: number, request: EncodeRequest): Promise<CellChecksum[]> {
    return this.#order.run(() => {
      assert(!this.#state.splits, "a splitting upload absorbs and encodes in two steps");
      return this.#encode(stripe, request, () => void this.#absorb(stripe, from, to));
    });
  }

  finish(): Promise<UploadDigests> {
    return this.#order.run(() => this.#state.finish());
  }

  close(): Promise<void> {
    return this.#order.close();
  }

  #absorb(stripe: Stripe, from: number, to: number): number {
    assert(from >= 0 && from <= to && to <= stripe.bytes.length, "absorbed bytes lie within the stripe");
    const startMs = this.#deps.clock.monotonicMs();
    const contentBytes = this.#state.absorb(stripe.bytes.subarray(from, to));
    this.#spent.hashMs += this.#deps.clock.monotonicMs() - startMs;
    return from + contentBytes;
  }

  async #encode(stripe: Stripe, request: EncodeRequest, absorb: () => void): Promise<CellChecksum[]> {
    const { clock, reedSolomon } = this.#deps;
    const startMs = clock.monotonicMs();
    let absorbMs = 0;
    // Digesting overlaps with the parity's coding; its time is counted once, as digesting.
    const checksums = await encodeStripe(reedSolomon, this.#options, stripe.bytes, request, () => {
      const absorbStartMs = clock.monotonicMs();
      absorb();
      absorbMs = clock.monotonicMs() - absorbStartMs;
    });
    this.#spent.encodeMs += clock.monotonicMs() - startMs - absorbMs;
    return checksums;
  }
}
