import type { LeaseGrant } from "../lease/lease.ts";
import type { BackgroundWork } from "../lib/background-work.ts";
import { runInBackground } from "../lib/background-work.ts";
import type { Deadline } from "../lib/deadline.ts";
import { deadlineIn } from "../lib/deadline.ts";
import type { Wal } from "../wal/wal.ts";
import type { HealerMetrics } from "./metrics.ts";
import type { DueBounds } from "./recover-due.ts";
import { isDue } from "./recover-due.ts";
import { Looks } from "./recover-looks.ts";
import type { RecoverBounds } from "./recover-plan.ts";
import type { RecoverDeps, RecoverPolicy, RecoverSummary } from "./recover.ts";
import { ALONE, recoverRound } from "./recover.ts";

/**
 * `alone`: the store is this one process, and those of its writes that are at work are left alone. `leading`: the
 * writers are other processes, of which none is ever known to be dead, and `grant` is what allows to act on them.
 */
export type RecoveryMode =
  | { readonly kind: "alone" }
  | {
      readonly kind: "leading";
      readonly grant: Pick<LeaseGrant, "isHeld">;
      readonly bounds?: Partial<RecoveryBounds>;
    };

export type RecoveryBounds = RecoverBounds & DueBounds;

export type RecoveryStatus = {
  /** Null before the first round has ended. */
  readonly lastRoundAgoMs: number | null;
  readonly openIntents: number | null;
  /** Of all rounds together. */
  readonly counts: RecoverSummary;
};

/** Disposing waits for the round under way. */
export type Recovery = AsyncDisposable & { status(): RecoveryStatus };

export type RecoveryWork = BackgroundWork & { status(): RecoveryStatus };

export type RecoveryDeps = RecoverDeps & {
  readonly wal: Wal & {
    /** Lets go of what is settled, where the log does not do so by itself. */
    trim?(deadline: Deadline): Promise<void>;
  };
  readonly healerMetrics?: HealerMetrics;
};

export const RECOVERY_BOUNDS: RecoveryBounds = {
  writerGoneMs: 5_000,
  writerThereMs: 45_000,
  patienceMs: 45_000,
  lookAgainMs: 20_000,
  // Longer than gateways keep replaced blobs: their readers' pins must have reached this process.
  releaseMs: 10_000,
  restMs: 30_000,
};

const ALONE_INTERVAL_MS = 60_000;
/** Between two rounds of a leader while something is open, and while nothing is. */
const BUSY_INTERVAL_MS = 1_000;
const IDLE_INTERVAL_MS = 2_000;
const TRIM_INTERVAL_MS = 10_000;

/**
 * Looks again and again for intents that nobody works on: of writers that died, of writes whose outcome was unknown, or
 * whose clean-up met a node that was away. A step is one look at all that are open.
 */
export function createRecovery(deps: RecoveryDeps, mode: RecoveryMode = { kind: "alone" }): RecoveryWork {
  const policy = policyOf(deps, mode);
  const looks = new Looks(deps.clock);
  const total = { finished: 0, resurrected: 0, rolledBack: 0, left: 0 };
  let lastRoundAtMs: number | null = null;
  let openIntents: number | null = null;
  let trimmedAtMs = deps.clock.monotonicMs();
  // A store in one process has settled what it found when it opened.
  let isFirst = mode.kind === "alone";

  async function runRound(): Promise<void> {
    const beganMs = deps.clock.monotonicMs();
    const summary = await recoverRound(deps, policy, looks);
    lastRoundAtMs = deps.clock.monotonicMs();
    openIntents = summary.openCount;
    for (const outcome of ["finished", "resurrected", "rolledBack"] as const) total[outcome] += summary.counts[outcome];
    total.left = summary.counts.left;
    deps.healerMetrics?.endedRound(summary, lastRoundAtMs - beganMs);
    if (lastRoundAtMs - trimmedAtMs < TRIM_INTERVAL_MS || !policy.mayAct()) return;
    trimmedAtMs = lastRoundAtMs;
    await deps.wal.trim?.(deadlineIn(deps.clock, deps.waitMs));
  }

  return {
    name: "recover",
    async step() {
      if (!isFirst) await runRound();
      isFirst = false;
      const leadingMs = openIntents === 0 ? IDLE_INTERVAL_MS : BUSY_INTERVAL_MS;
      return { state: "idle", againInMs: mode.kind === "alone" ? ALONE_INTERVAL_MS : leadingMs };
    },
    progress: () => null,
    status: () => ({
      lastRoundAgoMs: lastRoundAtMs === null ? null : Math.round(deps.clock.monotonicMs() - lastRoundAtMs),
      openIntents,
      counts: { ...total },
    }),
  };
}

/** Recovery by itself, without other tracks. */
export function startRecovery(deps: RecoveryDeps, mode: RecoveryMode = { kind: "alone" }): Recovery {
  const work = createRecovery(deps, mode);
  const running = runInBackground(work, deps);
  return { status: work.status, [Symbol.asyncDispose]: () => running[Symbol.asyncDispose]() };
}

function policyOf({ membership }: RecoveryDeps, mode: RecoveryMode): RecoverPolicy {
  if (mode.kind === "alone") {
    const isOld = ({ ageMs }: { ageMs: number }) => ageMs >= ALONE_INTERVAL_MS;
    return { writerDead: true, bounds: ALONE, isDue: isOld, mayAct: () => true };
  }
  const bounds = { ...RECOVERY_BOUNDS, ...mode.bounds };
  return {
    writerDead: false,
    bounds,
    isDue: (entry) => isDue(entry, membership.processes(), bounds),
    mayAct: () => mode.grant.isHeld(),
  };
}
