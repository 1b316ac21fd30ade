/** Starts again what ended by itself, as a supervisor does in production; slower each time it fails soon. */
import { setTimeout as sleep } from "node:timers/promises";
import { describeExit, type ClusterProcess, type Exit } from "./process.ts";

export type RestartRules = {
  /** False: it stays down. */
  readonly restart: boolean;
  /** Says one line to whoever looks on. */
  readonly say: (line: string) => void;
  /** Ends all waiting. */
  readonly signal: AbortSignal;
  /** How long it is away at least; the default is long enough to see what the others do without it. */
  readonly delayMsMin?: number;
};

const DELAY_MS_MIN = 2_000;
const DELAY_MS_MAX = 30_000;
/** Whoever lived so long begins with the shortest delay again. */
const LIFE_MS_SOUND = 60_000;
/** The command line or the settings are wrong, or stored data is damaged: the next start would end the same way. */
const HOPELESS_CODES: ReadonlySet<number> = new Set([2, 5]);

/** Answers what to call when a process has ended. */
export function createRestarter({ restart, say, signal, delayMsMin = DELAY_MS_MIN }: RestartRules) {
  const delays = new Map<ClusterProcess, { delayMs: number; readyAt: number }>();
  return async (process: ClusterProcess, exit: Exit): Promise<void> => {
    let end = `${process.name} ${describeExit(exit)}`;
    const known = delays.get(process);
    const livedLong = performance.now() - (known?.readyAt ?? 0) > LIFE_MS_SOUND;
    let delayMs = known === undefined || livedLong ? delayMsMin : Math.min(known.delayMs * 2, DELAY_MS_MAX);
    let code = exit.code;
    for (;;) {
      if (signal.aborted) return;
      if (!restart || (code !== null && HOPELESS_CODES.has(code))) {
        say(`${end} and stays down; its log is ${process.plan.logFile}`);
        return;
      }
      say(`${end}; it is started again in ${delayMs / 1_000} s`);
      const since = performance.now();
      try {
        await sleep(delayMs, undefined, { signal });
        await process.start(signal);
        const awayS = ((performance.now() - since) / 1_000).toFixed(1);
        say(`${process.name} is back after ${awayS} s, now pid ${process.pid}`);
        delays.set(process, { delayMs, readyAt: performance.now() });
        return;
      } catch (cause) {
        if (signal.aborted) return;
        end = (cause as Error).message.split("; it wrote:")[0] as string;
        code = (await process.exited).code;
        delayMs = Math.min(delayMs * 2, DELAY_MS_MAX);
      }
    }
  };
}
