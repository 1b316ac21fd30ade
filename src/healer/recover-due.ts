import type { ProcessInfo } from "../domain/node-info.ts";
import type { WalEntry } from "../wal/wal.ts";

export type DueBounds = {
  /** Age from which an intent is looked at whose writer is not there any more. */
  readonly writerGoneMs: number;
  /** The same for a writer that is there: it may hang, or have forgotten. */
  readonly writerThereMs: number;
};

/** Clocks of different machines run at different rates: what is older than this is older by any of them. */
const CLOCK_DRIFT_MS = 1_000;

/**
 * Whether an open intent is the recoverer's to look at. That its writer is dead follows from none of this.
 *
 * | the writer named in the intent …                                   | due from the age of |
 * |--------------------------------------------------------------------|---------------------|
 * | is not known, or silent for long (`down`)                          | `writerGoneMs`      |
 * | is none: the intent only remembers what to clean up                | `writerGoneMs`      |
 * | runs, but began after the intent: it took its predecessor's name   | `writerGoneMs`      |
 * | runs, or is silent for a moment (`suspect`)                        | `writerThereMs`     |
 */
export function isDue({ intent, ageMs }: WalEntry, processes: readonly ProcessInfo[], bounds: DueBounds): boolean {
  const there = processes.some(
    ({ name, state, uptimeMs, silentMs }) =>
      name === intent.writer && state !== "down" && ageMs <= uptimeMs + silentMs + CLOCK_DRIFT_MS,
  );
  return ageMs >= (there ? bounds.writerThereMs : bounds.writerGoneMs);
}
