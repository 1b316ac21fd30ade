import { recoverIntents } from "./recover.ts";
import type { RecoverDeps } from "./recover.ts";

const INTERVAL_MS = 60_000;

/**
 * Looks again and again for intents that nobody works on: of writes whose outcome was unknown, or whose clean-up met a
 * node that was away. Disposing waits for the round under way.
 */
export function startRecovery(deps: RecoverDeps): AsyncDisposable {
  let round: Promise<unknown> = Promise.resolve();
  let timer = deps.clock.startTimer(INTERVAL_MS, run);
  let stopped = false;

  function run(): void {
    // Every writer of an embedded store lives in this process, and those at work are left alone.
    round = recoverIntents(deps, { writerDead: true, ageMsMin: INTERVAL_MS })
      .catch((cause: unknown) => deps.logger.warn({ cause: String(cause) }, "a round of recovery failed"))
      .finally(() => {
        if (!stopped) timer = deps.clock.startTimer(INTERVAL_MS, run);
      });
  }

  return {
    async [Symbol.asyncDispose]() {
      stopped = true;
      timer.cancel();
      await round;
    },
  };
}
