import { describe, expect, it } from "vitest";
import { systemRandom } from "../../../src/lib/random.ts";

/** More draws than fit the buffer that numbers come from. */
const DRAWS = 5_000;

describe("systemRandom", () => {
  it("next() stays in [0, 1), fills all of it and does not repeat", () => {
    const drawn = Array.from({ length: DRAWS }, () => systemRandom.next());
    expect(drawn.every((value) => value >= 0 && value < 1)).toBe(true);
    // Each of 16 bins gets about 312 of 5,000; fewer than 150 would be a billion to one.
    const bins = new Array<number>(16).fill(0);
    for (const value of drawn) bins[Math.floor(value * 16)] = (bins[Math.floor(value * 16)] ?? 0) + 1;
    expect(Math.min(...bins)).toBeGreaterThan(150);
    // 32 bits each: a handful may coincide, a buffer used twice would show in thousands.
    expect(new Set(drawn).size).toBeGreaterThan(DRAWS - 10);
  });

  it("bytes() gives fresh memory of the length asked for", () => {
    const [first, second] = [systemRandom.bytes(32), systemRandom.bytes(32)];
    expect([first.length, second.length, systemRandom.bytes(0).length]).toEqual([32, 32, 0]);
    expect(Buffer.compare(first, second)).not.toBe(0);
    expect(first.buffer).not.toBe(second.buffer);
  });
});
