import { describe, expect, test } from "vitest";
import { StripePool } from "../../../src/coding/stripe-pool.ts";
import { AssertionError } from "../../../src/lib/assert.ts";
import { KIB, MIB } from "../../../src/lib/bytes.ts";

describe("StripePool", () => {
  test.each([1, 4 * KIB, 4 * KIB + 1, 100_000, MIB, MIB + 1, 6 * 1_048_064])(
    "allocateStripe() gives room for %d bytes and at most a quarter more",
    (bytes) => {
      const { memory, bytes: view } = new StripePool({ keptBytesMax: MIB }).allocateStripe(bytes);
      expect(view.buffer).toBe(memory);
      expect(view.length).toBe(memory.byteLength);
      expect(view.length).toBeGreaterThanOrEqual(bytes);
      expect(view.length).toBeLessThanOrEqual(Math.max(4 * KIB, bytes * 1.25));
    },
  );

  test("allocateStripe() gives a released stripe of the same size again", () => {
    const pool = new StripePool({ keptBytesMax: MIB });
    const stripe = pool.allocateStripe(100_000);
    expect(pool.allocateStripe(100_000)).not.toBe(stripe);
    pool.release(stripe);
    expect(pool.allocateStripe(200_000)).not.toBe(stripe);
    expect(pool.allocateStripe(99_999)).toBe(stripe);
  });

  test("release() keeps no more than the limit and lets go of what went unused longest", () => {
    const pool = new StripePool({ keptBytesMax: 64 * KIB });
    const [first, second, third] = [16, 24, 32].map((kib) => pool.allocateStripe(kib * KIB)) as [never, never, never];
    pool.release(first);
    pool.release(second);
    expect(pool.keptBytes).toBe(40 * KIB);
    pool.release(third);
    expect(pool.keptBytes).toBe(56 * KIB);
    expect(pool.allocateStripe(16 * KIB), "the oldest is gone").not.toBe(first);
    expect(pool.allocateStripe(24 * KIB)).toBe(second);
    expect(pool.allocateStripe(32 * KIB)).toBe(third);
    expect(pool.keptBytes).toBe(0);
  });

  test("release() keeps nothing larger than the limit", () => {
    const pool = new StripePool({ keptBytesMax: 64 * KIB });
    const small = pool.allocateStripe(4 * KIB);
    pool.release(small);
    pool.release(pool.allocateStripe(MIB));
    expect(pool.keptBytes).toBe(4 * KIB);
    expect(pool.allocateStripe(4 * KIB)).toBe(small);
  });

  test("release() asserts that a stripe is given back once, to its own pool", () => {
    const pool = new StripePool({ keptBytesMax: MIB });
    const stripe = pool.allocateStripe(1);
    pool.release(stripe);
    expect(() => pool.release(stripe)).toThrow(AssertionError);
    const foreign = new StripePool({ keptBytesMax: MIB }).allocateStripe(1);
    expect(() => pool.release(foreign)).toThrow(AssertionError);
  });
});
