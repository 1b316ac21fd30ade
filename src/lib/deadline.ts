import type { Clock } from "./clock.ts";

/** A moment on the monotonic clock by which a wait must end. Passed down a call chain, so that waits never add up. */
export type Deadline = { readonly atMs: number };

export function deadlineIn(clock: Clock, delayMs: number): Deadline {
  return { atMs: clock.monotonicMs() + delayMs };
}

export function remainingMs(clock: Clock, deadline: Deadline): number {
  return Math.max(0, deadline.atMs - clock.monotonicMs());
}

/**
 * Waits for `work` no longer than `deadline`. When time is up, rejects with what `onExpiry` makes; the work itself goes
 * on and its late outcome is swallowed, so whoever calls this treats it as unknown.
 */
export async function withDeadline<T>(
  clock: Clock,
  deadline: Deadline,
  work: Promise<T>,
  onExpiry: () => Error,
): Promise<T> {
  return await new Promise<T>((resolve, reject) => {
    const timer = clock.startTimer(remainingMs(clock, deadline), () => reject(onExpiry()));
    work.then(
      (value) => {
        timer.cancel();
        resolve(value);
      },
      (cause: unknown) => {
        timer.cancel();
        reject(cause);
      },
    );
  });
}
