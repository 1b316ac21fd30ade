/** Starts the real program as a process of its own, on any of the three runtimes, for black-box tests. */
import { spawn, type ChildProcessByStdio } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { compileCache } from "./compile-cache.ts";

export type Runtime = "node" | "bun" | "deno";

export type ServeOptions = {
  readonly runtime?: Runtime;
  /** Kept afterwards; without it a temporary one is made and removed. */
  readonly dataDir?: string;
  /** Added to an environment without any `KINTSUGI_*` of the caller. */
  readonly env?: Readonly<Record<string, string>>;
  /** More flags of `kintsugi serve`. */
  readonly args?: readonly string[];
  readonly readyMsMax?: number;
};

export type Exit = { readonly code: number | null; readonly signal: NodeJS.Signals | null };

export type ServedStore = AsyncDisposable & {
  readonly url: string;
  readonly pid: number;
  readonly dataDir: string;
  /** Everything written to stdout and stderr so far. */
  logs(): string;
  /** Resolves when the process has ended, however it ended. */
  readonly exited: Promise<Exit>;
  /** Ends the process with SIGKILL, as a crash would, and waits for its end. */
  kill9(): Promise<void>;
  /** Asks for a clean stop and waits for it; kills after a time, which the exit then shows. */
  stop(): Promise<Exit>;
};

const ROOT = join(import.meta.dirname, "../..");
const STOP_MS_MAX = 20_000;

/** The command that runs TypeScript on a runtime, as this checkout has it installed. */
export function commandOf(runtime: Runtime): readonly [command: string, ...args: string[]] {
  if (runtime === "node") return [join(ROOT, "node_modules/.bin/node")];
  const command = join(ROOT, "test/node_modules/.bin", runtime);
  return runtime === "deno" ? [command, "run", "-A", "--no-prompt"] : [command, "run"];
}

/** The caller's environment without settings of the store, so that tests do not depend on where they run. */
export function cleanEnvironment(env: Readonly<Record<string, string>> = {}): NodeJS.ProcessEnv {
  const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith("KINTSUGI_"));
  return { ...Object.fromEntries(inherited), ...compileCache(), ...env };
}

/** Resolves when the store says that it is ready. Throws with its output when it ends or stays silent before that. */
export async function startServe(options: ServeOptions = {}): Promise<ServedStore> {
  const temporary = options.dataDir === undefined ? await mkdtemp(join(tmpdir(), "kintsugi-serve-")) : null;
  const dataDir = options.dataDir ?? join(temporary as string, "data");
  const [command, ...prefix] = commandOf(options.runtime ?? "node");
  const flags = ["--port", "0", "--data-dir", dataDir, ...(options.args ?? [])];
  // The working directory is not the checkout: a kintsugi.yaml that lies there must not matter.
  const child = spawn(command, [...prefix, join(ROOT, "src/main.ts"), "serve", ...flags], {
    cwd: temporary ?? tmpdir(),
    env: cleanEnvironment(options.env),
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  const exited = new Promise<Exit>((resolve) => child.once("close", (code, signal) => resolve({ code, signal })));
  const kill9 = async () => {
    child.kill("SIGKILL");
    await exited;
  };
  const removeTemporary = async () => {
    if (temporary !== null) await rm(temporary, { recursive: true, force: true });
  };
  try {
    const url = await readyUrl(child, exited, (text) => (output += text), options.readyMsMax ?? 30_000);
    return {
      url,
      pid: child.pid as number,
      dataDir,
      logs: () => output,
      exited,
      kill9,
      async stop() {
        const overdue = setTimeout(() => child.kill("SIGKILL"), STOP_MS_MAX);
        child.kill("SIGTERM");
        const exit = await exited;
        clearTimeout(overdue);
        return exit;
      },
      async [Symbol.asyncDispose]() {
        await kill9();
        await removeTemporary();
      },
    };
  } catch (cause) {
    await kill9();
    await removeTemporary();
    throw new Error(`kintsugi serve did not become ready (${String(cause)}); it wrote:\n${output}`, { cause });
  }
}

async function readyUrl(
  child: ChildProcessByStdio<null, Readable, Readable>,
  exited: Promise<Exit>,
  keep: (text: string) => void,
  readyMsMax: number,
): Promise<string> {
  await once(child, "spawn");
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const overdue = setTimeout(() => reject(new Error(`not ready within ${readyMsMax} ms`)), readyMsMax);
  let stdout = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    keep(text);
    stdout += text;
    const match = /^Kintsugi is ready at (http:\/\/[^\s,]+)/m.exec(stdout);
    if (match?.[1] !== undefined) resolve(match[1]);
  });
  child.stderr.setEncoding("utf8").on("data", keep);
  void exited.then(({ code, signal }) => reject(new Error(`ended with ${code ?? signal}`)));
  try {
    return await promise;
  } finally {
    clearTimeout(overdue);
  }
}
