/** The command line against the real store, each command as a process of its own. */
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { cleanEnvironment, commandOf, startServe, type Runtime, type ServedStore } from "../support/serve.ts";

const MAIN = join(import.meta.dirname, "../../src/main.ts");

let store: ServedStore;
let directory: string;
beforeAll(async () => {
  store = await startServe();
  directory = await mkdtemp(join(tmpdir(), "kintsugi-cli-"));
});
afterAll(async () => {
  await store?.[Symbol.asyncDispose]();
  if (directory !== undefined) await rm(directory, { recursive: true, force: true });
});

type Outcome = { exitCode: number; stdout: Buffer; stderr: string };

function kintsugi(
  operands: readonly string[],
  stdin?: Uint8Array | string,
  runtime: Runtime = "node",
): Promise<Outcome> {
  const [command, ...prefix] = commandOf(runtime);
  return new Promise((resolve, reject) => {
    const child = execFile(
      command,
      [...prefix, MAIN, ...operands],
      { encoding: "buffer", cwd: directory, env: cleanEnvironment({ KINTSUGI_URL: store.url }), maxBuffer: 2 ** 28 },
      (error, stdout, stderr) => {
        const exitCode = error === null ? 0 : error.code;
        if (typeof exitCode !== "number") reject(error ?? new Error("no exit code"));
        else resolve({ exitCode, stdout, stderr: stderr.toString() });
      },
    );
    child.stdin?.end(stdin);
  });
}

async function fileOf(name: string, sizeBytes: number): Promise<{ path: string; bytes: Buffer }> {
  const bytes = randomBytes(sizeBytes);
  const path = join(directory, name);
  await writeFile(path, bytes);
  return { path, bytes };
}

describe.each([
  ["empty", 0, "auto"],
  ["one byte", 1, "auto"],
  ["replicated", 40_000, "replication"],
  ["erasure coded, more than one stripe", 9_000_001, "ec"],
])("put and get of %s", (name, sizeBytes, strategy) => {
  test("gives the same bytes back, by file and by pipe", async () => {
    const { path, bytes } = await fileOf("source.bin", sizeBytes);
    const put = await kintsugi(["put", path, `t/${name}`, "--strategy", strategy, "--json"]);
    expect(put).toMatchObject({ exitCode: 0, stderr: "" });
    expect(JSON.parse(put.stdout.toString())).toMatchObject({ key: `t/${name}`, sizeBytes, dirty: false });
    const copy = join(directory, "copy.bin");
    const got = await kintsugi(["get", `t/${name}`, copy]);
    expect(got).toMatchObject({ exitCode: 0, stderr: "" });
    expect(got.stdout.toString()).toContain("SHA-256 verified");
    expect((await readFile(copy)).equals(bytes)).toBe(true);

    expect((await kintsugi(["put", "-", `p/${name}`], bytes)).exitCode).toBe(0);
    expect((await kintsugi(["get", `p/${name}`])).stdout.equals(bytes)).toBe(true);
  });
});

describe.each(["bun", "deno"] as const)("on %s", (runtime) => {
  test("a file and an awkward key survive put and get", async () => {
    const { path, bytes } = await fileOf(`${runtime}.bin`, 300_000);
    const key = `${runtime}/../a//b %2e%2e \u{1f3fa}`;
    expect(await kintsugi(["put", path, key], undefined, runtime)).toMatchObject({ exitCode: 0, stderr: "" });
    const copy = join(directory, `${runtime}.copy`);
    expect(await kintsugi(["get", key, copy], undefined, runtime)).toMatchObject({ exitCode: 0, stderr: "" });
    expect((await readFile(copy)).equals(bytes)).toBe(true);
    expect((await kintsugi(["get", key])).stdout.equals(bytes)).toBe(true);
  });
});

test("metadata, media type, ranges and conditions", async () => {
  const put = ["put", "-", "c/object.csv", "--meta", "site=north", "--if-none-match"];
  expect((await kintsugi(put, "0123456789")).exitCode).toBe(0);
  expect((await kintsugi(put, "other")).exitCode).toBe(4);
  expect((await kintsugi(["get", "c/object.csv", "--range", "2-4"])).stdout.toString()).toBe("234");
  expect((await kintsugi(["get", "c/object.csv", "--range", "-3"])).stdout.toString()).toBe("789");
  const head = await fetch(`${store.url}/objects/c/object.csv`, { method: "HEAD" });
  expect(head.headers.get("content-type")).toBe("text/csv; charset=utf-8");
  expect(head.headers.get("x-kintsugi-meta-site")).toBe("north");
  const info = await kintsugi(["stat", "c/object.csv", "--json"]);
  expect(JSON.parse(info.stdout.toString())).toMatchObject({ key: "c/object.csv", sizeBytes: 10 });
});

test("patch changes hot fields and get --fields reads them", async () => {
  const document = JSON.stringify({ device_id: "d", battery_level: 9, blob: "x".repeat(50_000) });
  const put = await kintsugi(["put", "-", "h/d.json", "--strategy", "field_hybrid"], document);
  expect(put).toMatchObject({ exitCode: 0, stderr: "" });
  const patched = await kintsugi(["patch", "h/d.json", '{"battery_level":8}', "--json"]);
  expect(JSON.parse(patched.stdout.toString())).toMatchObject({ nodeBytesWritten: 0, sha256: null });
  const fields = await kintsugi(["get", "h/d.json", "--fields", "battery_level,device_id"]);
  expect(JSON.parse(fields.stdout.toString())).toEqual({ battery_level: 8, device_id: "d" });
  expect((await kintsugi(["get", "h/d.json"])).stdout.toString()).toBe(document.replace("9", "8"));
});

test("ls goes through more than one page, rm and missing objects have their exit codes", async () => {
  const keys = Array.from({ length: 3 }, (_, index) => `l/${index}`);
  for (const key of keys) expect((await kintsugi(["put", "-", key], key)).exitCode).toBe(0);
  const all = await kintsugi(["ls", "l/"]);
  expect(all.stdout.toString().split("\n").slice(0, -1)).toEqual(keys);
  expect((await kintsugi(["ls", "--delimiter", "/"])).stdout.toString().split("\n")).toContain("l/");
  expect((await kintsugi(["ls", "-l", "l/"])).stdout.toString()).toMatch(/3 B +\S+ +\S+ +l\/0\n/);
  expect((await kintsugi(["rm", ...keys])).exitCode).toBe(0);
  expect((await kintsugi(["ls", "l/"])).stdout.toString()).toBe("");
  const gone = await kintsugi(["get", "l/0", join(directory, "gone")]);
  expect(gone.exitCode).toBe(3);
  expect(gone.stderr).toMatch(/^kintsugi: object_not_found: .+ \(request \S+\)\n$/);
  expect((await kintsugi(["stat", "l/0"])).exitCode).toBe(3);
});

test("status of a healthy store exits 0 and names every node", async () => {
  const { exitCode, stdout } = await kintsugi(["status"]);
  expect(exitCode).toBe(0);
  for (let node = 1; node <= 6; node += 1) expect(stdout.toString()).toContain(`node-${node}`);
});

test("a reader that leaves early is no failure", async () => {
  const { path } = await fileOf("large.bin", 4_000_000);
  expect((await kintsugi(["put", path, "early"])).exitCode).toBe(0);
  const [command, ...prefix] = commandOf("node");
  const outcome = await new Promise<string>((resolve) => {
    const line = `"$@" get early | head -c 10 | wc -c; echo "\${PIPESTATUS[0]}"`;
    const options = { env: cleanEnvironment({ KINTSUGI_URL: store.url }) };
    execFile("bash", ["-c", line, "bash", command, ...prefix, MAIN], options, (_, stdout, stderr) =>
      resolve(stdout + stderr),
    );
  });
  expect(outcome).toBe("10\n0\n");
});
