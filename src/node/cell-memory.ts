import { LIMITS } from "../limits.ts";
import type { NodeDeps } from "./node-exchange.ts";

/** What handlers of whole cells need. */
export type CellDeps = NodeDeps & { readonly cells: CellMemory };

const SPARES_MAX = 16;

/** Memory for cells on their way to and from the disk, used again: fresh memory costs more than to fill it. */
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
