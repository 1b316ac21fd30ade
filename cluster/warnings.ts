/** Which lines of all the logs a person at the terminal should see. */
import type { ProcessRole } from "./plan.ts";

const SHOWN_PER_WINDOW_MAX = 3;
const WINDOW_MS = 10_000;
const LEVEL_WARN = 40;
const INFO_START = '{"level":30,';

/** The warning in a line of a log, in words; null for everything else. */
export function warningOf(role: ProcessRole, line: string): string | null {
  if (role === "nats") return /\[(?:FTL)\] (.*)$/.exec(line)?.[1] ?? null;
  if (role === "nginx") return /\[(?:crit|alert|emerg)\] (?:\d+#\d+: )?(.*)$/.exec(line)?.[1] ?? null;
  // Most lines tell of a request that went well, and there are thousands of them.
  if (!line.startsWith("{") || line.startsWith(INFO_START)) return null;
  const { level, time: _, msg, ...fields } = parseFields(line);
  if (typeof level !== "number" || level < LEVEL_WARN) return null;
  const rest = Object.entries(fields).map(([name, value]) => `${name}=${String(value)}`);
  return [String(msg), ...rest].join(" ");
}

/** Lets a few lines of each process through and says where the others are: a terminal is no log. */
export function createWarningFilter(now: () => number = () => performance.now()) {
  const windows = new Map<string, { startMs: number; shown: number }>();
  return (name: string, warning: string, logFile: string): string | null => {
    let window = windows.get(name);
    if (window === undefined || now() - window.startMs > WINDOW_MS) {
      window = { startMs: now(), shown: 0 };
      windows.set(name, window);
    }
    window.shown += 1;
    if (window.shown > SHOWN_PER_WINDOW_MAX) return null;
    const more = window.shown === SHOWN_PER_WINDOW_MAX ? ` (more in ${logFile})` : "";
    return `${name}: ${warning}${more}`;
  };
}

function parseFields(line: string): Readonly<Record<string, unknown>> {
  try {
    return JSON.parse(line) as Readonly<Record<string, unknown>>;
  } catch {
    return {};
  }
}
