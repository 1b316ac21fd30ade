import { createHash } from "node:crypto";
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, readdirSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { problem, startContractServer } from "./contract-server.ts";
import { run, temporaryDirectory } from "./run.ts";

const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");
const BYTES = Buffer.from(Array.from({ length: 700_001 }, (_, index) => (index * 31) % 251));

async function setUp() {
  const stack = new AsyncDisposableStack();
  const store = stack.use(await startContractServer());
  const directory = stack.use(await temporaryDirectory());
  const file = directory.file("reading.json");
  writeFileSync(file, BYTES);
  const cli = (operands: string[], options = {}) => run([...operands, "--url", store.url], options);
  return { store, directory, file, cli, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}

describe("kintsugi put", () => {
  test("sends a file with its length, media type and metadata, and says how safe it is", async () => {
    await using given = await setUp();
    const { exitCode, text } = await given.cli(
      ["put", given.file, "a/b.json", "--strategy", "ec", "--consistency", "all", "--bucket", "fleet"].concat([
        "--meta",
        "Site=north",
        "--meta",
        "note=a=b",
        "--meta",
        "place=\u91d1 caf\u00e9",
      ]),
    );
    expect(exitCode).toBe(0);
    expect(text).toBe("a/b.json  683.6 KiB  ec  survives the loss of 2 nodes\n");
    expect(given.store.seen[0]).toMatchObject({
      method: "PUT",
      target: "/objects/a/b.json?bucket=fleet&strategy=ec&consistency=all",
      headers: {
        "content-length": String(BYTES.length),
        "content-type": "application/json",
        "x-kintsugi-meta-site": "north",
        "x-kintsugi-meta-note": "a=b",
        "x-kintsugi-meta-place": Buffer.from("\u91d1 caf\u00e9").toString("latin1"),
      },
    });
    expect(given.store.objects.get("fleet/a/b.json")?.bytes.equals(BYTES)).toBe(true);
  });

  test("streams stdin in chunked coding", async () => {
    await using given = await setUp();
    async function* slowly() {
      for (let at = 0; at < BYTES.length; at += 50_000) yield BYTES.subarray(at, at + 50_000);
    }
    expect((await given.cli(["put", "-", "in.csv"], { stdin: slowly() })).exitCode).toBe(0);
    expect(given.store.seen[0]?.headers).toMatchObject({
      "transfer-encoding": "chunked",
      "content-type": "text/csv; charset=utf-8",
    });
    expect(given.store.seen[0]?.bytes.equals(BYTES)).toBe(true);
  });

  test("prints one receipt per file with --json, and nothing else", async () => {
    await using given = await setUp();
    const { text } = await given.cli(["put", given.file, "--json"]);
    expect(JSON.parse(text)).toMatchObject({ file: given.file, key: "reading.json", sha256: sha256(BYTES) });
  });

  test("stores several files under a prefix, an empty one included", async () => {
    await using given = await setUp();
    const empty = given.directory.file("empty.bin");
    writeFileSync(empty, "");
    expect((await given.cli(["put", given.file, empty, "x/"])).exitCode).toBe(0);
    expect([...given.store.objects.keys()]).toEqual(["default/x/reading.json", "default/x/empty.bin"]);
    expect(given.store.seen[1]?.headers["content-length"]).toBe("0");
  });

  test("--if-none-match refuses to overwrite and exits 4", async () => {
    await using given = await setUp();
    const once = ["put", given.file, "k", "--if-none-match"];
    expect((await given.cli(once)).exitCode).toBe(0);
    const second = await given.cli(once);
    expect(second.exitCode).toBe(4);
    expect(second.stderr).toBe("kintsugi: precondition_failed: What happened: precondition_failed (request req-7)\n");
    expect((await given.cli(["put", given.file, "k2", "--if-match", "e1"])).exitCode).toBe(0);
    expect(given.store.seen.at(-1)?.headers["if-match"]).toBe('"e1"');
  });

  test("exits 5 when the store took other bytes than were sent", async () => {
    await using given = await setUp();
    given.store.misbehave = (request, response) => {
      request.resume().on("end", () => {
        response.end(JSON.stringify({ key: "k", sha256: sha256(Buffer.from("other")), sizeBytes: BYTES.length }));
      });
      return true;
    };
    const { exitCode, stderr, text } = await given.cli(["put", given.file, "k"]);
    expect({ exitCode, text }).toEqual({ exitCode: 5, text: "" });
    expect(stderr).toMatch(/verification_failed: "k" was stored as 700001 bytes with SHA-256/);
  });

  test("stops sending when the store has refused the rest, and says why", async () => {
    await using given = await setUp();
    given.store.misbehave = (_, response) => problem(response, 413, "body_too_large", { connection: "close" });
    async function* endless() {
      for (;;) yield BYTES;
    }
    const { exitCode, stderr } = await given.cli(["put", "-", "k"], { stdin: endless() });
    expect(exitCode).toBe(1);
    expect(stderr).toMatch(/^kintsugi: body_too_large: What happened.*req-7\)\n$/);
  });

  test("a directory is refused with a hint, a missing file named; nothing is sent", async () => {
    await using given = await setUp();
    mkdirSync(given.directory.file("photos"));
    const directory = await given.cli(["put", given.directory.file("photos")]);
    expect(directory.exitCode).toBe(2);
    expect(directory.stderr).toContain("is a directory: give its files, for example `kintsugi put photos/* photos/`");
    const missing = await given.cli(["put", given.directory.file("gone")]);
    expect(missing.exitCode).toBe(1);
    expect(missing.stderr).toMatch(/file_unreadable: Cannot read ".*gone": ENOENT/);
    expect(given.store.seen).toEqual([]);
  });

  test("refuses metadata that HTTP cannot carry", async () => {
    await using given = await setUp();
    for (const meta of ["nameless", "=x", "a b=c", "a=\ud800", "a=line\nbreak"]) {
      expect((await given.cli(["put", given.file, "--meta", meta])).exitCode).toBe(2);
    }
    expect(given.store.seen).toEqual([]);
  });
});

describe("kintsugi get", () => {
  test("writes exactly the bytes, to stdout or to a file, and proves them", async () => {
    await using given = await setUp();
    await given.cli(["put", given.file, "k"]);
    expect((await given.cli(["get", "k"])).stdout.equals(BYTES)).toBe(true);
    expect((await given.cli(["get", "k", "-"])).stdout.equals(BYTES)).toBe(true);
    const copy = given.directory.file("copy");
    const { exitCode, text } = await given.cli(["get", "k", copy]);
    expect(exitCode).toBe(0);
    expect(text).toBe(`${copy}  683.6 KiB  SHA-256 verified\n`);
    expect(readFileSync(copy).equals(BYTES)).toBe(true);
    const described = await given.cli(["get", "k", copy, "--json"]);
    expect(JSON.parse(described.text)).toEqual({
      key: "k",
      file: copy,
      sizeBytes: BYTES.length,
      sha256: sha256(BYTES),
      verified: true,
    });
  });

  test("damaged bytes exit 5, leave no file and keep the one that was there", async () => {
    await using given = await setUp();
    await given.cli(["put", given.file, "k"]);
    const kept = given.store.objects.get("default/k");
    if (kept !== undefined) kept.bytes = Buffer.from(BYTES).fill(0, 5, 6);
    const before = readdirSync(given.directory.path);
    const { exitCode, stderr } = await given.cli(["get", "k", given.directory.file("copy")]);
    expect(exitCode).toBe(5);
    expect(stderr).toMatch(/^kintsugi: verification_failed: "k" should have SHA-256/);
    expect(readdirSync(given.directory.path)).toEqual(before);
    expect((await given.cli(["get", "k", given.file])).exitCode).toBe(5);
    expect(readFileSync(given.file).equals(BYTES)).toBe(true);
    expect((await given.cli(["get", "k"])).exitCode).toBe(5);
  });

  test("a connection that breaks exits 6 and leaves no file", async () => {
    await using given = await setUp();
    given.store.misbehave = (_, response) => {
      response.writeHead(200, { "content-length": 1_000 });
      response.write(Buffer.alloc(10), () => response.destroy());
      return true;
    };
    const before = readdirSync(given.directory.path);
    const { exitCode, stderr } = await given.cli(["get", "k", given.directory.file("copy")]);
    expect(exitCode).toBe(6);
    expect(stderr).toMatch(/connection_lost: http:.* closed the connection after \d+ bytes of its answer/);
    expect(readdirSync(given.directory.path)).toEqual(before);
  });

  test("says so where there is no digest to compare with", async () => {
    await using given = await setUp();
    await given.cli(["put", given.file, "k"]);
    const kept = given.store.objects.get("default/k");
    if (kept !== undefined) kept.sha256 = null;
    const { exitCode, text } = await given.cli(["get", "k", given.directory.file("copy")]);
    expect(exitCode).toBe(0);
    expect(text).toMatch(/no SHA-256 to verify against/);
  });

  test("--range and --fields ask for parts", async () => {
    await using given = await setUp();
    await given.cli(["put", given.file, "k"]);
    expect((await given.cli(["get", "k", "--range", "3-6"])).stdout.equals(BYTES.subarray(3, 7))).toBe(true);
    await given.cli(["get", "k", "--range", "-5"]);
    expect(given.store.seen.at(-1)?.headers.range).toBe("bytes=-5");
    expect((await given.cli(["get", "k", "--range", "6"])).exitCode).toBe(2);
    await given.cli(["put", "-", "doc"], { stdin: '{"a":1,"b b":2,"c":3}' });
    expect((await given.cli(["get", "doc", "--fields", "a,b b"])).text).toBe('{"a":1,"b b":2}');
    expect(given.store.seen.at(-1)?.target).toBe("/objects/doc?fields=a,b%20b");
    expect((await given.cli(["get", "doc", "--fields", "a", "--range", "0-1"])).exitCode).toBe(2);
  });

  test("a missing object exits 3 with the store's code and request id", async () => {
    await using given = await setUp();
    const { exitCode, stderr } = await given.cli(["get", "gone", given.directory.file("copy")]);
    expect(exitCode).toBe(3);
    expect(stderr).toBe("kintsugi: object_not_found: What happened: object_not_found (request req-7)\n");
    expect(existsSync(given.directory.file("copy"))).toBe(false);
  });

  test("into a directory the object takes the last part of its key", async () => {
    await using given = await setUp();
    await given.cli(["put", given.file, "deep/name.bin"]);
    expect((await given.cli(["get", "deep/name.bin", given.directory.path])).exitCode).toBe(0);
    expect(readFileSync(given.directory.file("name.bin")).equals(BYTES)).toBe(true);
    expect((await given.cli(["get", "deep/..", given.directory.path])).exitCode).toBe(2);
    expect((await given.cli(["get", "k", given.directory.file("no/such/")])).exitCode).toBe(2);
  });

  test("keeps a link a link, a file's mode its mode, and a pipe a pipe", async () => {
    await using given = await setUp();
    await given.cli(["put", "-", "k"], { stdin: "new" });
    const link = given.directory.file("link");
    writeFileSync(given.directory.file("target"), "old", { mode: 0o640 });
    symlinkSync(given.directory.file("target"), link);
    await given.cli(["get", "k", link]);
    expect(readFileSync(given.directory.file("target"), "utf8")).toBe("new");
    expect(statSync(given.directory.file("target")).mode & 0o777).toBe(0o640);
    const pipe = given.directory.file("pipe");
    execFileSync("mkfifo", [pipe]);
    const [outcome, read] = await Promise.all([
      given.cli(["get", "k", pipe]),
      (async () => (await import("node:fs/promises")).readFile(pipe, "utf8"))(),
    ]);
    expect({ exitCode: outcome.exitCode, read }).toEqual({ exitCode: 0, read: "new" });
    expect(statSync(pipe).isFIFO()).toBe(true);
  });

  test("--json without a file is a mistake: stdout cannot be both", async () => {
    await using given = await setUp();
    expect((await given.cli(["get", "k", "--json"])).exitCode).toBe(2);
  });

  test("stops when asked to, leaving no file", async () => {
    await using given = await setUp();
    const stop = new AbortController();
    given.store.misbehave = (_, response) => {
      response.writeHead(200, { "content-length": 1_000 });
      response.write(Buffer.alloc(10), () => stop.abort());
      return true;
    };
    const before = readdirSync(given.directory.path);
    const { exitCode } = await given.cli(["get", "k", given.directory.file("copy")], { signal: stop.signal });
    expect(exitCode).toBe(130);
    expect(readdirSync(given.directory.path)).toEqual(before);
  });
});

describe("kintsugi patch", () => {
  test("sends a merge patch given in place, by file or on stdin", async () => {
    await using given = await setUp();
    await given.cli(["put", "-", "d"], { stdin: '{"a":1}' });
    const patch = given.directory.file("patch.json");
    writeFileSync(patch, '{"b":2}');
    expect((await given.cli(["patch", "d", ' {"a":2}', "--if-match", "e1"])).text).toContain("no node was touched");
    expect(given.store.seen.at(-1)).toMatchObject({
      method: "PATCH",
      headers: { "content-type": "application/merge-patch+json", "if-match": '"e1"', "content-length": "8" },
    });
    expect((await given.cli(["patch", "d", patch])).exitCode).toBe(0);
    expect((await given.cli(["patch", "d", "-"], { stdin: '{"c":3}' })).exitCode).toBe(0);
    expect((await given.cli(["get", "d"])).text).toBe('{"a":2,"b":2,"c":3}');
    expect((await given.cli(["patch", "d", "no-such-file"])).stderr).toContain("file_unreadable");
  });
});

test("keys of any characters reach the store unchanged", async () => {
  await using given = await setUp();
  const keys = [
    "../x",
    "a/../../b",
    "a//b",
    "/lead",
    "trail/ ",
    "%2e%2e",
    "a?b#c&d=e+f",
    "'()*!~",
    "\u{1f600}\u00e9",
    "e\u0301",
    "new\nline",
    ".",
  ];
  for (const key of keys) {
    expect((await given.cli(["put", "--key", key, "-"], { stdin: key })).exitCode).toBe(0);
    expect((await given.cli(["get", key])).text).toBe(key);
  }
  expect([...given.store.objects.keys()]).toEqual(keys.map((key) => `default/${key}`));
  expect(given.store.seen[0]?.target).toBe("/objects/../x");
});
