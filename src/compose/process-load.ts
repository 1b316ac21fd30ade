import type { Clock } from "../lib/clock.ts";

/** What a process tells of itself: memory, and the share of one core that it used since it was last asked. */
export function processLoad(clock: Clock): () => Readonly<Record<string, number>> {
  let before = { cpu: process.cpuUsage(), atMs: clock.monotonicMs() };
  return () => {
    const now = { cpu: process.cpuUsage(), atMs: clock.monotonicMs() };
    const usedMs = (now.cpu.user + now.cpu.system - before.cpu.user - before.cpu.system) / 1_000;
    const cpuPercent = Math.round((100 * usedMs) / Math.max(1, now.atMs - before.atMs));
    before = now;
    return { cpuPercent, rssBytes: process.memoryUsage.rss() };
  };
}
