import { createHash } from "node:crypto";
import type { Progress } from "./progress.ts";

/** Counts and hashes bytes on their way, so that a transfer is verified without reading anything twice. */
export type Tally = {
  readonly sizeBytes: number;
  /** Lower-case hex of everything so far. */
  sha256(): string;
  /** Passes chunks through. Called again, it begins anew: the transfer starts over. */
  follow(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array>;
};

export function createTally(progress: Progress): Tally {
  let hash = createHash("sha256");
  let sizeBytes = 0;
  return {
    get sizeBytes() {
      return sizeBytes;
    },
    sha256: () => hash.copy().digest("hex"),
    async *follow(chunks) {
      hash = createHash("sha256");
      progress.add(-sizeBytes);
      sizeBytes = 0;
      for await (const chunk of chunks) {
        hash.update(chunk);
        sizeBytes += chunk.length;
        progress.add(chunk.length);
        yield chunk;
      }
    },
  };
}
