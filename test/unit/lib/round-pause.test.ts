import { expect, test } from "vitest";
import { pauseAfter } from "../../../src/lib/round-pause.ts";
import { ManualClock, settle } from "../../support/manual-clock.ts";

test.each([
  ["does not pause behind a lone member", { memberCount: 1, tookMs: 8 }, 0],
  ["pauses behind a shared round as long as it took", { memberCount: 2, tookMs: 8 }, 8],
  ["pauses no longer for more members", { memberCount: 200, tookMs: 8 }, 8],
  ["never pauses long, however slow the round was", { memberCount: 2, tookMs: 5_000 }, 20],
])("pauseAfter() %s", async (_, { memberCount, tookMs }, pauseMs) => {
  const clock = new ManualClock();
  const startedAtMs = clock.monotonicMs();
  clock.advance(tookMs);
  let isOver = false;
  void pauseAfter(clock, { startedAtMs, memberCount }).then(() => (isOver = true));
  if (pauseMs > 0) clock.advance(pauseMs - 1);
  await settle();
  expect(isOver).toBe(pauseMs === 0);
  clock.advance(1);
  await settle();
  expect(isOver).toBe(true);
});
