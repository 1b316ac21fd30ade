/** Finds processes that a test run started and did not end, by a mark in their environment. Linux only. */
import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

export type Leftover = { readonly pid: number; readonly command: string };

const PATIENCE_MS = 3_000;
const POLL_MS = 100;

/** Gives processes that are just ending a moment, then kills the rest and answers which they were. */
export async function endLeftovers(mark: string): Promise<Leftover[]> {
  for (let waitedMs = 0; waitedMs < PATIENCE_MS && findMarked(mark).length > 0; waitedMs += POLL_MS)
    await sleep(POLL_MS);
  const leftovers = findMarked(mark);
  for (const { pid } of leftovers) {
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // It ended between the two looks.
    }
  }
  return leftovers;
}

function findMarked(mark: string): Leftover[] {
  if (process.platform !== "linux") return [];
  const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  return pids.flatMap((pid) => {
    try {
      if (!readFileSync(`/proc/${pid}/environ`, "utf8").split("\0").includes(mark)) return [];
      const command = readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ").trim();
      return command === "" ? [] : [{ pid: Number(pid), command }];
    } catch {
      return []; // gone by now, or someone else's
    }
  });
}
