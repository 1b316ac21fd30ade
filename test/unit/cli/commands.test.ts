import { writeFileSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { parse } from "yaml";
import { describe, expect, test, vi } from "vitest";
import { settingsReference } from "../../../src/config/reference.ts";
import { ERROR_CODES, StoreError } from "../../../src/domain/errors.ts";
import { describeFailure, exitCodeOf } from "../../../src/cli/exit.ts";
import { OutputClosed, displayText, writeOut } from "../../../src/cli/io.ts";
import { greetingOf, type RunStore, type RunningStore } from "../../../src/cli/serve.ts";
import { guessContentType } from "../../../src/cli/content-type.ts";
import { outline } from "../../../src/cli/stat.ts";
import { startProgress } from "../../../src/cli/progress.ts";
import { run, temporaryDirectory } from "./run.ts";

const ROOT = join(import.meta.dirname, "../../..");

describe("kintsugi config", () => {
  test("check says a file is valid, whatever the environment", async () => {
    await using directory = await temporaryDirectory();
    const file = directory.file("good.yaml");
    writeFileSync(file, "port: 9000\n");
    vi.stubEnv("KINTSUGI_PORT", "wrong");
    const { exitCode, text } = await run(["config", "check", file]);
    vi.unstubAllEnvs();
    expect({ exitCode, text }).toEqual({ exitCode: 0, text: `${file} is valid\n` });
  });

  test("check names every problem and exits 2", async () => {
    await using directory = await temporaryDirectory();
    const file = directory.file("bad.yaml");
    writeFileSync(file, "prot: 9000\nthreads: none\n");
    const { exitCode, stderr } = await run(["config", "check", file]);
    expect(exitCode).toBe(2);
    expect(stderr.split("\n").slice(0, 3)).toEqual([
      "Configuration has 2 problems:",
      `  ${file}:1: prot: unknown setting, did you mean port?`,
      `  ${file}:2: threads: "none" is not allowed: give a whole number from 1 to 256, or auto`,
    ]);
    const json = await run(["config", "check", file, "--json"]);
    expect(JSON.parse(json.text)).toMatchObject({ ok: false, problems: [{ path: "threads" }, { path: "prot" }] });
    expect((await run(["config", "check", directory.file("gone.yaml")])).exitCode).toBe(2);
  });

  test("show prints a file that gives the same settings again", async () => {
    await using directory = await temporaryDirectory();
    const file = directory.file("shown.yaml");
    const given = ["--port", "0", "--set", "cluster.nodes=9", "--set", "cluster.buckets={a: {k: 7}}"];
    const shown = await run(["config", "show", ...given]);
    writeFileSync(file, shown.text);
    const again = await run(["config", "show", "--config", file]);
    expect(again.text).toBe(shown.text);
    expect(parse(again.text)).toMatchObject({ port: 0, cluster: { buckets: { a: { k: 7, m: 2 } } } });
    const json = await run(["config", "show", "--json", ...given]);
    expect(JSON.parse(json.text)).toEqual(parse(shown.text));
  });

  test("flags that make no sense exit 2", async () => {
    for (const flags of [
      ["--port", "x"],
      ["--set", "port"],
      ["--set", "prot=1"],
      ["--config", "/no/such/file"],
    ]) {
      expect((await run(["config", "show", ...flags])).exitCode).toBe(2);
    }
  });

  test("reference is what docs/configuration.md shows", async () => {
    const page = readFileSync(join(ROOT, "docs/configuration.md"), "utf8");
    const shown = page.split("<!-- settings -->")[1]?.trim();
    expect(shown, "run `kintsugi config reference` and paste its output").toBe(settingsReference());
    expect((await run(["config", "reference"])).text.trim()).toBe(settingsReference());
  });
});

describe("kintsugi serve", () => {
  function storeAt(address: string): { store: RunningStore; closes: () => number } {
    const ended = Promise.withResolvers<number>();
    let closes = 0;
    const close = () => {
      closes += 1;
      ended.resolve(0);
      return Promise.resolve();
    };
    return { store: { name: null, address, closed: ended.promise, close }, closes: () => closes };
  }

  test("greets with the address and three lines, then drains when asked to stop", async () => {
    const { store, closes } = storeAt("http://127.0.0.1:4321");
    const stop = new AbortController();
    const runStore: RunStore = (role, config) => {
      expect(role).toBe("all");
      expect(config).toMatchObject({ port: 4321, dataDir: "/d", logLevel: "error" });
      setImmediate(() => stop.abort());
      return Promise.resolve(store);
    };
    const flags = ["--port", "4321", "--data-dir", "/d", "--log-level", "error"];
    const { exitCode, text, stderr } = await run(["serve", ...flags], { signal: stop.signal, runStore });
    expect({ exitCode, closes: closes() }).toEqual({ exitCode: 0, closes: 1 });
    expect(text.split("\n")[0]).toBe("Kintsugi is ready at http://127.0.0.1:4321, data in /d");
    expect(text.match(/^ {2}curl /gm)).toHaveLength(3);
    expect(stderr).toContain("Stopping");
  });

  test("a signal during the start stops it too", async () => {
    const { store, closes } = storeAt("http://127.0.0.1:4321");
    expect(
      (await run(["serve"], { signal: AbortSignal.abort(), runStore: () => Promise.resolve(store) })).exitCode,
    ).toBe(0);
    expect(closes()).toBe(1);
  });

  test("ends with the exit code of a store that ends by itself", async () => {
    const store = { name: null, address: "http://x:1", closed: Promise.resolve(70), close: () => Promise.resolve() };
    expect((await run(["serve"], { runStore: () => Promise.resolve(store) })).exitCode).toBe(70);
  });

  test("says in one line what kept it from starting", async () => {
    const inUse = Object.assign(new Error("listen EADDRINUSE"), { code: "EADDRINUSE", syscall: "listen" });
    expect(await run(["serve"], { runStore: () => Promise.reject(inUse) })).toMatchObject({
      exitCode: 1,
      stderr: "kintsugi: port_taken: Cannot listen on 127.0.0.1:8000: it is in use; choose another with --port\n",
    });
    const locked = new StoreError("data_dir_locked", "Another process uses ./data");
    expect((await run(["serve"], { runStore: () => Promise.reject(locked) })).stderr).toBe(
      "kintsugi: data_dir_locked: Another process uses ./data\n",
    );
  });

  test("warns where it is open to others, and names an address that can be used", () => {
    const lines = greetingOf({ host: "0.0.0.0", dataDir: "d" }, "http://0.0.0.0:80");
    expect(lines[1]).toMatch(/no authentication/);
    expect(lines.at(-1)).toContain("http://127.0.0.1:80/objects/");
    expect(greetingOf({ host: "::1", dataDir: "d" }, "http://[::1]:80").join()).not.toMatch(/authentication/);
  });
});

test("every error code of the store has an exit code of its own choice", () => {
  for (const code of ERROR_CODES) expect(exitCodeOf(code, 418)).toBeGreaterThan(0);
  expect(exitCodeOf("toString", 404)).toBe(3);
});

test("describeFailure() keeps the stack of bugs only", () => {
  expect(describeFailure(new StoreError("node_full", "full")).line).toBe("kintsugi: node_full: full");
  expect(describeFailure(new TypeError("x is undefined")).line).toContain("commands.test.ts");
});

test("writeOut() waits for a slow reader and ends with one that has gone", async () => {
  const output = new PassThrough({ highWaterMark: 1 });
  const first = writeOut(output, "abc");
  output.read();
  await first;
  const waiting = writeOut(output, "def");
  output.destroy();
  await expect(waiting).rejects.toBeInstanceOf(OutputClosed);
  await expect(writeOut(output, "ghi")).rejects.toBeInstanceOf(OutputClosed);
});

test("displayText() leaves ordinary text of any language alone", () => {
  expect(displayText("caf\u00e9 \u91d1\u7d99\u304e \u{1f3fa}")).toBe("caf\u00e9 \u91d1\u7d99\u304e \u{1f3fa}");
  expect(displayText("\u009b1m\u2028")).toBe("\\x9b1m\\u2028");
});

test.each([
  ["a.JSON", "application/json"],
  ["a.tar.gz", "application/gzip"],
  ["a.constructor", "application/octet-stream"],
  ["noextension", "application/octet-stream"],
])("guessContentType() of %s is %s", (name, type) => {
  expect(guessContentType(name)).toBe(type);
});

test("outline() shows any JSON as indented lines", () => {
  expect(
    outline({ a: 1, b: null, c: [1, 2], d: { e: "x\ny" }, f: [{ g: true, h: "i" }, { j: [] }], k: [], l: {} }),
  ).toEqual(["a: 1", "b: -", "c: 1, 2", "d:", "  e: x\\x0ay", "f:", "  g true, h i", "    j:", "k:", "l: -"]);
});

test("startProgress() stays quiet for a second, then draws on a terminal, and on nothing else", async () => {
  const drawn = async (stderrIsTerminal: boolean, afterMs: number) => {
    const stderr = Object.assign(new PassThrough(), { isTTY: true, columns: 100 });
    let nowMs = 0;
    const clock = {
      wallMs: () => 0,
      monotonicMs: () => nowMs,
      startTimer: () => ({ cancel() {} }),
      sleep: async () => {},
    };
    const rest = { stdin: new PassThrough(), stdout: new PassThrough(), signal: new AbortController().signal };
    const progress = startProgress({ ...rest, stderr, stderrIsTerminal, clock }, "label", 1_000);
    nowMs = afterMs;
    progress.add(500);
    // The bar's code is loaded on first use.
    await vi.waitFor(() => {
      if (afterMs > 1_000 && stderrIsTerminal && stderr.readableLength === 0) throw new Error("not drawn yet");
    });
    progress.stop();
    return String(stderr.read() ?? "");
  };
  expect(await drawn(true, 1_001)).toMatch(/label.*50%.*500 B of 1000 B/);
  expect(await drawn(true, 999)).toBe("");
  expect(await drawn(false, 5_000)).toBe("");
});
