import { createHash } from "node:crypto";
import type { Progress } from "./progress.ts";

/** Counts and hashes bytes on their way, so that a transfer is verified without reading anything twice. */
export type Tally = {
  readonly sizeBytes: number;
  /** Lower-case hex of everything so far. */
  sha256(): string;
  /** Passes chunks through. */
  follow(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array>;
};

export function createTally(progress: Progress): Tally {
  const hash = createHash("sha256");
  let sizeBytes = 0;
  return {
    get sizeBytes() {
      return sizeBytes;
    },
    sha256: () => hash.copy().digest("hex"),
    async *follow(chunks) {
      for await (const chunk of chunks) {
        hash.update(chunk);
        sizeBytes += chunk.length;
        progress.add(chunk.length);
        yield chunk;
      }
    },
  };
}
