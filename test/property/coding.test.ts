import { createHash } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createInlineCoder } from "../../src/coding/inline-coder.ts";
import { createReedSolomon } from "../../src/coding/reed-solomon.ts";
import type { Txid } from "../../src/domain/ids.ts";
import { stripeShape, fullCellBytes } from "../../src/domain/geometry.ts";
import { systemClock } from "../../src/lib/clock.ts";

const TXID = "01JZZZZZZZZZZZZZZZZZZZZZZZ" as Txid;
const backends = {
  addon: createReedSolomon({ forceFallback: false }),
  fallback: createReedSolomon({ forceFallback: true }),
};

/** A code, a cell size on both sides of what is worth a call of the addon, and up to m shards to lose. */
const lossyStripes = fc
  .record({
    k: fc.integer({ min: 1, max: 16 }),
    m: fc.integer({ min: 1, max: 8 }),
    cellSteps: fc.oneof(fc.integer({ min: 1, max: 8 }), fc.integer({ min: 500, max: 1_100 })),
    seed: fc.integer(),
  })
  .chain((code) => {
    const shards = Array.from({ length: code.k + code.m }, (_, shard) => shard);
    return fc.record({
      code: fc.constant(code),
      lost: fc.subarray(shards, { maxLength: code.m }),
    });
  });

describe("createReedSolomon()", () => {
  test.each([
    ["addon", "addon"],
    ["fallback", "fallback"],
    ["addon", "fallback"],
    ["fallback", "addon"],
  ] as const)("what the %s encoded, the %s rebuilds after any m losses", async (writer, reader) => {
    await fc.assert(
      fc.asyncProperty(lossyStripes, async ({ code, lost }) => {
        const { k, m, cellSteps, seed } = code;
        const cellBytes = cellSteps * 64;
        const stripe = Buffer.alloc((k + m) * cellBytes);
        fillRandom(stripe.subarray(0, k * cellBytes), seed);
        await backends[writer].encodeParity(stripe, k, m, cellBytes);
        const whole = Buffer.from(stripe);
        for (const shard of lost) stripe.fill(0x5a, shard * cellBytes, (shard + 1) * cellBytes);
        const have = Array.from({ length: k + m }, (_, shard) => shard).filter((shard) => !lost.includes(shard));
        const wanted = lost.filter((shard) => shard < k);
        await backends[reader].reconstruct(stripe, k, m, cellBytes, have, wanted);
        expect(Buffer.compare(stripe.subarray(0, k * cellBytes), whole.subarray(0, k * cellBytes))).toBe(0);
        for (const shard of have) {
          const [from, to] = [shard * cellBytes, (shard + 1) * cellBytes];
          expect(Buffer.compare(stripe.subarray(from, to), whole.subarray(from, to))).toBe(0);
        }
      }),
      { numRuns: 60 },
    );
  });

  test.each([
    [16, 8],
    [16, 6],
    [10, 4],
    [8, 8],
  ])("mends %d + %d from any k shards, wanting any of the missing", async (k, m) => {
    const cellBytes = 64;
    const shards = Array.from({ length: k + m }, (_, shard) => shard);
    const stripe = Buffer.alloc((k + m) * cellBytes);
    fillRandom(stripe.subarray(0, k * cellBytes), 1);
    await backends.fallback.encodeParity(stripe, k, m, cellBytes);
    await fc.assert(
      fc.asyncProperty(
        fc.shuffledSubarray(shards, { minLength: k, maxLength: k }),
        fc.infiniteStream(fc.boolean()),
        async (have, coin) => {
          const damaged = Buffer.from(stripe);
          const missing = shards.filter((shard) => !have.includes(shard));
          for (const shard of missing) damaged.fill(0, shard * cellBytes, (shard + 1) * cellBytes);
          const wanted = missing.filter((shard) => shard < k && coin.next().value);
          await backends.fallback.reconstruct(damaged, k, m, cellBytes, have, wanted);
          for (const shard of [...have, ...wanted]) {
            const [from, to] = [shard * cellBytes, (shard + 1) * cellBytes];
            expect(Buffer.compare(damaged.subarray(from, to), stripe.subarray(from, to))).toBe(0);
          }
        },
      ),
      { numRuns: 100 },
    );
  });
});

describe("an upload", () => {
  test("finish() answers the digest of the bytes however they were cut", async () => {
    const coder = createInlineCoder({ reedSolomon: backends.addon, clock: systemClock });
    const cuts = fc.array(fc.integer({ min: 0, max: 70_000 }), { maxLength: 12 });
    await fc.assert(
      fc.asyncProperty(cuts, fc.integer(), async (sizes, seed) => {
        const hash = createHash("sha256");
        const redundancy = { scheme: "ec", k: 2, m: 1 } as const;
        const upload = await coder.openUpload({ txid: TXID, part: "body", redundancy, split: null, md5: false });
        for (const size of sizes) {
          const memory = new SharedArrayBuffer(size);
          const bytes = new Uint8Array(memory);
          fillRandom(bytes, seed);
          hash.update(Buffer.from(bytes));
          await upload.absorb({ memory, bytes }, 0, size);
        }
        expect((await upload.finish()).sha256).toBe(hash.digest("hex"));
        await upload.close();
      }),
      { numRuns: 50 },
    );
  });

  test("whatever the geometry makes of a size, its stripes survive the loss of m shards", async () => {
    const coder = createInlineCoder({ reedSolomon: backends.addon, clock: systemClock });
    const codes = fc.constantFrom([2, 1], [4, 2], [3, 3], [10, 4], [16, 8]);
    await fc.assert(
      fc.asyncProperty(
        codes,
        fc.integer({ min: 1, max: 2_000_000 }),
        fc.integer(),
        async ([k = 0, m = 0], size, seed) => {
          const redundancy = { scheme: "ec", k, m } as const;
          const blobs = { txid: TXID, part: "body", redundancy } as const;
          const { index, dataBytes, cellBytes } = stripeShape(size, redundancy, fullCellBytes(redundancy), 0);
          const memory = new SharedArrayBuffer((k + m) * cellBytes);
          const stripe = { memory, bytes: new Uint8Array(memory) };
          fillRandom(stripe.bytes, seed);
          const content = stripe.bytes.slice(0, dataBytes);
          const upload = await coder.openUpload({ ...blobs, split: null, md5: false });
          const checksums = await upload.encode(stripe, { stripeIndex: index, dataBytes, cellBytes });
          await upload.close();
          const lost = checksums.map((_, shard) => (shard * 7 + seed) % (k + m)).slice(0, m);
          for (const shard of lost) stripe.bytes[shard * cellBytes] = (stripe.bytes[shard * cellBytes] ?? 0) ^ 0x80;
          const { ok, damaged } = await coder.verifyAndDecode(stripe, {
            ...blobs,
            stripeIndex: index,
            cellBytes,
            cells: checksums.map((checksum, shardIndex) => ({ shardIndex, checksum })),
            wanted: Array.from({ length: k }, (_, shard) => shard),
          });
          expect({ ok, damaged: damaged.length <= m }).toEqual({ ok: true, damaged: true });
          expect(Buffer.compare(stripe.bytes.subarray(0, dataBytes), content)).toBe(0);
        },
      ),
      { numRuns: 30 },
    );
  });
});

/** Bytes without structure from a seed: xorshift of 32 bits. */
function fillRandom(bytes: Uint8Array, seed: number): void {
  let state = seed | 1;
  for (let at = 0; at < bytes.length; at += 1) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    bytes[at] = state & 0xff;
  }
}
