import type { HealingControls } from "../domain/healing.ts";
import type { Clock, Timer } from "../lib/clock.ts";
import type { Logger } from "../lib/logger.ts";
import type { HealingStore } from "./healing-store.ts";

/** What operators have set, as this process knows it by now. */
export type ControlsWatch = Disposable & {
  /** As configured while nothing is known. */
  current(): HealingControls;
  /** Calls `listener` at once and whenever they are read; the function given back ends that. */
  watch(listener: (controls: HealingControls) => void): () => void;
  /** Reads them now; what cannot be read stays as it was. */
  refresh(): Promise<void>;
};

const POLL_MS = 2_000;

/** Reads the controls again and again: whoever sets them need not know who applies them. */
export function watchControls(
  store: Pick<HealingStore, "readControls">,
  { clock, logger }: { readonly clock: Clock; readonly logger: Logger },
): ControlsWatch {
  const listeners = new Set<(controls: HealingControls) => void>();
  let current: HealingControls = {};
  let isClosed = false;
  let timer: Timer | null = null;
  let isReadable = true;

  async function refresh(): Promise<void> {
    try {
      const controls = await store.readControls();
      if (isClosed) return;
      current = controls;
      isReadable = true;
      for (const listener of listeners) listener(current);
    } catch (cause) {
      // Told once, not at every look of an outage.
      if (isReadable)
        logger.warn({ cause: String(cause) }, "the controls of healing cannot be read; they stay as they are");
      isReadable = false;
    }
  }

  function poll(): void {
    void refresh().finally(() => {
      if (!isClosed) timer = clock.startTimer(POLL_MS, poll);
    });
  }

  poll();
  return {
    current: () => current,
    watch(listener) {
      const own = (controls: HealingControls) => listener(controls);
      listeners.add(own);
      own(current);
      return () => void listeners.delete(own);
    },
    refresh,
    [Symbol.dispose]() {
      isClosed = true;
      timer?.cancel();
      listeners.clear();
    },
  };
}
