import { randomFillSync } from "node:crypto";

/** Randomness as a parameter: the system's, or in tests a seeded one. */
export type Random = {
  /** Uniform in [0, 1). */
  next(): number;
  bytes(length: number): Uint8Array;
};

/** Asking the kernel costs more than most who ask want to spend, so numbers are drawn from a buffer. */
const drawn = Buffer.alloc(4_096);
let used = drawn.length;

export const systemRandom: Random = {
  next() {
    if (used === drawn.length) {
      randomFillSync(drawn);
      used = 0;
    }
    used += 4;
    return drawn.readUInt32LE(used - 4) / 0x1_0000_0000;
  },
  bytes: (length) => randomFillSync(new Uint8Array(length)),
};
