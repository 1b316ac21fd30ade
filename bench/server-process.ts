/** A server as a process of its own, the way users run it: started, waited for, measured, stopped. */
import { spawn, type ChildProcess } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { runtimeArgs, runtimeBinary, type Runtime } from "../test/support/runtimes.ts";

export type ServerProcess = {
  readonly url: string;
  readonly pid: number;
  /** From the start of the process until it printed its address. */
  readonly readyMs: number;
  /** Asks the server to end and waits until it has. */
  stop(): Promise<void>;
};

/** Memory of a process in bytes. */
export type MemoryUse = {
  readonly rss: number;
  /** The most `rss` has been since `resetPeakMemory`. */
  readonly rssPeak: number;
  /** Without mapped files, which the kernel takes back at will: LMDB's pages are such. */
  readonly anonymous: number;
};

const ROOT = join(import.meta.dirname, "..");
const READY_MS_MAX = 30_000;
const STOP_MS_MAX = 20_000;
const ADDRESS = /http:\/\/127\.0\.0\.1:\d+/;

/** Servers that still run, so that a benchmark that fails or is interrupted leaves none behind. */
const running = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => process.exit(130));

/** `env` are settings of the store: `{ KINTSUGI_CACHE_BYTES_MAX: "0" }`. */
export function startStore(
  runtime: Runtime,
  dataDir: string,
  env: Readonly<Record<string, string>> = {},
): Promise<ServerProcess> {
  return startServer(runtime, ["src/main.ts", "serve", "--port", "0", "--data-dir", dataDir], env);
}

export function startBareServer(runtime: Runtime): Promise<ServerProcess> {
  return startServer(runtime, ["bench/yardsticks/bare-hono.ts"]);
}

async function startServer(
  runtime: Runtime,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<ServerProcess> {
  const startedAt = performance.now();
  const child = spawn(runtimeBinary(runtime), [...runtimeArgs(runtime), ...args], {
    cwd: ROOT,
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  running.add(child);
  const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  void ended.then(() => running.delete(child));
  const url = await readAddress(child, `${runtime} ${args.join(" ")}`);
  return {
    url,
    pid: child.pid as number,
    readyMs: performance.now() - startedAt,
    async stop() {
      child.kill("SIGTERM");
      const tooLate = setTimeout(() => child.kill("SIGKILL"), STOP_MS_MAX);
      await ended;
      clearTimeout(tooLate);
    },
  };
}

/** Reads what the server prints until its address comes; later output is let go, so that the pipe never fills. */
function readAddress(child: ChildProcess, name: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let output = "";
    const fail = (why: string) => reject(new Error(`Cannot start ${name}: ${why}\n${output}`));
    const tooLate = setTimeout(() => fail(`no address after ${READY_MS_MAX} ms`), READY_MS_MAX);
    const read = (chunk: Buffer) => {
      if (output.length > 64 * 1024) return;
      output += chunk.toString();
      const url = ADDRESS.exec(output)?.[0];
      if (!url || !output.slice(output.indexOf(url) + url.length)) return;
      clearTimeout(tooLate);
      resolve(url);
    };
    child.stdout?.on("data", read);
    child.stderr?.on("data", read);
    child.once("error", (cause) => fail(cause.message));
    child.once("exit", (code) => {
      clearTimeout(tooLate);
      fail(`it ended with ${code}`);
    });
  });
}

/** Reads what Linux tells of a process; null elsewhere. */
export function memoryOf(pid: number): MemoryUse | null {
  try {
    const status = readFileSync(`/proc/${pid}/status`, "utf8");
    const field = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(status)?.[1] ?? 0) * 1024;
    return { rss: field("VmRSS"), rssPeak: field("VmHWM"), anonymous: field("RssAnon") + field("RssShmem") };
  } catch {
    return null;
  }
}

export function resetPeakMemory(pid: number): void {
  writeFileSync(`/proc/${pid}/clear_refs`, "5");
}
