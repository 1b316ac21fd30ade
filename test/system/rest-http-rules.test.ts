/** The HTTP rules with raw bytes over loopback, on each runtime: what its own parser lets through must stop at ours. */
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startChild, type TestChild } from "../support/child-process.ts";
import { codeOf, openRaw, sendRaw } from "../support/raw-http.ts";
import { runtimeArgs, runtimeBinary, runtimeProblem, RUNTIMES, type Runtime } from "../support/runtimes.ts";

const CHILD = join(import.meta.dirname, "../support/rest-child.ts");
const HOST = "Host: store.example\r\n";
const CHUNKED = "Transfer-Encoding: chunked\r\n";
const SMUGGLED = `PUT /objects/smuggled HTTP/1.1\r\n${HOST}Content-Length: 1\r\n\r\nx`;

/** Each must be refused with 400 and a closed connection. */
const MALFORMED: Readonly<Record<string, string>> = {
  "an absolute-form target": `GET http://store.example/objects/a HTTP/1.1\r\n${HOST}\r\n`,
  "an asterisk target": `OPTIONS * HTTP/1.1\r\n${HOST}\r\n`,
  "a fragment in the target": `GET /objects/a#b HTTP/1.1\r\n${HOST}\r\n`,
  "bytes beyond ASCII in the target": `GET /objects/\u00e9 HTTP/1.1\r\n${HOST}\r\n`,
  "no Host": "GET /health HTTP/1.1\r\n\r\n",
  "two Hosts": `GET /health HTTP/1.1\r\n${HOST}Host: other.example\r\n\r\n`,
  "a Host that is none": `GET /health HTTP/1.1\r\nHost: a/b\r\n\r\n`,
  "another encoding": `PUT /objects/a HTTP/1.1\r\n${HOST}Transfer-Encoding: xchunked\r\n\r\n1\r\nx\r\n0\r\n\r\n`,
  "two encodings": `PUT /objects/a HTTP/1.1\r\n${HOST}Transfer-Encoding: gzip, chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n`,
  "chunked twice": `PUT /objects/a HTTP/1.1\r\n${HOST}${CHUNKED}${CHUNKED}\r\n1\r\nx\r\n0\r\n\r\n`,
  "an empty encoding": `PUT /objects/a HTTP/1.1\r\n${HOST}Transfer-Encoding: \r\n\r\n${SMUGGLED}`,
  "length and encoding": `PUT /objects/a HTTP/1.1\r\n${HOST}Content-Length: 5\r\n${CHUNKED}\r\n0\r\n\r\n${SMUGGLED}`,
  "two lengths": `PUT /objects/a HTTP/1.1\r\n${HOST}Content-Length: 1\r\nContent-Length: 2\r\n\r\nxy`,
  "two equal lengths": `PUT /objects/a HTTP/1.1\r\n${HOST}Content-Length: 1\r\nContent-Length: 1\r\n\r\nx${SMUGGLED}`,
  "a signed length": `PUT /objects/a HTTP/1.1\r\n${HOST}Content-Length: +1\r\n\r\nx`,
  "a list of lengths": `PUT /objects/a HTTP/1.1\r\n${HOST}Content-Length: 1, 1\r\n\r\nx`,
  "a space before the colon": `PUT /objects/a HTTP/1.1\r\n${HOST}Content-Length : 1\r\n\r\nx`,
  "a folded header": `GET /health HTTP/1.1\r\n${HOST}A: b\r\n c\r\n\r\n`,
  "bare line feeds": `GET /health HTTP/1.1\nHost: a\n\n`,
  "a bare carriage return": `GET /health HTTP/1.1\r\n${HOST}A: b\rC: d\r\n\r\n`,
  "a NUL in a header": `GET /health HTTP/1.1\r\n${HOST}A: b\0c\r\n\r\n`,
  "a broken header name": `GET /health HTTP/1.1\r\n${HOST}A(: b\r\n\r\n`,
  "HTTP/1.0 with an encoding": `PUT /objects/a HTTP/1.0\r\n${HOST}${CHUNKED}\r\n1\r\nx\r\n0\r\n\r\n`,
  "HTTP/2.0 in a request line": `GET /health HTTP/2.0\r\n${HOST}\r\n`,
  "another expectation": `PUT /objects/a HTTP/1.1\r\n${HOST}Expect: miracles\r\nContent-Length: 1\r\n\r\nx`,
  "a method of nobody": `FROB /health HTTP/1.1\r\n${HOST}\r\n`,
  "a body where none belongs": `GET /objects/a HTTP/1.1\r\n${HOST}Content-Length: 90000\r\n\r\n`,
};

/** Begun as proper uploads, broken later: the connection must end and nothing must be stored. */
const BROKEN_BODIES: Readonly<Record<string, string>> = {
  "a chunk size that is no number": "zz\r\nx\r\n0\r\n\r\n",
  "a signed chunk size": "-1\r\nx\r\n0\r\n\r\n",
  "a prefixed chunk size": "0x1\r\nx\r\n0\r\n\r\n",
  "a chunk longer than its size": "1\r\nxy\r\n0\r\n\r\n",
  "bare line feeds between chunks": "1\nx\n0\n\n",
};

/** Targets and the keys that they must name. */
const TARGETS: readonly (readonly [target: string, key: string])[] = [
  ["a/../b", "a/../b"],
  ["a/%2e%2e/b", "a/../b"],
  ["%2e%2e", ".."],
  ["a//b", "a//b"],
  ["/a/", "/a/"],
  ["a+b", "a+b"],
  ["a%2Fb", "a/b"],
  ["a\\b", "a\\b"],
  ['"<>^`{|}', '"<>^`{|}'],
  ["a%0Ab", "a\nb"],
  ["%F0%9F%A6%86", "\u{1f986}"],
];

describe.each(RUNTIMES)("the HTTP server on %s", (runtime: Runtime) => {
  test("runs here", () => expect(runtimeProblem(runtime)).toBeNull());

  let child: TestChild;
  let url: string;
  beforeAll(async () => {
    child = startChild(runtimeBinary(runtime), [
      ...runtimeArgs(runtime),
      CHILD,
      JSON.stringify({ headersTimeoutMs: 1_500 }),
    ]);
    await child.linesReach(1);
    url = `http://127.0.0.1:${child.lines[0]}`;
  });
  afterAll(() => child.kill());

  const statusOf = async (path: string) => (await sendRaw(url, `GET ${path} HTTP/1.1\r\n${HOST}\r\n`)).status;

  test.each(Object.entries(MALFORMED))("refuses %s and closes", async (_, bytes) => {
    using connection = await openRaw(url);
    connection.write(Buffer.from(bytes, "latin1"));
    const answer = await connection.next();
    expect(answer.status).toBe(400);
    expect(codeOf(answer)).toBe("request_malformed");
    expect(answer.headers.get("connection")).toBe("close");
    expect(await connection.closed()).toBe("");
    expect(await statusOf("/objects/smuggled")).toBe(404);
  });

  test.each(Object.entries(BROKEN_BODIES))("stores nothing of a body with %s", async (_, bytes) => {
    using connection = await openRaw(url);
    connection.write(`PUT /objects/broken HTTP/1.1\r\n${HOST}${CHUNKED}\r\n${bytes}`);
    expect(await connection.closed()).not.toMatch(/^HTTP\/1.1 2/);
    expect(await statusOf("/objects/broken")).toBe(404);
  });

  test.each(TARGETS)("takes the target %s as it is", async (target, key) => {
    const put = `PUT /objects/${target} HTTP/1.1\r\n${HOST}Content-Length: 1\r\n\r\nx`;
    const receipt = JSON.parse((await sendRaw(url, put)).body) as { key: string };
    expect(Buffer.from(receipt.key, "latin1").toString()).toBe(key);
  });

  test("refuses headers beyond its limit with 431", async () => {
    const answer = await sendRaw(url, `GET /health HTTP/1.1\r\n${HOST}A: ${"a".repeat(40_000)}\r\n\r\n`);
    expect(answer.status).toBe(431);
  });

  test("has room for a key of 1,024 escaped bytes and 8 KiB of metadata", async () => {
    const key = "%E2%82%AC".repeat(341);
    const metadata = `x-kintsugi-meta-a: ${"v".repeat(8_000)}\r\n`;
    const answer = await sendRaw(url, `PUT /objects/${key} HTTP/1.1\r\n${HOST}${metadata}Content-Length: 0\r\n\r\n`);
    expect(answer.status).toBe(201);
  });

  test("answers pipelined requests in order", async () => {
    using connection = await openRaw(url);
    const put = (key: string, body: string) =>
      `PUT /objects/${key} HTTP/1.1\r\n${HOST}Content-Length: ${body.length}\r\n\r\n${body}`;
    connection.write(`${put("p1", "one")}${put("p2", "two")}GET /objects/p1 HTTP/1.1\r\n${HOST}\r\n`);
    expect(JSON.parse((await connection.next()).body)).toMatchObject({ key: "p1" });
    expect(JSON.parse((await connection.next()).body)).toMatchObject({ key: "p2" });
    expect((await connection.next()).body).toBe("one");
  });

  test("says 100 Continue before it reads a body it wants", async () => {
    for (const size of [5, 200_000]) {
      using connection = await openRaw(url);
      connection.write(
        `PUT /objects/continue HTTP/1.1\r\n${HOST}Expect: 100-continue\r\nContent-Length: ${size}\r\n\r\n`,
      );
      while (connection.pending() !== "HTTP/1.1 100 Continue\r\n\r\n") await delay(1);
      connection.write("x".repeat(size));
      expect([200, 201]).toContain((await connection.next()).status);
    }
  });

  test("refuses early, with the final status and no 100, a body it does not want", async () => {
    using connection = await openRaw(url);
    connection.write(
      `PUT /objects/a?strategy=best HTTP/1.1\r\n${HOST}Expect: 100-continue\r\nContent-Length: 9000000\r\n\r\n`,
    );
    while (!connection.pending().includes("strategy_unknown")) await delay(1);
    expect(connection.pending()).toMatch(/^HTTP\/1.1 400 /);
    expect(connection.pending()).toMatch(/\r\nconnection: close\r\n/i);
    connection.socket.end();
    await connection.closed();
  });

  test("keeps a connection in step after refusing a small body", async () => {
    using connection = await openRaw(url);
    const body = `GET /objects/x HTTP/1.1\r\n${HOST}\r\n`;
    connection.write(`PUT /objects/a?strategy=best HTTP/1.1\r\n${HOST}Content-Length: ${body.length}\r\n\r\n`);
    connection.write(body);
    expect((await connection.next()).status).toBe(400);
    connection.write(`GET /health HTTP/1.1\r\n${HOST}\r\n`);
    expect((await connection.next()).body).toBe('{"status":"ok"}');
  });

  test("lets a client that is still sending read its refusal, then closes", async () => {
    using connection = await openRaw(url);
    connection.write(`PUT /objects/a?strategy=best HTTP/1.1\r\n${HOST}Content-Length: 50000000\r\n\r\n`);
    connection.write(Buffer.alloc(4_000_000));
    const answer = await connection.next();
    expect([answer.status, answer.headers.get("connection")]).toEqual([400, "close"]);
    await connection.closed();
  });

  test("stores nothing of a client that vanishes mid-upload, at any size", async () => {
    for (const [announced, sent] of [
      [1_000, 500],
      [5_000_000, 300_000],
      [5_000_000, 0],
    ] as const) {
      using connection = await openRaw(url);
      connection.write(`PUT /objects/vanished HTTP/1.1\r\n${HOST}Content-Length: ${announced}\r\n\r\n`);
      if (sent > 0) connection.write(Buffer.alloc(sent));
      await new Promise<void>((resolve) => connection.socket.write("", () => resolve()));
      connection.socket.destroy();
    }
    using chunked = await openRaw(url);
    chunked.write(`PUT /objects/vanished HTTP/1.1\r\n${HOST}${CHUNKED}\r\n5\r\nhello\r\n`);
    chunked.socket.end();
    await chunked.closed();
    // The next request is behind the others: by then they have been noticed.
    while (/requestsInFlight":[^1]/.test((await sendRaw(url, `GET /cluster/stats HTTP/1.1\r\n${HOST}\r\n`)).body)) {
      await delay(5);
    }
    expect(await statusOf("/objects/vanished")).toBe(404);
  });

  test("sends streamed bodies from reused shared memory whole, to slow readers too", async () => {
    const bytes = Buffer.alloc(12_000_000);
    for (let at = 0; at < bytes.length; at += 4) bytes.writeUInt32LE(at, at);
    await fetch(`${url}/objects/shared`, { method: "PUT", body: bytes });
    const read = await fetch(`${url}/objects/shared`);
    const parts: Buffer[] = [];
    for await (const part of read.body as unknown as AsyncIterable<Uint8Array>) {
      parts.push(Buffer.from(part));
      if (parts.length % 50 === 0) await delay(5);
    }
    expect(Buffer.concat(parts).equals(bytes)).toBe(true);
  });

  test("closes a connection that sends no headers in time", async () => {
    using silent = await openRaw(url);
    using partial = await openRaw(url);
    partial.write("GET /health HTTP/1.1\r\nHost: a");
    // Bun closes such a connection by itself, without a word.
    expect(await partial.closed()).toMatch(
      runtime === "bun" ? /^$|request_timeout/ : /^HTTP\/1.1 408 [^]*request_timeout/,
    );
    await silent.closed();
  });
});
