import type { Logger as PinoInstance } from "pino";
import { pino } from "pino";
import type { Logger } from "../lib/logger.ts";

/** The process's logger, on stderr: JSON lines, or lines for people, which `auto` chooses on a terminal. Request bodies and headers are never handed to it. */
export function createPinoLogger(options: { level: string; format: "auto" | "text" | "json" }): Logger {
  const json = options.format === "json" || (options.format === "auto" && !process.stderr.isTTY);
  if (json) {
    const destination = pino.destination(BUFFERED_STDERR);
    const flush = () => destination.flushSync();
    // The last lines of a process are those that say why it ended.
    process.on("exit", flush);
    return wrap(pino({ level: options.level, base: null }, destination), flush);
  }
  const write = (line: string) => void process.stderr.write(readable(line));
  return wrap(pino({ level: options.level, base: null }, { write }), () => {});
}

/** One system call per request would be the dearest part of a small one. What a killed process loses is half a second of lines, and no error. */
const BUFFERED_STDERR = { dest: 2, sync: true, minLength: 8_192, periodicFlush: 500 };

/** An error is out at once: what comes after it may be a process that aborts. */
function wrap(instance: PinoInstance, flush: () => void): Logger {
  return {
    debug: (fields, message) => instance.debug(fields, message),
    info: (fields, message) => instance.info(fields, message),
    warn: (fields, message) => instance.warn(fields, message),
    error(fields, message) {
      instance.error(fields, message);
      flush();
    },
    child: (fields) => wrap(instance.child(fields), flush),
  };
}

const LEVEL_NAMES = new Map([
  [20, "debug"],
  [30, "info"],
  [40, "WARN"],
  [50, "ERROR"],
]);

/** `12:00:00.123 WARN a node did not take a blob node=node-3 code=node_full` */
function readable(line: string): string {
  const { level, time, msg, ...fields } = JSON.parse(line) as { level: number; time: number; msg: string };
  const stamp = new Date(time).toISOString().slice(11, 23);
  const rest = Object.entries(fields).map(
    ([name, value]) => `${name}=${typeof value === "string" ? value : JSON.stringify(value)}`,
  );
  return `${stamp} ${LEVEL_NAMES.get(level) ?? level} ${[msg, ...rest].join(" ")}\n`;
}
