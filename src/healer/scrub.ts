/**
 * A node verifies everything that it holds, slowly and again and again: bit rot is found before the second copy rots too.
 * What is bad becomes work for the healers. A run goes on over restarts where it was.
 */
import type { BlobStore } from "../blob/blob-store.ts";
import type { BackgroundWork, StepResult, WorkProgress } from "../lib/background-work.ts";
import type { ScrubState } from "./scrub-state.ts";
import type { VerifyDeps } from "./verify-node.ts";
import { NodeVerification } from "./verify-node.ts";

export type ScrubDeps = VerifyDeps & {
  readonly store: BlobStore;
  /** How often a run begins, counted from the end of the last one. */
  readonly everyMs: number;
  /** Durable. */
  readonly state: { read(): Promise<ScrubState>; change(change: () => ScrubState): Promise<ScrubState> };
};

export type Scrub = BackgroundWork & {
  /** Begins a run with the next step, from the start. */
  runNow(): void;
  figures(): Readonly<Record<string, number>>;
};

/** So few that a step is short also at a low rate. */
const BLOBS_PER_STEP = 8;
const SAVE_MS = 10_000;
const LOOK_MS_MAX = 3_600_000;

export function createScrub(deps: ScrubDeps): Scrub {
  const { clock, store, state } = deps;
  let run: NodeVerification | null = null;
  let isWanted = false;
  let savedAtMs = Number.NEGATIVE_INFINITY;
  const totals = { runsEnded: 0, blobsVerified: 0, verifiedBytes: 0, blobsBad: 0 };

  function begin(from: ScrubState["position"]): NodeVerification {
    const verify = { ...deps, blobsPerPage: BLOBS_PER_STEP };
    return from === null ? new NodeVerification(verify, store) : new NodeVerification(verify, store, from);
  }

  /** The run under way, or how long until there is one. */
  async function due(): Promise<NodeVerification | number> {
    if (isWanted) {
      isWanted = false;
      return begin(null);
    }
    if (run !== null) return run;
    const { position, endedAtMs } = await state.read();
    if (position !== null) return begin(position);
    // A node that was just made has nothing to scrub: its first run is due like any other.
    const sinceMs = endedAtMs === null ? null : clock.wallMs() - endedAtMs;
    if (sinceMs === null) await state.change(() => ({ position: null, endedAtMs: clock.wallMs() }));
    // A wall clock that was set back must not put it off for ever.
    return sinceMs !== null && (sinceMs >= deps.everyMs || sinceMs < 0) ? begin(null) : deps.everyMs - (sinceMs ?? 0);
  }

  async function save(): Promise<void> {
    const nowMs = clock.monotonicMs();
    if (run === null || nowMs - savedAtMs < SAVE_MS) return;
    savedAtMs = nowMs;
    const { after, count, bad, bytes } = run.status();
    const { endedAtMs } = await state.read();
    await state.change(() => ({ position: { after, count, bad, bytes }, endedAtMs }));
  }

  return {
    name: "scrub",
    async step(signal): Promise<StepResult> {
      const next = await due();
      if (typeof next === "number") return { state: "idle", againInMs: Math.min(LOOK_MS_MAX, next) };
      run = next;
      const before = run.status();
      await run.step(signal);
      const now = run.status();
      totals.blobsVerified += now.count - before.count;
      totals.verifiedBytes += now.bytes - before.bytes;
      totals.blobsBad += now.bad - before.bad;
      if (!now.isDone) {
        await save();
        return { state: "busy" };
      }
      await state.change(() => ({ position: null, endedAtMs: clock.wallMs() }));
      run = null;
      totals.runsEnded += 1;
      return { state: "busy" };
    },
    progress(): WorkProgress | null {
      return run?.progress() ?? null;
    },
    runNow: () => void (isWanted = true),
    figures: () => ({ ...totals }),
  };
}
