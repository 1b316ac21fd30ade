import type { Clock } from "./clock.ts";

const PAUSE_MS_MAX = 20;

/**
 * How long a group commit pauses behind a round. A round costs about the same with one member as with many, so under
 * load fewer and fuller ones leave more of the machine to the work itself. The pause is as long as the round was: short
 * where rounds are quick, longer where a busy machine makes them slow, which is where fewer of them help most. A lone
 * member had no company that would have come by waiting, so nobody waits behind it.
 */
export async function pauseAfter(
  clock: Clock,
  round: { readonly startedAtMs: number; readonly memberCount: number },
  signal?: AbortSignal,
): Promise<void> {
  const pauseMs = Math.min(clock.monotonicMs() - round.startedAtMs, PAUSE_MS_MAX);
  if (round.memberCount > 1 && pauseMs > 0) await clock.sleep(pauseMs, signal);
}
