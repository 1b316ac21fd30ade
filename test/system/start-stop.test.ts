/** Starts and stops: the lock, ports, signals, what is left behind, and files that were damaged in between. */
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir, open, readdir, rm, stat, truncate } from "node:fs/promises";
import { createServer, type AddressInfo } from "node:net";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { endLeftovers } from "../setup/leftovers.ts";
import { receiptOf, responseOf, StoreClient } from "../support/black-box/client.ts";
import { quiet, statsOf } from "../support/black-box/served.ts";
import { temporaryDirectory } from "../support/black-box/temporary-directory.ts";
import { cleanEnvironment, commandOf, startServe, type Exit, type Runtime } from "../support/serve.ts";
import { noise } from "../support/store.ts";
import { telemetryDocument } from "../support/telemetry.ts";

const MAIN = join(import.meta.dirname, "../../src/main.ts");
const BODIES: Readonly<Record<string, Buffer>> = {
  inline: noise(400, 91),
  replication: noise(90_000, 92),
  ec: noise(5_000_000, 93),
  field_hybrid: telemetryDocument({ seed: 94, bytesMin: 100_000 }),
};
const RUNTIMES = ["node", "bun", "deno"] as const;

type Ended = Exit & { readonly output: string };

/** Starts a server that is expected to end by itself. */
async function serveToEnd(
  runtime: Runtime,
  flags: readonly string[],
  env: Record<string, string> = {},
): Promise<Ended> {
  const [command, ...prefix] = commandOf(runtime);
  const child = spawn(command, [...prefix, MAIN, "serve", ...flags], {
    env: cleanEnvironment(env),
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (text) => (output += text));
  const overdue = setTimeout(() => child.kill("SIGKILL"), 20_000);
  const [code, signal] = (await once(child, "close")) as [number | null, NodeJS.Signals | null];
  clearTimeout(overdue);
  return { code, signal, output };
}

async function putAll(url: string): Promise<void> {
  using client = new StoreClient(url);
  for (const [strategy, body] of Object.entries(BODIES)) {
    receiptOf(await client.put(`/objects/${strategy}?strategy=${strategy}&consistency=all`, body));
  }
}

async function expectAll(url: string, context: string): Promise<void> {
  using client = new StoreClient(url);
  for (const [strategy, body] of Object.entries(BODIES)) {
    const answer = await client.get(`/objects/${strategy}`);
    expect(answer.body.equals(body), `${context}: ${strategy}, ${answer.status}`).toBe(true);
  }
}

describe("the data directory", () => {
  test.each(RUNTIMES)("is refused to every other runtime while %s has it, and free after kill -9", async (holder) => {
    await using directory = await temporaryDirectory();
    const dataDir = join(directory.path, "data");
    {
      await using store = await startServe({ runtime: holder, dataDir });
      await putAll(store.url);
      await Promise.all(
        RUNTIMES.map(async (runtime) => {
          const ended = await serveToEnd(runtime, ["--port", "0", "--data-dir", dataDir]);
          expect(ended, runtime).toMatchObject({ code: 1, signal: null });
          expect(ended.output, runtime).toMatch(/^kintsugi: data_dir_locked: .* another process has it open.*\n$/);
        }),
      );
      await expectAll(store.url, "the holder");
      await store.kill9();
    }
    const next = RUNTIMES[(RUNTIMES.indexOf(holder) + 1) % RUNTIMES.length] as Runtime;
    await using store = await startServe({ runtime: next, dataDir });
    await expectAll(store.url, `written by ${holder}, read by ${next}`);
  });

  test("may lie deep below paths longer than a socket's name, with blanks and beyond ASCII", async () => {
    await using directory = await temporaryDirectory();
    const dataDir = join(directory.path, `a b ${"long".repeat(20)}`, `größe ${"deep".repeat(20)}`, "data.mdb");
    await using store = await startServe({ dataDir });
    await putAll(store.url);
    const second = await serveToEnd("node", ["--port", "0", "--data-dir", dataDir]);
    expect(second.output).toContain("data_dir_locked");
    await expectAll(store.url, "long path");
  });

  test("is refused in words where it cannot be made", async () => {
    await using directory = await temporaryDirectory();
    await (await open(join(directory.path, "file"), "w")).close();
    const ended = await serveToEnd("node", ["--port", "0", "--data-dir", join(directory.path, "file", "data")]);
    expect(ended).toMatchObject({ code: 1, signal: null });
    expect(ended.output).toMatch(/^kintsugi: \w+: .*\n$/);
  });
});

test.each(RUNTIMES)(
  "a port in use and an unknown variable are refused before anything is stored: %s",
  async (runtime) => {
    await using directory = await temporaryDirectory();
    const dataDir = join(directory.path, "data");
    const occupant = createServer().listen(0, "127.0.0.1");
    try {
      await once(occupant, "listening");
      const port = String((occupant.address() as AddressInfo).port);
      const ended = await serveToEnd(runtime, ["--port", port, "--data-dir", dataDir]);
      expect(ended).toMatchObject({ code: 1, signal: null });
      expect(ended.output).toContain(`kintsugi: port_taken: Cannot listen on 127.0.0.1:${port}`);
    } finally {
      occupant.close();
    }
    // The refusal has let go of the data.
    expect((await readdir(dataDir)).filter((name) => name.startsWith("lock-"))).toEqual([]);
    const other = join(directory.path, "other");
    const unknown = await serveToEnd(runtime, ["--data-dir", other], { KINTSUGI_DATADIR: "x" });
    expect(unknown).toMatchObject({ code: 2, signal: null });
    expect(unknown.output).toContain("KINTSUGI_DATADIR: unknown variable, did you mean KINTSUGI_DATA_DIR?");
    expect(existsSync(other)).toBe(false);
  },
);

describe("a clean stop", () => {
  test.each([
    ["node", "SIGTERM"],
    ["node", "SIGINT"],
    ["bun", "SIGINT"],
    ["deno", "SIGTERM"],
  ] as const)("of %s by %s exits 0 and leaves no process, socket or temporary file", async (runtime, signal) => {
    await using directory = await temporaryDirectory();
    const dataDir = join(directory.path, "data");
    const temporary = join(directory.path, "tmp");
    await mkdir(temporary);
    const mark = `TEST_STARTED_BY=${directory.path}`;
    const env = { TEST_STARTED_BY: directory.path, TMPDIR: temporary, KINTSUGI_LOG_LEVEL: "info" };
    await using store = await startServe({ runtime, dataDir, env });
    await putAll(store.url);
    process.kill(store.pid, signal);
    expect(await store.exited).toEqual({ code: 0, signal: null });
    expect(await endLeftovers(mark)).toEqual([]);
    expect(await readdir(temporary)).toEqual([]);
    const names = await readdir(dataDir, { recursive: true });
    expect(names.filter((name) => !/^(metadata|nodes|healing|incarnation)(\/|$)/.test(name))).toEqual([]);
    expect(names.filter((name) => /\.sock$|\.tmp$|\/\.[^/]*$/.test(name))).toEqual([]);
    expect(store.logs()).not.toMatch(/"level":[45]0/);

    await using again = await startServe({ runtime, dataDir, env });
    await expectAll(again.url, "after a clean stop");
    expect(await again.stop()).toEqual({ code: 0, signal: null });
    expect(again.logs()).toMatch(/"finished":0,"resurrected":0,"rolledBack":0,"left":0/);
  });

  test.each(RUNTIMES)("that is asked for twice does not wait: %s", async (runtime) => {
    await using store = await startServe({ runtime, env: { KINTSUGI_TIMEOUTS_DRAIN_MS: "10m" } });
    using client = new StoreClient(store.url);
    receiptOf(await client.put("/objects/large?strategy=ec", noise(24 * 1_048_576, 95)));
    await quiet(client);
    const outgoing = client.open("GET", "/objects/large");
    outgoing.end();
    // Nobody reads it, so it cannot end within any time.
    const incoming = await responseOf(outgoing);
    incoming.on("error", () => {});
    process.kill(store.pid, "SIGTERM");
    while (!store.logs().includes("Stopping")) await new Promise((resolve) => setTimeout(resolve, 10));
    process.kill(store.pid, "SIGTERM");
    expect(await store.exited).toEqual({ code: 130, signal: null });
    incoming.destroy();
  });
});

/** What may happen to a data file between two starts. */
const DAMAGES: Readonly<Record<string, (file: string) => Promise<void>>> = {
  "cut off within what is used": (file) => truncate(file, 3 * 4_096),
  "cut off within its header": (file) => truncate(file, 100),
  "without a byte": (file) => truncate(file, 0),
  "overwritten at its start": (file) => overwrite(file, noise(16_384, 96)),
  "zeroed at its start": (file) => overwrite(file, Buffer.alloc(16_384)),
};

describe("a damaged file", () => {
  let prepared: Awaited<ReturnType<typeof temporaryDirectory>>;
  beforeAll(async () => {
    prepared = await temporaryDirectory();
    await using store = await startServe({ dataDir: join(prepared.path, "data") });
    await putAll(store.url);
    await store.stop();
  });
  afterAll(async () => await prepared[Symbol.asyncDispose]());

  /** A copy of a stopped store's data; its files are mostly holes. */
  const copyData = async (to: string) => {
    await promisify(execFile)("cp", ["-r", "--sparse=always", join(prepared.path, "data"), to]);
  };

  test.each([...Object.entries(DAMAGES), ["deleted", (file: string) => rm(file)] as const])(
    "of two nodes, %s, is set aside and all data stays readable",
    async (_, damage) => {
      await using directory = await temporaryDirectory();
      const dataDir = join(directory.path, "data");
      await copyData(dataDir);
      for (const node of ["node-2", "node-5"]) {
        const volumes = join(dataDir, "nodes", node, "volumes");
        const [name = ""] = await readdir(volumes);
        const file = join(volumes, name, "data.mdb");
        expect((await stat(file)).size).toBeGreaterThan(16_384);
        await damage(file);
      }
      await using store = await startServe({ dataDir });
      await expectAll(store.url, "with two volumes lost");
      using client = new StoreClient(store.url);
      const { nodes } = await statsOf(client);
      expect(nodes.filter(({ usage }) => usage?.quarantinedCount === 1).map(({ name }) => name)).toEqual([
        "node-2",
        "node-5",
      ]);
      // Their replacements take writes.
      const receipt = receiptOf(await client.put("/objects/new?strategy=ec&consistency=all", BODIES["ec"] as Buffer));
      expect(receipt.blobsDurable).toBe(6);
      expect(await store.stop()).toEqual({ code: 0, signal: null });
    },
  );

  test.each([
    ...Object.keys(DAMAGES).map((damage) => ["node", damage] as const),
    ["bun", "cut off within what is used"],
    ["deno", "cut off within what is used"],
  ] as const)("of the metadata is refused in words by %s: %s", async (runtime, damage) => {
    await using directory = await temporaryDirectory();
    const dataDir = join(directory.path, "data");
    await copyData(dataDir);
    const file = join(dataDir, "metadata", "data.mdb");
    await DAMAGES[damage]?.(file);
    const sizeBytes = (await stat(file)).size;
    const ended = await serveToEnd(runtime, ["--port", "0", "--data-dir", dataDir]);
    expect(ended).toMatchObject({ code: 5, signal: null });
    expect(ended.output).toMatch(/^kintsugi: storage_error: Cannot open \S*metadata\/data\.mdb: .* restore it.*\n$/);
    expect((await stat(file)).size, "the file is left as it is").toBe(sizeBytes);
    expect((await readdir(dataDir)).filter((name) => name.startsWith("lock-"))).toEqual([]);
  });
});

async function overwrite(file: string, bytes: Buffer): Promise<void> {
  const handle = await open(file, "r+");
  try {
    await handle.write(bytes, 0, bytes.length, 0);
  } finally {
    await handle.close();
  }
}
