import { LIMITS } from "../limits.ts";

const SPARES_MAX = 16;

/** Memory for cells on their way to the disk, used again: fresh memory costs as much as a copy. */
export class CellMemory {
  readonly #spares: Buffer[] = [];

  take(bytes: number): Buffer {
    const whole = this.#spares.pop() ?? Buffer.allocUnsafeSlow(LIMITS.cellBytesMax);
    return whole.subarray(0, bytes);
  }

  /** Gives back what `take` gave, once nobody reads it any more. */
  give(memory: Buffer): void {
    if (this.#spares.length < SPARES_MAX) this.#spares.push(Buffer.from(memory.buffer));
  }
}
