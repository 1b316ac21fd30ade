import { KIB, MIB } from "../lib/bytes.ts";

const SLAB_BYTES = 1 * MIB;
const SLICE_BYTES_MAX = 128 * KIB;
const SPARE_SLABS_MAX = 8;

/** One piece of memory; `uses` counts the batches that still need some of it. */
export type Slab = { readonly bytes: Buffer; uses: number };

/**
 * Hands out memory for small values, slice by slice from large pieces that are used again once every batch with a slice
 * of them is on the disk. Fresh memory for each value would cost page faults and garbage collections that show at ten
 * thousand writes per second.
 */
export class SlabMemory {
  #slab = makeSlab();
  #used = 0;
  readonly #spare: Slab[] = [];

  /** Memory that nobody else gets until its slab is released; of arbitrary content. */
  allocate(bytes: number): Buffer {
    if (bytes > SLICE_BYTES_MAX) return Buffer.allocUnsafeSlow(bytes);
    if (this.#used + bytes > SLAB_BYTES) this.#changeSlab();
    const slice = this.#slab.bytes.subarray(this.#used, this.#used + bytes);
    this.#used += bytes;
    return slice;
  }

  /** Keeps the slab of the last slice for one batch, which is told by `slabs` that it has it already. */
  retain(slabs: Set<Slab>): void {
    if (slabs.has(this.#slab)) return;
    slabs.add(this.#slab);
    this.#slab.uses += 1;
  }

  /** Gives back what a batch retained; only when its writes have ended, for they read from this memory. */
  release(slabs: Set<Slab>): void {
    for (const slab of slabs) {
      slab.uses -= 1;
      this.#keepIfFree(slab);
    }
  }

  #keepIfFree(slab: Slab): void {
    if (slab.uses === 0 && slab !== this.#slab && this.#spare.length < SPARE_SLABS_MAX) this.#spare.push(slab);
  }

  #changeSlab(): void {
    const full = this.#slab;
    this.#slab = this.#spare.pop() ?? makeSlab();
    this.#used = 0;
    this.#keepIfFree(full);
  }
}

function makeSlab(): Slab {
  return { bytes: Buffer.allocUnsafeSlow(SLAB_BYTES), uses: 0 };
}
