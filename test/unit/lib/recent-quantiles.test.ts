import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { RecentQuantiles } from "../../../src/lib/recent-quantiles.ts";

/** What a bucket adds at most. */
const STEP = 2 ** 0.25;

describe("RecentQuantiles", () => {
  it("at() is never below the figure at that rank, and at most a bucket above it", () => {
    const figures = fc.array(fc.double({ min: 0.07, max: 10_000, noNaN: true }), { minLength: 1, maxLength: 50 });
    fc.assert(
      fc.property(figures, fc.constantFrom(0.5, 0.9, 0.95), (values, quantile) => {
        // So slow to forget that all figures weigh the same.
        const recent = new RecentQuantiles(1e9);
        for (const value of values) recent.note(value);
        const sorted = values.toSorted((a, b) => a - b);
        const at = recent.at(quantile) as number;
        const rank = Math.max(0, Math.ceil(quantile * values.length - 1e-6) - 1);
        expect(at).toBeGreaterThanOrEqual((sorted[rank] as number) * (1 - 1e-9));
        const next = sorted[Math.min(values.length - 1, rank + 1)] as number;
        expect(at).toBeLessThanOrEqual(Math.max(next, 1 / 16) * STEP * (1 + 1e-9));
      }),
      { numRuns: 500 },
    );
  });

  it("at() follows what changes: after a few half-lives only the latest count, however many figures there were", () => {
    const recent = new RecentQuantiles(16);
    for (let count = 0; count < 100_000; count += 1) recent.note(3);
    for (let count = 0; count < 16 * 5; count += 1) recent.note(300);
    expect(recent.at(0.5)).toBeGreaterThan(299);
    expect(recent.at(0.05)).toBeGreaterThan(299);
    for (let count = 0; count < 100_000; count += 1) recent.note(3);
    expect(recent.at(0.95)).toBeLessThan(3 * STEP);
  });

  it("at() knows nothing before the first figure and after clear()", () => {
    const recent = new RecentQuantiles(16);
    expect(recent.at(0.5)).toBeNull();
    recent.note(0);
    expect(recent.at(0.5)).toBe(1 / 16);
    recent.clear();
    expect(recent.at(0.5)).toBeNull();
    recent.note(1e9);
    expect(recent.at(0.5)).toBe(2 ** 14);
  });
});
