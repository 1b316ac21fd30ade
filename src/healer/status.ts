import type { Leadership } from "./leadership.ts";
import type { RecoveryStatus } from "./recovery-loop.ts";
import type { RecoverSummary } from "./recover.ts";

/** What a healer shows of itself. All but the holder is known to the leader alone. */
export type HealerStatus = {
  readonly leading: boolean;
  /** Who leads, as far as this process knows. */
  readonly holder: string | null;
  /** Wall time at which this process began to lead. */
  readonly sinceMs: number | null;
  readonly lastRoundAgoMs: number | null;
  readonly openIntents: number | null;
  /** What recovery did in this term; `left` is what its last round had to leave. */
  readonly counts: RecoverSummary;
};

/** `recovery` is how it is in the term under way, or null. */
export function healerStatus(leadership: Leadership, recovery: RecoveryStatus | null): HealerStatus {
  const leading = leadership.isLeading();
  const nothing = { lastRoundAgoMs: null, openIntents: null, counts: NOTHING_DONE };
  return {
    leading,
    holder: leadership.holder(),
    sinceMs: leadership.sinceMs(),
    ...(leading && recovery !== null ? recovery : nothing),
  };
}

const NOTHING_DONE: RecoverSummary = { finished: 0, resurrected: 0, rolledBack: 0, left: 0 };
