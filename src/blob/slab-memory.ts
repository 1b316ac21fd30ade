import { KIB } from "../lib/bytes.ts";

const SLAB_BYTES = 512 * KIB;
const SLICE_BYTES_MAX = 64 * KIB;

/**
 * Hands out memory for small values from large pieces. One piece costs one call into the runtime and one lookup of its
 * address by LMDB; given out slice by slice that is shared by hundreds of writes. A piece is freed with its last slice.
 */
export class SlabMemory {
  #slab = Buffer.alloc(0);
  #used = 0;

  /** Memory that nobody else gets, of arbitrary content. */
  allocate(bytes: number): Buffer {
    if (bytes > SLICE_BYTES_MAX) return Buffer.allocUnsafeSlow(bytes);
    if (this.#used + bytes > this.#slab.length) {
      this.#slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
      this.#used = 0;
    }
    const slice = this.#slab.subarray(this.#used, this.#used + bytes);
    this.#used += bytes;
    return slice;
  }
}
