/** `kintsugi serve` as its users meet it: start, greeting, stop, and what keeps it from starting. */
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { cleanEnvironment, startServe, type ServeOptions } from "../support/serve.ts";

const ROOT = join(import.meta.dirname, "../..");

async function temporaryDirectory(): Promise<AsyncDisposable & { readonly path: string }> {
  const path = await mkdtemp(join(tmpdir(), "kintsugi-system-"));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}

/** What a store that must not start says on its way out. */
async function failureOf(options: ServeOptions): Promise<string> {
  try {
    await using store = await startServe(options);
    return `it started at ${store.url}`;
  } catch (cause) {
    return String(cause);
  }
}

/** Runs a shell script to its end; its output and exit code. */
function shell(script: string, cwd: string): Promise<{ exitCode: number; output: string }> {
  const path = `${join(ROOT, "node_modules/.bin")}:${process.env["PATH"] ?? ""}`;
  return new Promise((resolve) => {
    execFile("sh", ["-euc", script], { cwd, env: cleanEnvironment({ PATH: path }) }, (error, stdout, stderr) => {
      resolve({ exitCode: typeof error?.code === "number" ? error.code : 0, output: stdout + stderr });
    });
  });
}

describe.each(["node", "bun", "deno"] as const)("kintsugi serve on %s", (runtime) => {
  test("greets with lines that work when pasted, and stops cleanly", async () => {
    await using store = await startServe({ runtime });
    const lines = store.logs().match(/^ {2}curl .*$/gm) ?? [];
    expect(lines).toHaveLength(3);
    await using directory = await temporaryDirectory();
    const outcome = await shell(lines.map((line) => line.replace("curl", "curl -sSf")).join("\n"), directory.path);
    expect(`${outcome.exitCode}: ${outcome.output}`).toMatch(/^0: /);
    expect(outcome.output).toMatch(/\{"battery_level": ?96\}\s*$/);
    expect(await store.stop()).toEqual({ code: 0, signal: null });
  });

  test("keeps what was acknowledged over kill -9 and a restart", async () => {
    await using directory = await temporaryDirectory();
    const dataDir = join(directory.path, "data");
    const body = Buffer.alloc(200_000, "kintsugi ");
    {
      await using store = await startServe({ runtime, dataDir });
      const response = await fetch(`${store.url}/objects/kept`, { method: "PUT", body });
      expect(response.status).toBe(201);
      await store.kill9();
    }
    await using store = await startServe({ runtime, dataDir });
    const read = await fetch(`${store.url}/objects/kept`);
    expect(Buffer.from(await read.arrayBuffer()).equals(body)).toBe(true);
  });
});

test("a second process on the same data is refused in one line", async () => {
  await using store = await startServe();
  expect(await failureOf({ dataDir: store.dataDir })).toMatch(/ended with 1\).*kintsugi: data_dir_locked: /s);
});

test("a port that is taken, and settings that are wrong, are told in one line", async () => {
  await using store = await startServe();
  const port = new URL(store.url).port;
  expect(await failureOf({ args: ["--port", port] })).toMatch(/ended with 1\).*kintsugi: port_taken: /s);
  expect(await failureOf({ env: { KINTSUGI_PROT: "1" } })).toMatch(
    /ended with 2\).*KINTSUGI_PROT: unknown variable, did you mean KINTSUGI_PORT\?/s,
  );
});

test("the transcript of the README works when pasted", async () => {
  const readme = await readFile(join(ROOT, "README.md"), "utf8");
  const scripts = [...readme.matchAll(/```sh\n(.*?)```/gs)].map((match) => match[1] as string);
  const [, curls = "", commands = ""] = scripts;
  await using store = await startServe();
  await using directory = await temporaryDirectory();
  // The files that it names stand in the checkout; what it writes shall not.
  const setUp = `cp ${ROOT}/package.json ${ROOT}/package-lock.json .\nexport KINTSUGI_URL=${store.url}\n`;
  const strict = curls.replace("http://127.0.0.1:8000", store.url).replaceAll("curl -sS ", "curl -sSf ");
  const transcript = await shell(setUp + strict, directory.path);
  expect(`${transcript.exitCode}: ${transcript.output}`).toMatch(/^0: /);
  expect(transcript.output).toMatch(/\{"device_id": ?"d-1", ?"battery_level": ?96\}/);
  const main = `node ${join(ROOT, "src/main.ts")}`;
  const cli = await shell(setUp + commands.replaceAll("npx kintsugi", main), directory.path);
  expect(`${cli.exitCode}: ${cli.output}`).toMatch(/^0: /);
  expect(await readFile(join(directory.path, "copy.json"))).toEqual(await readFile(join(ROOT, "package.json")));
});

test("the installed command says in words that a Node is too old", async () => {
  const source = await readFile(join(ROOT, "bin/kintsugi.js"), "utf8");
  const run = (version: string) =>
    shell(
      `node --input-type=module -e '
      Object.defineProperty(process.versions, "node", { value: "${version}" });
      await import("${join(ROOT, "bin/kintsugi.js")}");' -- --help`,
      ROOT,
    );
  expect(source).toContain("22.18");
  const old = await run("20.20.2");
  expect(old).toMatchObject({
    exitCode: 2,
    output: expect.stringMatching(/^kintsugi needs Node 22\.18 or newer, and this is 20/) as string,
  });
  expect((await run("22.18.0")).output).not.toContain("needs Node");
});
