import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";

/** A child that is killed with the test. `lines` are what it wrote until now. */
export type TestChild = AsyncDisposable & {
  readonly lines: readonly string[];
  /** Resolves when this many lines have come; rejects when the child ends before. */
  linesReach(count: number): Promise<void>;
  /** kill -9; resolves when it is gone and all its lines have been read. */
  kill(): Promise<void>;
  /** Such as SIGSTOP and SIGCONT. */
  signal(name: NodeJS.Signals): void;
  /** Resolves with its exit code. */
  ended(): Promise<number | null>;
};

export function startChild(command: string, args: readonly string[]): TestChild {
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "inherit"] });
  const lines: string[] = [];
  const reader = createInterface({ input: child.stdout });
  let onLine = () => {};
  reader.on("line", (line) => {
    lines.push(line);
    onLine();
  });
  const closed = once(child, "close");
  const ended = async () => (await closed)[0] as number | null;
  const kill = async () => {
    child.kill("SIGKILL");
    await closed;
  };
  const linesReach = (count: number) =>
    new Promise<void>((resolve, reject) => {
      onLine = () => (lines.length >= count ? resolve() : undefined);
      onLine();
      closed.then(
        () => reject(new Error(`The child ended after ${lines.length} of ${count} lines`)),
        (cause: unknown) => reject(cause),
      );
    });
  const signal = (name: NodeJS.Signals) => void child.kill(name);
  return { lines, linesReach, kill, signal, ended, [Symbol.asyncDispose]: kill };
}
