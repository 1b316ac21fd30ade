/**
 * The torture suite as CI runs it: a short campaign of a seed that stays the same, and campaigns with a bug switched on
 * that have to find it. `npm run test:faults` runs longer ones, with a seed of their own each time.
 */
import { spawn } from "node:child_process";
import { join } from "node:path";
import { expect, test } from "vitest";

const MAIN = join(import.meta.dirname, "../faults/main.ts");
const TIMEOUT_MS = 420_000;

/** Exit code and output, which also goes to the log of the test run line by line. */
async function runSuite(...args: readonly string[]): Promise<{ code: number | null; output: string }> {
  const child = spawn(process.execPath, [MAIN, ...args], { stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8");
    stream.on("data", (text: string) => {
      output += text;
      process.stdout.write(text);
    });
  }
  const code = await new Promise<number | null>((resolve) => child.once("close", resolve));
  return { code, output };
}

test(
  "npm run test:faults finds every promise kept, whatever kind of fault a campaign brings",
  async () => {
    const { code, output } = await runSuite("--seed", "55", "--seconds", "45");
    expect(output).toContain("every promise was kept");
    expect(code, output).toBe(0);
  },
  TIMEOUT_MS,
);

test(
  "npm run test:faults finds a node that acknowledges what it has not stored",
  async () => {
    const { code, output } = await runSuite(
      "--seed",
      "5",
      "--seconds",
      "8",
      "--only",
      "restart-all",
      "--bug",
      "ack-early",
    );
    expect(output).toMatch(/object_damaged|cannot be read/);
    expect(code, output).toBe(0);
  },
  TIMEOUT_MS,
);

test(
  "npm run test:faults finds a gateway that answers what it knew a moment ago",
  async () => {
    const { code, output } = await runSuite("--seed", "5", "--seconds", "6", "--only", "pause", "--bug", "stale-reads");
    expect(output).toMatch(/cannot be explained|was put and gone|were both current/);
    expect(code, output).toBe(0);
  },
  TIMEOUT_MS,
);
