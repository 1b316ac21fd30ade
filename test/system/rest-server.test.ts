/** What the REST server does when clients, sources or time misbehave; in this process, partly under a manual clock. */
import { setTimeout as delay } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { StoreError } from "../../src/domain/errors.ts";
import type { ObjectApi } from "../../src/gateway/object-api.ts";
import { AssertionError } from "../../src/lib/assert.ts";
import type { Logger } from "../../src/lib/logger.ts";
import type { GetResult } from "../../src/object/requests.ts";
import { ManualClock, settle } from "../support/manual-clock.ts";
import { createMemoryObjects } from "../support/memory-objects.ts";
import { codeOf, openRaw, sendRaw } from "../support/raw-http.ts";
import { startTestRest, type TestRest } from "../support/rest-server.ts";

const HOST = "Host: store.example\r\n";
const get = (path: string) => `GET ${path} HTTP/1.1\r\n${HOST}\r\n`;
const put = (path: string, body: string, headers = "") =>
  `PUT ${path} HTTP/1.1\r\n${HOST}${headers}Content-Length: ${body.length}\r\n\r\n${body}`;

/** Objects in memory, with some functions replaced. */
function objectsWith(change: (objects: ObjectApi) => Partial<ObjectApi>): ObjectApi {
  const objects = createMemoryObjects({ chunkBytes: 64 * 1_024 });
  return { ...objects, ...change(objects) };
}

/** A found object whose body comes from `chunks` in place of its own. */
function streamed(result: GetResult, chunks: AsyncIterable<Uint8Array>): GetResult {
  if (result.outcome !== "found") return result;
  return { ...result, body: { kind: "stream", chunks, sizeBytes: result.stored.record.sizeBytes } };
}

function recordingLogger(): Logger & { readonly lines: { level: string; fields: Record<string, unknown> }[] } {
  const lines: { level: string; fields: Record<string, unknown> }[] = [];
  const at = (level: string) => (fields: Record<string, unknown>) => void lines.push({ level, fields });
  const logger = { lines, debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error") };
  return { ...logger, child: () => recordingLogger() };
}

/** A server under a clock that the test moves; closing it moves the clock as far as it takes. */
async function startUnder(
  clock: ManualClock,
  settings: Parameters<typeof startTestRest>[0] = {},
  api: ObjectApi = createMemoryObjects(),
): Promise<TestRest> {
  const rest = await startTestRest(settings, { api, clock });
  return {
    ...rest,
    async [Symbol.asyncDispose]() {
      let closed = false;
      const closing = rest.close().finally(() => (closed = true));
      while (!closed) {
        clock.advance(1_000);
        await settle();
      }
      await closing;
    },
  };
}

async function until(check: () => boolean): Promise<void> {
  while (!check()) await delay(1);
}

describe("a response whose source fails", () => {
  test("before its first byte is a problem document", async () => {
    // oxlint-disable-next-line require-yield
    async function* failing(): AsyncGenerator<Uint8Array> {
      throw new StoreError("object_damaged", "3 of 6 cells are damaged in /var/secret");
    }
    const api = objectsWith((objects) => ({ get: async (request) => streamed(await objects.get(request), failing()) }));
    await using rest = await startTestRest({}, { api });
    await sendRaw(rest.url, put("/objects/a", "hello"));
    const answer = await sendRaw(rest.url, get("/objects/a"));
    expect([answer.status, codeOf(answer)]).toEqual([500, "object_damaged"]);
    expect(answer.body).not.toContain("secret");
  });

  test.each(["throws", "ends early", "gives too much"])("later (%s) never ends cleanly", async (how) => {
    async function* failing(): AsyncGenerator<Uint8Array> {
      yield Buffer.alloc(60_000, "a");
      if (how === "throws") throw new StoreError("object_damaged", "damaged");
      if (how === "gives too much") yield Buffer.alloc(60_000, "b");
    }
    const api = objectsWith((objects) => ({ get: async (request) => streamed(await objects.get(request), failing()) }));
    const logger = recordingLogger();
    await using rest = await startTestRest({}, { api, logger });
    await sendRaw(rest.url, put("/objects/a", "x".repeat(100_000)));
    using connection = await openRaw(rest.url);
    connection.write(get("/objects/a"));
    const received = await connection.closed();
    expect(received).toMatch(/Content-Length: 100000\r\n/);
    expect(received.length).toBeLessThan(100_000);
    expect(logger.lines.at(-1)).toMatchObject({ level: "warn", fields: { status: 500 } });
  });
});

describe("the watch over progress", () => {
  test("answers 408 to an upload that creeps, and keeps nothing of it", async () => {
    const clock = new ManualClock();
    let started = () => {};
    const reading = new Promise<void>((resolve) => (started = resolve));
    const api = objectsWith((objects) => ({
      put: (request) => {
        started();
        return objects.put(request);
      },
    }));
    await using rest = await startUnder(clock, {}, api);
    using connection = await openRaw(rest.url);
    connection.write(`PUT /objects/slow HTTP/1.1\r\n${HOST}Content-Length: 900000\r\n\r\nfirst bytes`);
    await reading;
    await settle();
    clock.advance(32_000);
    const answer = await connection.next();
    expect([answer.status, codeOf(answer)]).toEqual([408, "request_timeout"]);
    await connection.closed();
    expect((await sendRaw(rest.url, get("/objects/slow"))).status).toBe(404);
  });

  test("answers 408 to a small body that never comes", async () => {
    const clock = new ManualClock();
    await using rest = await startUnder(clock);
    using connection = await openRaw(rest.url);
    connection.write(`PUT /objects/slow HTTP/1.1\r\n${HOST}Content-Length: 90\r\n\r\n`);
    await until(() => clock.pendingTimers > 0);
    clock.advance(32_000);
    expect(codeOf(await connection.next())).toBe("request_timeout");
  });

  test("cuts off a reader that does not read, and lets go of the source", async () => {
    const clock = new ManualClock();
    let released = false;
    async function* endless(): AsyncGenerator<Uint8Array> {
      try {
        for (;;) yield Buffer.alloc(1_000_000);
      } finally {
        released = true;
      }
    }
    const api = objectsWith((objects) => ({
      get: async (request) => {
        const result = streamed(await objects.get(request), endless());
        if (result.outcome !== "found") return result;
        const record = { ...result.stored.record, sizeBytes: 1e12 };
        return { ...result, stored: { ...result.stored, record } };
      },
    }));
    await using rest = await startUnder(clock, {}, api);
    await sendRaw(rest.url, put("/objects/big", "x"));
    using connection = await openRaw(rest.url);
    connection.socket.pause();
    connection.write(get("/objects/big"));
    await until(() => clock.pendingTimers > 0);
    for (let second = 0; !released && second < 10_000; second += 1) {
      clock.advance(1_000);
      await settle();
    }
    expect(released).toBe(true);
    await until(() => rest.connections() === 0);
  });
});

describe("limits", () => {
  test("a body above the largest allowed is refused before it is sent", async () => {
    await using rest = await startTestRest({ objectBytesMax: 100_000 });
    using connection = await openRaw(rest.url);
    connection.write(`PUT /objects/a HTTP/1.1\r\n${HOST}Expect: 100-continue\r\nContent-Length: 100001\r\n\r\n`);
    const answer = await connection.next();
    expect([answer.status, codeOf(answer)]).toEqual([413, "body_too_large"]);
    expect((await sendRaw(rest.url, put("/objects/a", "x".repeat(100_000)))).status).toBe(201);
  });

  test("a chunked body is stopped at the largest allowed", async () => {
    await using rest = await startTestRest({ objectBytesMax: 100_000 });
    using connection = await openRaw(rest.url);
    connection.write(`PUT /objects/a HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n`);
    const chunk = `2710\r\n${"x".repeat(10_000)}\r\n`;
    for (let count = 0; count < 12; count += 1) connection.write(chunk);
    expect(codeOf(await connection.next())).toBe("body_too_large");
    await connection.closed();
    expect((await sendRaw(rest.url, get("/objects/a"))).status).toBe(404);
  });

  test("a patch above its limit is refused", async () => {
    await using rest = await startTestRest();
    const type = "Content-Type: application/merge-patch+json\r\n";
    const head = `PATCH /objects/a HTTP/1.1\r\n${HOST}${type}Content-Length: 1048577\r\n\r\n`;
    expect(codeOf(await sendRaw(rest.url, head))).toBe("body_too_large");
  });

  test("writes beyond the rate are refused with 429 and a time to come back, reads are not", async () => {
    const clock = new ManualClock();
    const trustedProxies = ["127.0.0.1"];
    await using rest = await startUnder(clock, { writesPerSecondMax: 2, trustedProxies });
    const from = (client: string) => put("/objects/a", "x", `X-Forwarded-For: ${client}\r\n`);
    const statuses: number[] = [];
    for (const client of ["1.1.1.1", "1.1.1.1", "1.1.1.1", "2.2.2.2"]) {
      statuses.push((await sendRaw(rest.url, from(client))).status);
    }
    expect(statuses).toEqual([201, 200, 429, 200]);
    const refused = await sendRaw(rest.url, from("1.1.1.1"));
    expect([codeOf(refused), refused.headers.get("retry-after")]).toEqual(["rate_limited", "1"]);
    expect((await sendRaw(rest.url, get("/objects/a"))).status).toBe(200);
    clock.advance(1_000);
    expect((await sendRaw(rest.url, from("1.1.1.1"))).status).toBe(200);
  });

  test("connections beyond the cap are closed, and their places given on", async () => {
    await using rest = await startTestRest({ connectionsMax: 2 });
    using first = await openRaw(rest.url);
    using second = await openRaw(rest.url);
    await until(() => rest.connections() === 2);
    using third = await openRaw(rest.url);
    await third.closed();
    first.socket.destroy();
    await until(() => rest.connections() === 1);
    expect((await sendRaw(rest.url, get("/health"))).status).toBe(200);
    second.write(get("/health"));
    expect((await second.next()).status).toBe(200);
  });

  test("overload is told with 503 and Retry-After", async () => {
    const api = objectsWith(() => ({
      put: () => Promise.reject(new StoreError("overloaded", "No memory is free", { retriable: true })),
    }));
    await using rest = await startTestRest({}, { api });
    const answer = await sendRaw(rest.url, put("/objects/a", "x"));
    expect([answer.status, answer.headers.get("retry-after")]).toEqual([503, "1"]);
  });
});

describe("close()", () => {
  test("lets a request in flight finish, refuses newcomers and drops idle connections", async () => {
    const gate = Promise.withResolvers<void>();
    let entered = false;
    const api = objectsWith((objects) => ({
      put: async (request) => {
        entered = true;
        await gate.promise;
        return await objects.put(request);
      },
    }));
    const rest = await startTestRest({}, { api });
    using idle = await openRaw(rest.url);
    using busy = await openRaw(rest.url);
    using behind = await openRaw(rest.url);
    behind.write(get("/health"));
    await behind.next();
    busy.write(put("/objects/a", "x"));
    await until(() => entered);
    const closing = rest.close();
    await idle.closed();
    await behind.closed();
    await expect(openRaw(rest.url)).rejects.toThrow(/ECONNREFUSED/);
    gate.resolve();
    const answer = await busy.next();
    expect([answer.status, answer.headers.get("connection")]).toEqual([201, "close"]);
    await closing;
    await busy.closed();
  });

  test("breaks what has not finished when the time to drain is over", async () => {
    const api = objectsWith(() => ({ put: () => new Promise<never>(() => {}) }));
    const rest = await startTestRest({ drainMs: 50 }, { api });
    using busy = await openRaw(rest.url);
    busy.write(put("/objects/a", "x"));
    await until(() => rest.connections() === 1);
    await Promise.all([rest.close(), busy.closed()]);
  });
});

describe("what is told and logged", () => {
  test("unknown failures tell a client nothing; the log has their reason under the request id", async () => {
    const logger = recordingLogger();
    const bugs: AssertionError[] = [];
    const api = objectsWith(() => ({
      get: () => Promise.reject(new TypeError("cannot read secret of undefined")),
      head: () => Promise.reject(new AssertionError("Broken invariant: secret")),
    }));
    await using rest = await startTestRest({}, { api, logger, onBug: (cause) => void bugs.push(cause) });
    const answer = await sendRaw(rest.url, get("/objects/a"));
    expect([answer.status, codeOf(answer)]).toEqual([500, "internal"]);
    expect(answer.body).not.toContain("secret");
    const { requestId } = JSON.parse(answer.body) as { requestId: string };
    expect(logger.lines.at(-1)).toMatchObject({ level: "warn", fields: { requestId, status: 500 } });
    expect(String(logger.lines.at(-1)?.fields["reason"])).toContain("secret");
    expect(bugs).toHaveLength(0);
    expect((await sendRaw(rest.url, get("/objects/a?info"))).status).toBe(500);
    expect(bugs).toHaveLength(1);
  });

  test("one line per request, with the pattern of its route and nothing that a client sent", async () => {
    const logger = recordingLogger();
    await using rest = await startTestRest({}, { logger });
    const secrets = "Authorization: Bearer hush\r\nCookie: hush=1\r\nx-kintsugi-meta-a: hush\r\n";
    await sendRaw(rest.url, put("/objects/hush-key?bucket=hush", "hush-body", secrets));
    await sendRaw(rest.url, get("/objects/hush-key?bucket=hush&token=hush"));
    await sendRaw(rest.url, get("/hush"));
    expect(JSON.stringify(logger.lines)).not.toContain("hush");
    expect(
      logger.lines.map(({ level, fields }) => [level, fields["method"], fields["route"], fields["status"]]),
    ).toEqual([
      ["info", "PUT", "/objects/:key", 201],
      ["info", "GET", "/objects/:key", 400],
      ["info", "GET", "unknown", 404],
    ]);
    expect(logger.lines[0]?.fields).toMatchObject({
      bytesIn: 9,
      requestId: expect.any(String),
      ms: expect.any(Number),
    });
  });

  test("a client that went away counts as such and costs nothing lasting", async () => {
    const logger = recordingLogger();
    let failed: unknown = null;
    let entered = false;
    const api = objectsWith((objects) => ({
      put: (request) => {
        entered = true;
        return objects.put(request).catch((cause: unknown) => Promise.reject((failed = cause) as Error));
      },
    }));
    await using rest = await startTestRest({}, { api, logger });
    using connection = await openRaw(rest.url);
    connection.write(`PUT /objects/a HTTP/1.1\r\n${HOST}Content-Length: 900000\r\n\r\nsome`);
    await until(() => entered);
    connection.socket.destroy();
    await until(() => logger.lines.length === 1);
    expect(failed).toMatchObject({ code: "body_incomplete" });
    expect(logger.lines[0]).toMatchObject({ level: "info", fields: { status: 499, code: "body_incomplete" } });
  });
});

describe("bodies that are held whole", () => {
  const patchOf = (body: string) =>
    `PATCH /objects/k HTTP/1.1\r\n${HOST}Content-Type: application/merge-patch+json\r\nContent-Length: ${body.length}\r\n\r\n${body}`;

  test.each([
    ["a small PUT", put("/objects/k", "12345")],
    ["a patch", patchOf('{"a":1}')],
  ])("%s is refused while there is no memory for it", async (_, request) => {
    const overloaded = new StoreError("overloaded", "No memory", { retriable: true });
    await using rest = await startTestRest(
      {},
      { api: objectsWith(() => ({ reserve: () => Promise.reject(overloaded) })) },
    );
    const answer = await sendRaw(rest.url, request);
    expect([answer.status, codeOf(answer)]).toEqual([503, "overloaded"]);
  });

  test("their memory is accounted for by their size and given back, also when the request fails", async () => {
    const reserved: number[] = [];
    let released = 0;
    const reserve = (bytes: number) => {
      reserved.push(bytes);
      return Promise.resolve({ release: () => void (released += 1) });
    };
    await using rest = await startTestRest({}, { api: objectsWith(() => ({ reserve })) });
    await sendRaw(rest.url, put("/objects/k", "12345"));
    await sendRaw(rest.url, put("/objects/k", "123", "If-None-Match: *\r\n"));
    await sendRaw(rest.url, patchOf('{"a":1}'));
    expect(reserved).toEqual([5, 3, 7]);
    expect(released).toBe(3);
  });
});
