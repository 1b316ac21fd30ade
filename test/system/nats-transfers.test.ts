/** The client library over a real server and a real store: bodies of all kinds and sizes, conditions, flow control. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { connectKintsugi, type KintsugiClient } from "../../src/client/client.ts";
import { KintsugiError } from "../../src/client/kintsugi-error.ts";
import { StoreError, type ErrorCode } from "../../src/domain/errors.ts";
import type { ObjectApi } from "../../src/gateway/object-api.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { CHUNK_BYTES, WINDOW_CHUNKS } from "../../src/nats/object-protocol.ts";
import { createMemoryObjects } from "../support/memory-objects.ts";
import { startTestDoor, type TestDoor } from "../support/nats-door.ts";
import { startNats, type NatsCluster } from "../support/nats.ts";
import { MIB, pieces, sha256 } from "../support/pieces.ts";
import { noise, openTestStore, type TestStore } from "../support/store.ts";

let nats: NatsCluster;
let store: TestStore;
let door: TestDoor;
let client: KintsugiClient;
beforeAll(async () => {
  [nats, store] = await Promise.all([startNats(), openTestStore()]);
  door = await startTestDoor(nats.urls, store.store.api);
  client = await connectKintsugi({ servers: nats.urls });
});
afterAll(async () => {
  await client?.close();
  await door?.[Symbol.asyncDispose]();
  await store?.[Symbol.asyncDispose]();
  await nats?.[Symbol.asyncDispose]();
});

describe("put() and get()", () => {
  const sizes = [0, 1, 1_024, 262_143, 262_144, 262_145, CHUNK_BYTES * 3, MIB + 1, 8 * MIB];
  test.each(sizes)("give %i bytes back with their digest, sent whole or as a stream", async (size) => {
    const bytes = noise(size, size + 1);
    const whole = await client.put("sized", bytes);
    expect(whole).toMatchObject({ sizeBytes: size, sha256: sha256(bytes) });
    const streamed = await client.put("streamed", pieces(bytes));
    expect(streamed).toMatchObject({ sizeBytes: size, sha256: sha256(bytes) });
    for (const key of ["sized", "streamed"]) {
      const found = await client.get(key);
      expect(found?.info).toMatchObject({ sizeBytes: size, sha256: sha256(bytes) });
      expect(Buffer.compare((await found?.bytes()) ?? Buffer.from("none"), bytes)).toBe(0);
    }
    expect(Buffer.compare((await store.get("streamed")) as Buffer, bytes)).toBe(0);
  });

  test("take text, Blobs, web streams and functions, and give text, JSON and web streams", async () => {
    const bytes = noise(600_000, 3);
    const blob = new Blob([new Uint8Array(bytes)]);
    for (const body of [blob, blob.stream(), () => pieces(bytes)]) {
      expect((await client.put("kinds", body)).sha256).toBe(sha256(bytes));
    }
    await client.put("json", '{"ü":1}', { contentType: "application/json", userMetadata: { device: "ü 7" } });
    expect(await (await client.get("json"))?.json()).toEqual({ ü: 1 });
    expect((await client.get("json"))?.info).toMatchObject({ userMetadata: { device: "ü 7" } });
    const received: Uint8Array[] = [];
    for await (const chunk of (await client.get("kinds"))?.body ?? []) received.push(chunk);
    expect(sha256(Buffer.concat(received))).toBe(sha256(bytes));
  });

  test("give ranges of any size, and null for what is not there", async () => {
    const bytes = noise(3 * MIB, 5);
    await client.put("ranged", bytes);
    const part = await client.get("ranged", { range: { first: 1_000, last: 2 * MIB } });
    expect(part).toMatchObject({ range: { start: 1_000, end: 2 * MIB + 1 }, sizeBytes: 2 * MIB - 999 });
    expect(Buffer.compare((await part?.bytes()) as Uint8Array, bytes.subarray(1_000, 2 * MIB + 1))).toBe(0);
    const tail = await client.get("ranged", { range: { suffixBytes: 10 } });
    expect(Buffer.from((await tail?.bytes()) as Uint8Array)).toEqual(bytes.subarray(-10));
    expect(await client.get("nothing here")).toBeNull();
    expect(await client.head("nothing here")).toBeNull();
    expect(await client.fields("nothing here", ["a"])).toBeNull();
  });

  test("obey conditions", async () => {
    const { etag } = await client.put("conditional", "1", { ifNoneMatch: "*" });
    await expect(client.put("conditional", "2", { ifNoneMatch: "*" })).rejects.toMatchObject({
      code: "precondition_failed",
    });
    await expect(client.put("conditional", noise(MIB), { ifMatch: "other" })).rejects.toMatchObject({
      ...{ code: "precondition_failed", retriable: false, outcomeUnknown: false },
    });
    await client.put("conditional", "3", { ifMatch: etag });
    await expect(client.delete("conditional", { ifMatch: etag })).rejects.toThrow(KintsugiError);
    const unchanged = await client.get("conditional", { ifNoneMatch: "*" });
    expect([unchanged?.notModified, (await unchanged?.bytes())?.length]).toEqual([true, 0]);
    expect([await client.delete("conditional"), await client.delete("conditional")]).toEqual([true, false]);
  });

  test("64 of each at once, small and large, do not get in each other's way", async () => {
    const sizeOf = (n: number) => [10, 2_000, 300_000, 700_000][n % 4] as number;
    const bodies = Array.from({ length: 64 }, (_, n) => noise(sizeOf(n), n + 1));
    await Promise.all(bodies.map((body, n) => client.put(`many/${n}`, body)));
    const got = await Promise.all(bodies.map(async (_, n) => (await client.get(`many/${n}`))?.bytes()));
    for (const [n, body] of bodies.entries()) expect(Buffer.compare(got[n] as Uint8Array, body)).toBe(0);
    const listed: string[] = [];
    for await (const page of client.list({ prefix: "many/", pageLimit: 10 }))
      listed.push(...page.objects.map(({ key }) => key));
    expect(listed.toSorted()).toEqual(bodies.map((_, n) => `many/${n}`).toSorted());
  });

  test("what a source throws ends the put, and nothing becomes visible", async () => {
    const failing = pieces(noise(4 * MIB), 70_001, (at) => {
      if (at > MIB) throw new Error("disk on fire");
    });
    await expect(client.put("never", failing)).rejects.toThrow("disk on fire");
    expect(await client.get("never")).toBeNull();
    await expect.poll(() => store.store.deps.memory.used).toBe(0);
  });

  test("a digest that is wrong on arrival is told, not kept quiet", async () => {
    const memory = createMemoryObjects();
    const lying: ObjectApi = {
      ...memory,
      async get(request) {
        const result = await memory.get(request);
        if (result.outcome !== "found") return result;
        const record = { ...result.stored.record, sha256: sha256(Buffer.from("other")) };
        return { ...result, stored: { ...result.stored, record } };
      },
    };
    await using other = await startNats();
    await using _door = await startTestDoor(other.urls, lying);
    await using asker = await connectKintsugi({ servers: other.urls });
    for (const size of [10, MIB]) {
      await asker.put("k", noise(size));
      await expect((await asker.get("k"))?.bytes()).rejects.toMatchObject({ code: "digest_mismatch" });
    }
  });
});

test("what a gateway refused is repeated by itself, what it leaves in doubt is not", async () => {
  await using other = await startNats();
  const memory = createMemoryObjects();
  const calls = { put: 0, delete: 0, patch: 0 };
  let code: ErrorCode = "overloaded";
  const failOnce = (call: keyof typeof calls) => {
    calls[call] += 1;
    if (calls[call] === 1) throw new StoreError(code, "not now", { retriable: true });
  };
  await using _door = await startTestDoor(other.urls, {
    ...memory,
    put: async (request) => (failOnce("put"), memory.put(request)),
    delete: async (request) => (failOnce("delete"), memory.delete(request)),
    patch: async (request) => (failOnce("patch"), memory.patch(request)),
  });
  await using user = await connectKintsugi({ servers: other.urls });
  const work = [() => user.put("a", "{}"), () => user.patch("a", { b: 1 }), () => user.delete("a")];
  for (const call of work) await call();
  expect(calls).toEqual({ put: 2, delete: 2, patch: 2 });
  code = "metadata_unavailable";
  for (const call of work) {
    Object.assign(calls, { put: 0, delete: 0, patch: 0 });
    await expect(call()).rejects.toMatchObject({ code, outcomeUnknown: true, retriable: true });
    expect(calls.put + calls.delete + calls.patch).toBe(1);
  }
  Object.assign(calls, { put: 0 });
  await user.put("a", "{}", { repeatInDoubt: true });
  expect(calls.put).toBe(2);
});

describe("flow control", () => {
  /** A store that takes nothing of a body until told to, then all of it. */
  function stalledPut(gate: Promise<void>): ObjectApi {
    const memory = createMemoryObjects();
    return { ...memory, put: async (request) => (await gate, memory.put(request)) };
  }

  test("a store that takes nothing is sent one window and no more", async () => {
    await using other = await startNats();
    const gate = Promise.withResolvers<void>();
    await using _door = await startTestDoor(other.urls, stalledPut(gate.promise));
    await using sender = await connectKintsugi({ servers: other.urls });
    const bytes = noise(6 * MIB, 9);
    let givenBytes = 0;
    const put = sender.put(
      "stalled",
      pieces(bytes, CHUNK_BYTES, (at) => void (givenBytes = at + CHUNK_BYTES)),
    );
    await expect.poll(() => givenBytes).toBeGreaterThanOrEqual(WINDOW_CHUNKS * CHUNK_BYTES);
    // A round trip to the door and back: whatever would be sent without credit has been asked for by then.
    await sender.get("x");
    await sender.get("x");
    expect(givenBytes).toBeLessThanOrEqual((WINDOW_CHUNKS + 1) * CHUNK_BYTES);
    gate.resolve();
    expect((await put).sha256).toBe(sha256(bytes));
  });

  test("a reader that stops reading holds a window, delays nobody, and gets the rest later", async () => {
    await using other = await startNats();
    let takenBytes = 0;
    const memory = createMemoryObjects({ chunkBytes: CHUNK_BYTES });
    const counted: ObjectApi = {
      ...memory,
      async get(request) {
        const result = await memory.get(request);
        if (result.outcome !== "found" || result.body.kind === "bytes") return result;
        const { chunks, sizeBytes } = result.body;
        const counting = (async function* () {
          for await (const chunk of chunks) {
            takenBytes += chunk.length;
            yield chunk;
          }
        })();
        return { ...result, body: { kind: "stream", sizeBytes, chunks: counting } };
      },
    };
    // So impatient a gateway gives the transfer up long before the reader goes on.
    await using _door = await startTestDoor(other.urls, counted, { transferIdleMs: 300 });
    await using reader = await connectKintsugi({ servers: other.urls });
    await using patient = await startNats();
    await using _patientDoor = await startTestDoor(patient.urls, memory);
    await using writer = await connectKintsugi({ servers: patient.urls });
    const bytes = noise(4 * MIB, 11);
    await writer.put("slowly", bytes);
    await writer.put("quick", "q");
    const found = await reader.get("slowly");
    const chunks = found?.[Symbol.asyncIterator]();
    const received = [Buffer.from((await chunks?.next())?.value as Uint8Array)];
    for (let n = 0; n < 20; n += 1) expect(await (await reader.get("quick"))?.text()).toBe("q");
    expect(takenBytes).toBeLessThanOrEqual((WINDOW_CHUNKS + 3) * CHUNK_BYTES);
    await systemClock.sleep(700);
    for (let next = await chunks?.next(); next?.done === false; next = await chunks?.next())
      received.push(Buffer.from(next.value));
    expect(sha256(Buffer.concat(received))).toBe(sha256(bytes));
  });

  test("what transfers may hold is counted against the gateway's memory, and given back", async () => {
    await using other = await startNats();
    const memory = createMemoryObjects();
    let reservedBytes = 0;
    let reservedBytesMax = 0;
    const counted: ObjectApi = {
      ...memory,
      async reserve(bytes) {
        reservedBytes += bytes;
        reservedBytesMax = Math.max(reservedBytesMax, reservedBytes);
        return { release: () => void (reservedBytes -= bytes) };
      },
    };
    await using _door = await startTestDoor(other.urls, counted);
    await using user = await connectKintsugi({ servers: other.urls });
    await user.put("a", noise(2 * MIB));
    expect(reservedBytesMax).toBe(WINDOW_CHUNKS * CHUNK_BYTES);
    await (await user.get("a"))?.bytes();
    await (await user.get("a"))?.cancel();
    await expect.poll(() => reservedBytes).toBe(0);
    expect(reservedBytesMax).toBe(WINDOW_CHUNKS * CHUNK_BYTES);
  });
});

test("a client waits for a gateway to come, and says when none does", async () => {
  await using other = await startNats();
  await using hasty = await connectKintsugi({ servers: other.urls, timeoutMs: 300 });
  await expect(hasty.put("a", "1")).rejects.toMatchObject({ code: "nats_unavailable", outcomeUnknown: false });
  await using patient = await connectKintsugi({ servers: other.urls });
  const put = patient.put("a", "1");
  await using _door = await startTestDoor(other.urls, createMemoryObjects());
  expect((await put).sizeBytes).toBe(1);
  await patient.close();
  await expect(patient.get("a")).rejects.toMatchObject({ code: "nats_unavailable", retriable: false });
});

test("a client that nobody answers at all fails to connect", async () => {
  await expect(connectKintsugi({ servers: "127.0.0.1:1", timeoutMs: 500 })).rejects.toMatchObject({
    ...{ code: "nats_unavailable", retriable: true },
  });
});
