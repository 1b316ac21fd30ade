import type { Logger } from "../../src/lib/logger.ts";

/** A logger that keeps the messages, for tests that want to know what a program noticed. */
export function recordingLogger() {
  const kept: string[] = [];
  const keep = (_: Record<string, unknown>, message: string) => void kept.push(message);
  const logger: Logger = { debug: keep, info: keep, warn: keep, error: keep, child: () => logger };
  return { logger, messages: (): readonly string[] => kept, clear: () => void kept.splice(0) };
}
