import fc from "fast-check";
import { expect, test } from "vitest";
import type { Slab } from "../../../src/blob/slab-memory.ts";
import { SlabMemory } from "../../../src/blob/slab-memory.ts";

test("allocate() never gives out memory that a batch still needs, and uses released memory again", () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat({ max: 150_000 }), fc.nat({ max: 9 })), { maxLength: 400 }), (steps) => {
      const memory = new SlabMemory();
      const batches = Array.from({ length: 10 }, () => ({ slabs: new Set<Slab>(), slices: [] as [Buffer, number][] }));
      const buffers = new Set<ArrayBufferLike>();
      for (const [n, [bytes, batchIndex]] of steps.entries()) {
        const batch = batches[batchIndex] as (typeof batches)[number];
        if (n % 5 === 4) {
          for (const [slice, mark] of batch.slices) expect(slice.every((byte) => byte === mark)).toBe(true);
          memory.release(batch.slabs);
          batch.slabs.clear();
          batch.slices = [];
          continue;
        }
        const slice = memory.allocate(bytes);
        if (bytes <= 128 * 1_024) buffers.add(slice.buffer);
        batch.slices.push([slice.fill(n % 251), n % 251]);
        memory.retain(batch.slabs);
      }
      // All that is retained at once, some spare ones, and the one in use.
      expect(buffers.size).toBeLessThanOrEqual(45);
    }),
    { numRuns: 40 },
  );
});
