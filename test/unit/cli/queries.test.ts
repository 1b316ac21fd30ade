import { once } from "node:events";
import { createServer as createHttpServer } from "node:http";
import { createServer, type AddressInfo, type Server } from "node:net";
import { describe, expect, test, vi } from "vitest";
import { problem, startContractServer } from "./contract-server.ts";
import { run } from "./run.ts";

async function storeWith(...keys: string[]) {
  const store = await startContractServer();
  for (const key of keys) store.objects.set(`default/${key}`, { bytes: Buffer.from(key), headers: {}, sha256: null });
  store.objects.set("other/elsewhere", { bytes: Buffer.from(""), headers: {}, sha256: null });
  return store;
}

const lines = (text: string) => text.split("\n").slice(0, -1);

describe("kintsugi ls", () => {
  test("goes through all pages", async () => {
    await using store = await storeWith("a", "b", "c", "d", "e");
    const { exitCode, text } = await run(["ls", "--url", store.url]);
    expect(exitCode).toBe(0);
    expect(lines(text)).toEqual(["a", "b", "c", "d", "e"]);
    expect(store.seen.map((request) => request.target)).toEqual([
      "/objects?limit=1000",
      "/objects?after=b&limit=1000",
      "/objects?after=d&limit=1000",
    ]);
  });

  test("takes prefix, delimiter and bucket", async () => {
    await using store = await storeWith("x/1", "x/y/2", "x/y/3", "z");
    const folded = await run(["ls", "x/", "--delimiter", "/", "--url", store.url]);
    expect(lines(folded.text)).toEqual(["x/1", "x/y/"]);
    expect(lines((await run(["ls", "--bucket", "other", "--url", store.url])).text)).toEqual(["elsewhere"]);
    expect((await run(["ls", "none", "--url", store.url])).text).toBe("");
  });

  test("--long adds size, strategy and time; --json gives one value per line", async () => {
    await using store = await storeWith("x/1", "y");
    const long = await run(["ls", "--long", "--delimiter", "/", "--url", store.url]);
    expect(lines(long.text)).toEqual(["-    -   -                         x/", "1 B  ec  2026-01-02T03:04:05.000Z  y"]);
    const json = await run(["ls", "--delimiter", "/", "--json", "--url", store.url]);
    expect(lines(json.text).map((line) => JSON.parse(line) as unknown)).toMatchObject([{ prefix: "x/" }, { key: "y" }]);
  });

  test("a key cannot command the terminal", async () => {
    await using store = await storeWith("a\u001b[2Jb\nc\u202ed");
    expect((await run(["ls", "--url", store.url])).text).toBe("a\\x1b[2Jb\\x0ac\\u202ed\n");
  });
});

describe("kintsugi rm", () => {
  test("deletes every key it can; the first failure gives the exit code", async () => {
    await using store = await storeWith("a", "b");
    const { exitCode, text, stderr } = await run(["rm", "a", "gone", "b", "--url", store.url]);
    expect(exitCode).toBe(3);
    expect(lines(text)).toEqual(["a  deleted", "b  deleted"]);
    expect(stderr).toContain("kintsugi: object_not_found:");
    expect([...store.objects.keys()]).toEqual(["other/elsewhere"]);
  });

  test("--force forgives missing ones; --json tells of each", async () => {
    await using store = await storeWith("a");
    const { exitCode, text, stderr } = await run(["rm", "a", "gone", "--force", "--json", "--url", store.url]);
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
    expect(lines(text).map((line) => JSON.parse(line) as unknown)).toEqual([
      { key: "a", deleted: true },
      { key: "gone", deleted: false, code: "object_not_found" },
    ]);
  });
});

describe("kintsugi stat and status", () => {
  test("stat shows what the store knows", async () => {
    await using store = await storeWith("a/b");
    const { exitCode, text } = await run(["stat", "a/b", "--url", store.url]);
    expect(exitCode).toBe(0);
    expect(lines(text)).toEqual(["key: a/b", "sizeBytes: 3", "nodes: node-1, node-2"]);
    expect(store.seen[0]?.target).toBe("/objects/a/b?info");
    expect((await run(["stat", "gone", "--url", store.url])).exitCode).toBe(3);
  });

  test("status shows health and a table of the nodes", async () => {
    await using store = await storeWith();
    const { exitCode, text } = await run(["status", "--url", store.url]);
    expect(exitCode).toBe(0);
    expect(lines(text)).toEqual([
      "status: ok",
      "nodesLive: 2",
      "objects: 1",
      "",
      "NAME    STATE  LIVE",
      "node-1  live   2.0 KiB",
    ]);
    const json = await run(["status", "--json", "--url", store.url]);
    expect(JSON.parse(json.text)).toMatchObject({ health: { status: "ok" }, stats: { objects: 1 } });
  });

  test("status of a store that is not well exits 6 and still shows it", async () => {
    await using store = await storeWith();
    store.misbehave = (request, response) => {
      if (request.url !== "/cluster/health") return false;
      response.writeHead(503, { "content-type": "application/json" }).end('{"status":"degraded"}');
      return true;
    };
    const { exitCode, text } = await run(["status", "--url", store.url]);
    expect(exitCode).toBe(6);
    expect(lines(text)[0]).toBe("status: degraded");
  });
});

describe("a store that fails", () => {
  test.each([
    [503, "overloaded", 6],
    [404, "object_not_found", 3],
    [412, "precondition_failed", 4],
    [500, "object_damaged", 5],
    [400, "key_invalid", 1],
    [429, "code_of_the_future", 6],
    [500, "code_of_the_future", 1],
  ])("%i %s exits %i", async (status, code, exit) => {
    await using store = await storeWith();
    store.misbehave = (_, response) => problem(response, status, code);
    const { exitCode, stderr, text } = await run(["ls", "--url", store.url]);
    expect({ exitCode, stderr, text }).toEqual({
      exitCode: exit,
      stderr: `kintsugi: ${code}: What happened: ${code} (request req-7)\n`,
      text: "",
    });
  });

  test("its Retry-After is passed on", async () => {
    await using store = await storeWith();
    store.misbehave = (_, response) => problem(response, 503, "overloaded", { "retry-after": "2" });
    expect((await run(["ls", "--url", store.url])).stderr).toContain("What happened: overloaded; try again in 2 s");
  });

  test("an answer that is no problem document, or not JSON, is reported as what it is", async () => {
    await using store = await storeWith();
    store.misbehave = (_, response) => {
      response.writeHead(502).end("<html>");
      return true;
    };
    expect(await run(["ls", "--url", store.url])).toMatchObject({
      exitCode: 1,
      stderr: "kintsugi: http_502: The store answered 502\n",
    });
    store.misbehave = (_, response) => {
      response.end("<html>");
      return true;
    };
    expect((await run(["ls", "--url", store.url])).stderr).toMatch(/answer_unexpected: The answer to GET is not JSON/);
  });

  test("one that is not there exits 6 with advice", async () => {
    const store = await storeWith();
    await store[Symbol.asyncDispose]();
    const { exitCode, stderr } = await run(["ls", "--url", store.url]);
    expect(exitCode).toBe(6);
    expect(stderr).toMatch(/^kintsugi: unreachable: Cannot reach http:.*start a store with `kintsugi serve`/);
  });

  test("something else that listens there is no store, and a part of a cluster no gateway", async () => {
    const other = createServer((socket) => socket.end("INFO {}\r\n"));
    const part = createHttpServer((_, response) => response.writeHead(404).end());
    for (const server of [other, part]) await once(server.listen(0, "127.0.0.1"), "listening");
    const status = async (server: Server) =>
      await run(["status", "--url", `http://127.0.0.1:${(server.address() as AddressInfo).port}`]);
    const [toOther, toPart] = [await status(other), await status(part)];
    for (const server of [other, part]) server.close();
    expect(toOther.stderr).toMatch(/^kintsugi: not_a_store: .* does not speak HTTP.*\n$/);
    expect(toPart.stderr).toMatch(/^kintsugi: not_a_gateway: .*give --url that of a gateway\n$/);
    expect([toOther.exitCode, toPart.exitCode]).toEqual([1, 1]);
  });

  test("get into a folder that is not there names the folder", async () => {
    await using store = await storeWith("a");
    const { exitCode, stderr } = await run(["get", "a", "/no/such folder/a.bin", "--url", store.url]);
    expect(stderr).toBe(
      'kintsugi: file_unwritable: Cannot write "/no/such folder/a.bin": there is no folder "/no/such folder"\n',
    );
    expect(exitCode).toBe(1);
  });
});

test("--url beats KINTSUGI_URL, and an address below a path is kept", async () => {
  await using store = await storeWith("a");
  vi.stubEnv("KINTSUGI_URL", store.url);
  expect(lines((await run(["ls"])).text)).toEqual(["a"]);
  vi.stubEnv("KINTSUGI_URL", "http://127.0.0.1:1");
  expect(lines((await run(["ls", "--url", store.url])).text)).toEqual(["a"]);
  vi.unstubAllEnvs();
  await run(["stat", "a", "--url", `${store.url}/store/`]);
  expect(store.seen.at(-1)?.target).toBe("/store/objects/a?info");
});

test.each([["--help"], ["put", "--help"], ["help", "config"]])(
  "%s %s is shown on stdout and exits 0",
  async (...operands) => {
    const { exitCode, text, stderr } = await run(operands.filter((operand) => operand !== undefined));
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
    expect(text).toMatch(/^Usage: kintsugi/);
  },
);

test.each([
  [[]],
  [["lss"]],
  [["get"]],
  [["ls", "--nope"]],
  [["ls", "--url", "ftp://x"]],
  [["ls", "--url", "127.0.0.1:8000"]],
  [["ls", "--url", "http://a:b@localhost"]],
])("%j is a usage error: exit code 2, nothing on stdout", async (operands) => {
  expect(await run(operands)).toMatchObject({ exitCode: 2, text: "" });
});
