/**
 * Kills what is left of a cluster when the process that started it dies without being able to: by kill -9, or with a
 * test runner that ran out of time. A shell of its own waits for the end of a pipe that only that process holds.
 */
import { spawn } from "node:child_process";
import type { Socket } from "node:net";

export type Guard = {
  /** From now on this process group ends with us. */
  watch(pid: number): void;
  forget(pid: number): void;
  /** Ends the guard; whatever it still watches is killed. Resolves when it is gone. */
  close(): Promise<void>;
};

const SCRIPT = `
pids=
while read -r op pid; do
  if [ "$op" = watch ]; then pids="$pids $pid"; continue; fi
  kept=
  for each in $pids; do [ "$each" = "$pid" ] || kept="$kept $each"; done
  pids=$kept
done
for pid in $pids; do kill -9 -"$pid" 2>/dev/null; done
`;

export function startGuard(): Guard {
  // A group of its own: a Ctrl-C in the terminal must not end it first.
  const shell = spawn("sh", ["-c", SCRIPT], { detached: true, stdio: ["pipe", "ignore", "ignore"] });
  const ended = new Promise<void>((resolve) => shell.once("exit", () => resolve()).once("error", () => resolve()));
  shell.stdin.on("error", () => {});
  // Whoever has nothing else to do may end, which is what this waits for.
  shell.unref();
  (shell.stdin as Socket).unref();
  return {
    watch: (pid) => void shell.stdin.write(`watch ${pid}\n`),
    forget: (pid) => void shell.stdin.write(`forget ${pid}\n`),
    async close() {
      shell.ref();
      shell.stdin.end();
      await ended;
    },
  };
}
