import { randomBytes } from "node:crypto";

/** Randomness as a parameter: the system's, or in tests a seeded one. */
export type Random = {
  /** Uniform in [0, 1). */
  next(): number;
  bytes(length: number): Uint8Array;
};

export const systemRandom: Random = {
  next: () => randomBytes(4).readUInt32LE(0) / 0x1_0000_0000,
  bytes: (length) => randomBytes(length),
};
