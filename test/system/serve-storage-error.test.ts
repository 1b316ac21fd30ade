import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { expect, it } from "vitest";
import { cleanEnvironment, commandOf, startServe } from "../support/serve.ts";

const MAIN = join(import.meta.dirname, "../../src/main.ts");
/** Counted per thread: late enough to start and to acknowledge some writes. */
const INJECTION = "inject=fdatasync:error=EIO:when=20+";
const WRITES_MAX = 2_000;

it("serve leaves with code 74 when the disk refuses a metadata write, and loses nothing acknowledged", async (context) => {
  if (spawnSync("strace", ["--version"]).status !== 0) return context.skip("strace is not installed");
  const dataDir = await mkdtemp(join(tmpdir(), "kintsugi-eio-"));
  try {
    const [command, ...prefix] = commandOf("node");
    const serve = [command, ...prefix, MAIN, "serve", "--port", "0", "--data-dir", dataDir];
    const child = spawn("strace", ["-f", "-o", "/dev/null", "-e", INJECTION, ...serve], {
      cwd: dataDir,
      env: cleanEnvironment(),
      stdio: ["ignore", "pipe", "ignore"],
    });
    const exited = once(child, "exit");
    const acknowledged = await writeUntilRefused(await readyUrl(child.stdout));
    expect(await exited).toEqual([74, null]);
    expect(acknowledged).toBeGreaterThan(0);

    await using store = await startServe({ dataDir });
    for (let n = 0; n < acknowledged; n += 1) {
      expect(await (await fetch(`${store.url}/objects/k${n}`)).text()).toBe(`value ${n}`);
    }
  } finally {
    await rm(dataDir, { recursive: true });
  }
});

async function readyUrl(stdout: NodeJS.ReadableStream): Promise<string> {
  for await (const line of createInterface({ input: stdout })) {
    const match = /^Kintsugi is ready at (http:\/\/[^\s,]+)/.exec(line);
    if (match?.[1] !== undefined) return match[1];
  }
  throw new Error("the store ended before it was ready");
}

/** Writes one small object after the other; answers how many were acknowledged before the first that was not. */
async function writeUntilRefused(url: string): Promise<number> {
  for (let n = 0; n < WRITES_MAX; n += 1) {
    const put = { method: "PUT", body: `value ${n}` };
    const response = await fetch(`${url}/objects/k${n}?strategy=inline`, put).catch(() => null);
    if (response?.status !== 201) return n;
  }
  throw new Error(`the disk took ${WRITES_MAX} writes`);
}
