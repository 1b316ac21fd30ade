/** The NATS door over a real store and a real server, asked as any client would. */
import { createHash } from "node:crypto";
import { jetstreamManager } from "@nats-io/jetstream";
import { createInbox } from "@nats-io/transport-node";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { StoreError } from "../../src/domain/errors.ts";
import { AssertionError } from "../../src/lib/assert.ts";
import { encodeHeaderText, HEADER, OPERATIONS } from "../../src/nats/object-protocol.ts";
import { decodeFrame, encodeFrame } from "../../src/nats/transfer-frame.ts";
import type { Logger } from "../../src/lib/logger.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { createMemoryObjects } from "../support/memory-objects.ts";
import { startTestDoor, type TestDoor } from "../support/nats-door.ts";
import { connectRaw, type RawClient } from "../support/nats-requests.ts";
import { startNats, type NatsCluster } from "../support/nats.ts";
import { noise, openTestStore, type TestStore } from "../support/store.ts";

let nats: NatsCluster;
let store: TestStore;
let door: TestDoor;
let raw: RawClient;
beforeAll(async () => {
  [nats, store] = await Promise.all([startNats(), openTestStore()]);
  door = await startTestDoor(nats.urls, store.store.api);
  raw = await connectRaw(nats.urls);
});
afterAll(async () => {
  await raw?.[Symbol.asyncDispose]();
  await door?.[Symbol.asyncDispose]();
  await store?.[Symbol.asyncDispose]();
  await nats?.[Symbol.asyncDispose]();
});

const sha256 = (bytes: Uint8Array | string) => createHash("sha256").update(bytes).digest("hex");
const keyHeader = (key: string) => ({ [HEADER.key]: encodeHeaderText(key) });

describe("the operations", () => {
  test("put, get and head give back the bytes and everything attached to them", async () => {
    const key = "Ünïcödé/../😀 %2e%2e //\n\ttab";
    const put = await raw.request(
      "put",
      {
        ...keyHeader(key),
        [HEADER.contentType]: "text/plain; charset=utf-8",
        [`${HEADER.metaPrefix}Device`]: encodeHeaderText("Gerät 7 😀"),
        [HEADER.sha256]: sha256("hello"),
        [HEADER.requestId]: "mine-1",
      },
      "hello",
    );
    expect(put.error).toBeNull();
    expect(put.header(HEADER.requestId)).toBe("mine-1");
    expect(put.json()).toMatchObject({ key, sizeBytes: 5, sha256: sha256("hello"), created: true });
    const got = await raw.request("get", keyHeader(key));
    expect(got.body.toString()).toBe("hello");
    const told = [HEADER.size, HEADER.sha256, HEADER.contentType, `${HEADER.metaPrefix}device`].map(got.header);
    expect(told).toEqual(["5", sha256("hello"), "text/plain; charset=utf-8", encodeHeaderText("Gerät 7 😀")]);
    expect(got.header(HEADER.etag)).toBe((put.json() as { etag: string }).etag);
    const head = await raw.request("head", keyHeader(key));
    expect(head.json()).toMatchObject({ key, userMetadata: { device: "Gerät 7 😀" }, dirty: false });
    expect(head.header(HEADER.modifiedAt)).toBe(got.header(HEADER.modifiedAt));
    // What came in by this door is what the others have.
    expect((await store.get(key))?.toString()).toBe("hello");
  });

  test("get gives ranges, and nothing that the client has already", async () => {
    await raw.request("put", keyHeader("range"), "0123456789");
    const range = async (text: string) => await raw.request("get", { ...keyHeader("range"), [HEADER.range]: text });
    const some = await range("2-4");
    expect([some.body.toString(), some.header(HEADER.range), some.header(HEADER.size)]).toEqual([
      "234",
      "2-4/10",
      "10",
    ]);
    expect([(await range("7-")).body.toString(), (await range("-2")).body.toString()]).toEqual(["789", "89"]);
    expect((await range("10-")).error).toMatchObject({ code: "range_invalid", details: { sizeBytes: 10 } });
    const etag = some.header(HEADER.etag);
    const again = await raw.request("get", { ...keyHeader("range"), [HEADER.ifNoneMatch]: etag });
    expect([again.header(HEADER.outcome), again.body.length, again.error]).toEqual(["not_modified", 0, null]);
    const other = await raw.request("get", { ...keyHeader("range"), [HEADER.ifMatch]: '"other"' });
    expect(other.error?.code).toBe("precondition_failed");
  });

  test("patch and fields change and read single values, byte for byte", async () => {
    await raw.request("put", keyHeader("doc"), '{"a":1,"b":{"c":1.0},"d":"x"}');
    const patched = await raw.request("patch", keyHeader("doc"), '{"a":2,"d":null}');
    expect(patched.json()).toMatchObject({ key: "doc", created: false });
    const fields = await raw.request("fields", { ...keyHeader("doc"), [HEADER.fields]: "b,a,none" });
    expect(JSON.parse(fields.body.toString())).toEqual({ a: 2, b: { c: 1 } });
    expect(fields.body.toString()).toContain('{"c":1.0}');
    const wrong = { ...keyHeader("doc"), [HEADER.sha256]: sha256("other") };
    expect((await raw.request("patch", wrong, '{"a":3}')).error?.code).toBe("digest_mismatch");
    expect((await raw.request("patch", keyHeader("doc"))).error?.code).toBe("body_required");
  });

  test("delete removes, and says so when there was nothing", async () => {
    await raw.request("put", keyHeader("gone"), "x");
    expect((await raw.request("delete", keyHeader("gone"))).json()).toEqual({ deleted: true });
    expect((await raw.request("delete", keyHeader("gone"))).error?.code).toBe("object_not_found");
    expect((await raw.request("get", keyHeader("gone"))).error?.code).toBe("object_not_found");
  });

  test("list pages through a bucket and folds common prefixes", async () => {
    const bucket = { [HEADER.bucket]: "listed" };
    const keys = ["a/1", "a/2", "b", "ü"];
    for (const key of keys) await raw.request("put", { ...bucket, ...keyHeader(key) }, key);
    const seen: string[] = [];
    let after = "";
    do {
      const headers = { ...bucket, [HEADER.limit]: "3", [HEADER.after]: encodeHeaderText(after) };
      const page = (await raw.request("list", headers)).json() as { objects: { key: string }[]; next: string | null };
      seen.push(...page.objects.map((entry) => entry.key));
      after = page.next ?? "";
    } while (after !== "");
    expect(seen).toEqual(keys);
    const folded = (await raw.request("list", { ...bucket, [HEADER.delimiter]: "%2F" })).json();
    expect(folded).toMatchObject({ commonPrefixes: ["a/"], objects: [{ key: "b" }, { key: "ü" }], next: null });
  });

  test("a page that would not fit a message is cut short and can be gone on from", async () => {
    const bucket = { [HEADER.bucket]: "long-names" };
    const count = 600;
    const nameOf = (n: number) => `${String(n).padStart(4, "0")}${"n".repeat(1_000)}`;
    for (let n = 0; n < count; n += 100) {
      const some = Array.from({ length: 100 }, (_, index) => nameOf(n + index));
      await Promise.all(some.map((name) => raw.request("put", { ...bucket, ...keyHeader(name) }, "x")));
    }
    const first = (await raw.request("list", { ...bucket, [HEADER.limit]: "1000" })).json() as {
      objects: { key: string }[];
      next: string;
    };
    expect(first.objects.length).toBeGreaterThan(100);
    expect(first.objects.length).toBeLessThan(count);
    expect(first.next).toBe(nameOf(first.objects.length - 1));
  });
});

describe("errors", () => {
  test("tell code, title, text and request id, in headers for the service API and in JSON", async () => {
    const answer = await raw.request("get", { ...keyHeader("no such key"), [HEADER.requestId]: "r-1" });
    const headers = [HEADER.serviceErrorCode, HEADER.serviceError, HEADER.code, HEADER.requestId].map(answer.header);
    expect(headers).toEqual(["404", "Not found", "object_not_found", "r-1"]);
    expect(answer.error).toEqual({
      ...{ code: "object_not_found", title: "Not found", message: "There is no object of this name" },
      ...{ retriable: false, outcome: "none", retryAfterMs: null, details: {}, requestId: "r-1" },
    });
  });

  test.each([
    ["get", {}, "", "parameter_invalid"],
    ["get", { [HEADER.key]: "%ff" }, "", "header_invalid"],
    ["get", { ...keyHeader("a"), "Kintsugi-Typo": "1" }, "", "header_invalid"],
    ["put", { ...keyHeader("a"), [HEADER.strategy]: "raid" }, "x", "strategy_unknown"],
    ["put", { ...keyHeader("a"), [HEADER.sha256]: sha256("other") }, "x", "digest_mismatch"],
    ["put", { ...keyHeader("a"), [HEADER.size]: "2" }, "x", "body_incomplete"],
    ["put", { ...keyHeader("a"), [HEADER.ifMatch]: "*" }, "x", "precondition_failed"],
    ["put", { ...keyHeader("a"), [HEADER.deliver]: "kintsugi.events.a.put" }, "", "parameter_invalid"],
    ["put", { ...keyHeader("a"), [HEADER.deliver]: "_INBOX.a" }, "x", "request_malformed"],
    ["put", { ...keyHeader("a"), [HEADER.strategy]: "field_hybrid" }, '{"a":', "json_invalid"],
    ["patch", keyHeader("never put"), "{}", "object_not_found"],
    ["list", { [HEADER.limit]: "0" }, "", "parameter_invalid"],
  ] as const)("%s with %o is %s", async (operation, headers, body, code) => {
    expect((await raw.request(operation, headers, body)).error?.code).toBe(code);
    expect((await raw.request("get", keyHeader("a"))).error?.code).toBe("object_not_found");
  });

  test("tell nothing of a failure of ours, and a bug stops the process", async () => {
    await using other = await startNats();
    const bugs: string[] = [];
    const failing = { ...createMemoryObjects(), head: () => Promise.reject(new Error("at /secret/path")) };
    failing.list = () => Promise.reject(new StoreError("metadata_unavailable", "server 10.0.0.7 is down"));
    failing.delete = () => {
      throw new AssertionError("Broken invariant: the secret holds");
    };
    const lines: string[] = [];
    const logger: Logger = { ...silentLogger, warn: (fields) => void lines.push(JSON.stringify(fields)) };
    await using _door = await startTestDoor(
      other.urls,
      failing,
      {},
      { logger, onBug: (bug) => void bugs.push(bug.message) },
    );
    await using asker = await connectRaw(other.urls);
    const answers = [
      await asker.request("head", keyHeader("a")),
      await asker.request("list", {}),
      await asker.request("delete", keyHeader("a")),
    ];
    expect(answers.map(({ error }) => [error?.code, error?.outcome, error?.retriable])).toEqual([
      ["internal", "unknown", false],
      ["metadata_unavailable", "unknown", true],
      ["internal", "unknown", false],
    ]);
    for (const { body } of answers) expect(body.toString()).not.toMatch(/secret|10\.0/);
    expect(bugs).toEqual(["Broken invariant: the secret holds"]);
    expect(lines.join()).toContain("/secret/path");
  });

  test("a gateway that works on all it may says overloaded, and goes on", async () => {
    await using other = await startNats();
    const gate = Promise.withResolvers<void>();
    const memory = createMemoryObjects();
    const slow = {
      ...memory,
      head: async (request: Parameters<typeof memory.head>[0]) => (await gate.promise, memory.head(request)),
    };
    await using _door = await startTestDoor(other.urls, slow, { requestsMax: 2 });
    await using asker = await connectRaw(other.urls);
    const waiting = [asker.request("head", keyHeader("a")), asker.request("head", keyHeader("a"))];
    expect((await asker.request("put", keyHeader("a"), "x")).error).toMatchObject({
      code: "overloaded",
      retriable: true,
    });
    gate.resolve();
    for (const { error } of await Promise.all(waiting)) expect(error?.code).toBe("object_not_found");
    expect((await asker.request("put", keyHeader("a"), "x")).error).toBeNull();
  });
});

describe("the service API", () => {
  const ask = async (subject: string) => (await raw.connection.request(subject)).json<Record<string, unknown>>();

  test("PING, INFO and STATS answer for all, by name and by id", async () => {
    const ping = await ask("$SRV.PING");
    const self = { name: "kintsugi", version: "0.0.0-test", metadata: { gateway: "gateway-test" } };
    expect(ping).toMatchObject({ type: "io.nats.micro.v1.ping_response", ...self });
    const info = (await ask("$SRV.INFO.kintsugi")) as { endpoints: { name: string; metadata: { schema: string } }[] };
    expect(info).toMatchObject({ type: "io.nats.micro.v1.info_response", id: ping["id"], ...self });
    expect(info.endpoints).toMatchObject(
      OPERATIONS.map((name) => ({ name, subject: `kintsugi.${name}`, queue_group: "kintsugi" })),
    );
    const schemas = info.endpoints.map(
      ({ metadata }) => JSON.parse(metadata.schema) as { request: { required: string[] } },
    );
    expect(schemas[0]?.request.required).toEqual([HEADER.key]);
    const stats = await ask(`$SRV.STATS.kintsugi.${String(ping["id"])}`);
    expect(stats).toMatchObject({ type: "io.nats.micro.v1.stats_response", started: expect.any(String) as string });
  });

  test("STATS counts requests, errors and the time that handlers really took", async () => {
    type Stats = {
      endpoints: {
        name: string;
        num_requests: number;
        num_errors: number;
        last_error: string;
        processing_time: number;
        average_processing_time: number;
      }[];
    };
    const of = async () => ((await ask("$SRV.STATS.kintsugi")) as Stats).endpoints.find(({ name }) => name === "put");
    const before = await of();
    await raw.request("put", keyHeader("counted"), "x");
    await raw.request("put", {}, "x");
    const after = await of();
    expect((after?.num_requests ?? 0) - (before?.num_requests ?? 0)).toBe(2);
    expect((after?.num_errors ?? 0) - (before?.num_errors ?? 0)).toBe(1);
    expect(after?.last_error).toBe("400:Parameter not valid");
    // A put waits for the disk: the time until the handler first awaited would be next to nothing.
    expect((after?.processing_time ?? 0) - (before?.processing_time ?? 0)).toBeGreaterThan(100_000);
    expect(after?.average_processing_time).toBeGreaterThan(0);
  });

  test("several gateways share the requests, each answered once", async () => {
    await using other = await startNats();
    const api = createMemoryObjects();
    await using one = await startTestDoor(other.urls, api);
    await using two = await startTestDoor(other.urls, api);
    await using asker = await connectRaw(other.urls);
    await Promise.all(Array.from({ length: 64 }, (_, n) => asker.request("put", keyHeader(`k${n}`), "x")));
    const served = await Promise.all(
      [one, two].map(async ({ registry }) => {
        const text = await registry.metrics();
        return Number(/nats_request_duration_seconds_count\{operation="put",code="ok"\} (\d+)/.exec(text)?.[1] ?? 0);
      }),
    );
    expect(served[0]).toBeGreaterThan(0);
    expect(served[1]).toBeGreaterThan(0);
    expect(Number(served[0]) + Number(served[1])).toBe(64);
  });
});

describe("bodies in chunks, by hand", () => {
  const chunksOf = (bytes: Uint8Array, chunkBytes: number) =>
    Array.from({ length: Math.ceil(bytes.length / chunkBytes) }, (_, n) =>
      bytes.subarray(n * chunkBytes, (n + 1) * chunkBytes),
    );

  async function upload(headers: Record<string, string>, bytes: Uint8Array, digest = sha256(bytes)) {
    const deliver = createInbox();
    const frames = raw.frames(deliver);
    const opened = await raw.request("put", { ...headers, [HEADER.deliver]: deliver });
    if (opened.error !== null) throw new Error(opened.error.code);
    const transfer = opened.header(HEADER.transfer);
    const window = Number(opened.header(HEADER.window));
    const chunkBytes = Number(opened.header(HEADER.chunkBytes));
    const chunks = chunksOf(bytes, chunkBytes);
    let limit = window;
    for (const [index, chunk] of chunks.entries()) {
      while (index >= limit) {
        const frame = await frames.next();
        if (frame.kind !== "credit") return frame;
        expect(frame.position - frame.index).toBeLessThanOrEqual(window);
        limit = frame.position;
      }
      raw.connection.publish(transfer, encodeFrame("data", index, index * chunkBytes, chunk));
    }
    raw.connection.publish(transfer, encodeFrame("end", chunks.length, bytes.length, Buffer.from(digest, "hex")));
    for (;;) {
      const frame = await frames.next();
      if (frame.kind !== "credit") return frame;
    }
  }

  test.each(["inline", "replication", "ec", "field_hybrid", "auto"])(
    "a body whose digest is not that at its end never becomes visible (%s)",
    async (strategy) => {
      const bytes =
        strategy === "inline"
          ? noise(40_000)
          : Buffer.from(JSON.stringify({ status: "ok", blob: "x".repeat(500_000) }));
      const headers = { ...keyHeader(`wrong ${strategy}`), [HEADER.strategy]: strategy };
      const frame = await upload(headers, bytes, sha256("something else"));
      expect([frame.kind, (JSON.parse(Buffer.from(frame.payload).toString()) as { code: string }).code]).toEqual([
        "failed",
        "digest_mismatch",
      ]);
      expect(await store.get(`wrong ${strategy}`)).toBeNull();
      expect((await upload(headers, bytes)).kind).toBe("done");
      expect((await store.get(`wrong ${strategy}`))?.equals(bytes)).toBe(true);
    },
  );

  test("a digest announced before has to be that at the end too", async () => {
    const headers = { ...keyHeader("announced"), [HEADER.sha256]: sha256("other") };
    const frame = await upload(headers, noise(300_000));
    expect(frame.kind).toBe("failed");
    expect((await raw.request("head", keyHeader("announced"))).error?.code).toBe("object_not_found");
  });

  test("a download is sent no further than its credit, however large the object", async () => {
    const bytes = noise(4_000_000, 7);
    await store.put("credit", bytes);
    const deliver = createInbox();
    const frames = raw.frames(deliver);
    const opened = await raw.request("get", {
      ...keyHeader("credit"),
      [HEADER.deliver]: deliver,
      [HEADER.window]: "3",
    });
    expect([opened.error, opened.body.length, opened.header(HEADER.window)]).toEqual([null, 0, "3"]);
    const transfer = opened.header(HEADER.transfer);
    const chunksSent = () => frames.waiting.filter(({ kind }) => kind === "data").length;
    for (let limit = 3; limit <= 8; limit += 1) {
      await expect.poll(chunksSent).toBe(limit);
      // What the gateway sends before it answers this arrives before the answer.
      const state = decodeFrame((await raw.connection.request(transfer, encodeFrame("ask"), { timeout: 5_000 })).data);
      expect([chunksSent(), state.index, state.position]).toEqual([limit, limit, limit]);
      raw.connection.publish(transfer, encodeFrame("credit", limit, limit + 1));
    }
    // A client that allows more than a window gets a window.
    raw.connection.publish(transfer, encodeFrame("credit", 9, 1_000_000));
    await expect.poll(chunksSent).toBe(12);
    const greedy = decodeFrame((await raw.connection.request(transfer, encodeFrame("ask"), { timeout: 5_000 })).data);
    expect([chunksSent(), greedy.position]).toEqual([12, 12]);
    const received = Buffer.concat(frames.waiting.map(({ payload }) => payload));
    expect(received.equals(bytes.subarray(0, received.length))).toBe(true);
    raw.connection.publish(transfer, encodeFrame("bye"));
  });

  test("an object too large for a message is refused to who can take no chunks", async () => {
    await store.put("too large for a message", noise(400_000));
    const refused = await raw.request("get", keyHeader("too large for a message"));
    expect(refused.error).toMatchObject({ code: "body_too_large", details: { sizeBytes: 400_000 } });
    const part = await raw.request("get", { ...keyHeader("too large for a message"), [HEADER.range]: "100-109" });
    expect(part.body).toEqual(noise(400_000).subarray(100, 110));
  });

  test("a transfer that nobody knows says so", async () => {
    const opened = await raw.request("put", { ...keyHeader("never ended"), [HEADER.deliver]: createInbox() });
    const transfer = opened.header(HEADER.transfer);
    const other = `${transfer.slice(0, transfer.lastIndexOf("."))}.guessed`;
    const answer = await raw.connection.request(other, encodeFrame("ask"), { timeout: 5_000 });
    expect(Buffer.from(answer.data).toString("latin1")).toContain("request_timeout");
    raw.connection.publish(transfer, encodeFrame("bye"));
    await expect.poll(() => store.store.deps.memory.used).toBe(0);
    expect(await store.get("never ended")).toBeNull();
  });
});

test("a client cannot make a gateway write into a stream or into the store's own subjects", async () => {
  const manager = await jetstreamManager(raw.connection);
  await manager.streams.add({ name: "TRAP", subjects: ["_kintsugi.trap.>", "orders.>"] });
  for (const reply of ["_kintsugi.trap.record", "orders.new"]) {
    for (const subject of ["kintsugi.list", "$SRV.PING"]) raw.connection.publish(subject, "", { reply });
  }
  // The door has worked on all of that when it answers this.
  await raw.request("list", {});
  await raw.connection.request("$SRV.PING");
  expect((await manager.streams.info("TRAP")).state.messages).toBe(0);
});
