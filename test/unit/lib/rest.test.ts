import { describe, expect, test } from "vitest";
import { restAfter } from "../../../src/lib/rest.ts";

describe("restAfter()", () => {
  test.each([
    ["a lone member rests nobody", { memberCount: 1, tookMs: 8 }, 0],
    ["shared rounds rest as long as they took", { memberCount: 2, tookMs: 8 }, 8],
    ["however many members they have", { memberCount: 200, tookMs: 8 }, 8],
    ["but never long, however slow they were", { memberCount: 2, tookMs: 5_000 }, 20],
  ])("%s", (_, round, expected) => {
    expect(restAfter(round)).toBe(expected);
  });
});
