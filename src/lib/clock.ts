/**
 * Time as a parameter. Everything that waits or stamps takes a `Clock`, so that a whole store can run in one test
 * process under a clock the test moves. `systemClock` is the only place that touches the runtime's timers.
 */
export type Timer = { cancel(): void };

export type Clock = {
  /** Wall time in milliseconds since 1970. For people and for ULIDs, never for ordering or for measuring waits. */
  wallMs(): number;
  /** Milliseconds from an arbitrary start; never goes backwards. */
  monotonicMs(): number;
  /** Runs `action` once after `delayMs`. A pending timer does not keep the process alive. */
  startTimer(delayMs: number, action: () => void): Timer;
  /** Resolves after `delayMs`, or at once when `signal` aborts. */
  sleep(delayMs: number, signal?: AbortSignal): Promise<void>;
};

export const systemClock: Clock = {
  wallMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  startTimer(delayMs, action) {
    const handle = setTimeout(action, delayMs);
    handle.unref();
    return { cancel: () => clearTimeout(handle) };
  },
  sleep(delayMs, signal) {
    return new Promise((resolve) => {
      if (signal?.aborted) return resolve();
      const finish = () => {
        clearTimeout(handle);
        signal?.removeEventListener("abort", finish);
        resolve();
      };
      const handle = setTimeout(finish, delayMs);
      signal?.addEventListener("abort", finish, { once: true });
    });
  },
};
