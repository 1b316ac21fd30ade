/** The client library against real servers, a real store, and what goes wrong between them. */
import { createHash } from "node:crypto";
import { connect } from "@nats-io/transport-node";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { connectKintsugi, type KintsugiClient } from "../../src/client/client.ts";
import { KintsugiError } from "../../src/client/kintsugi-error.ts";
import { WINDOW_CHUNKS, CHUNK_BYTES } from "../../src/nats/object-protocol.ts";
import { decodeFrame } from "../../src/nats/transfer-frame.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { systemRandom } from "../../src/lib/random.ts";
import { GatewayLink } from "../../src/client/gateway-link.ts";
import { getObject } from "../../src/client/get.ts";
import { putObject } from "../../src/client/put.ts";
import type { ObjectApi } from "../../src/gateway/object-api.ts";
import { createMemoryObjects } from "../support/memory-objects.ts";
import { lossyConnection, type Fate } from "../support/lossy-connection.ts";
import { startTestDoor, type TestDoor } from "../support/nats-door.ts";
import { startNats, type NatsCluster } from "../support/nats.ts";
import { noise, openTestStore, type TestStore } from "../support/store.ts";

const MIB = 1_024 * 1_024;
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

const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

/** In pieces of odd sizes, as sources give them; told of every byte given. */
async function* pieces(bytes: Uint8Array, pieceBytes = 70_001, onGiven: (givenBytes: number) => unknown = () => {}) {
  for (let at = 0; at < bytes.length; at += pieceBytes) {
    const given = onGiven(at);
    if (given instanceof Promise) await given;
    yield bytes.subarray(at, at + pieceBytes);
  }
}

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
    const bytes = noise(4 * MIB, 11);
    await reader.put("slowly", bytes);
    await reader.put("quick", "q");
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

describe("messages that get lost, repeated and swapped", () => {
  const fates: readonly Fate[] = ["drop", "twice", "late", "drop"];
  /** Every n-th frame meets a fate; answers to questions and requests pass. */
  const everyNth = (n: number, offset: number) => {
    let count = 0;
    return (subject: string, bytes: Uint8Array): Fate => {
      if (bytes.length < 16 || bytes[0] !== 1 || subject.startsWith("_INBOX") === offset > 0) return "pass";
      if (decodeFrame(bytes).kind === "ask") return "pass";
      count += 1;
      return count % n === 0 ? (fates[(count / n) % fates.length] as Fate) : "pass";
    };
  };

  async function linkTo(url: string, fateOf: (subject: string, bytes: Uint8Array) => Fate) {
    const connection = await connect({ servers: url });
    const lossy = lossyConnection(connection, fateOf);
    return new GatewayLink(lossy, {
      clock: systemClock,
      random: systemRandom,
      timeoutMs: 20_000,
      inbox: "_INBOX.lossy",
    });
  }

  test.each([3, 5])("uploads arrive whole where every %i-th frame of the client does not pass", async (n) => {
    const link = await linkTo(nats.urls[0] as string, everyNth(n, 1));
    const bytes = noise(3 * MIB, n);
    const receipt = await putObject(link, "lossy up", () => pieces(bytes), {});
    expect(receipt.sha256).toBe(sha256(bytes));
    await link.connection.close();
    expect(sha256((await store.get("lossy up")) as Buffer)).toBe(sha256(bytes));
  });

  test.each([2, 3])("uploads end well where every %i-th frame of the gateway does not pass", async (n) => {
    await using other = await startNats();
    const connection = await connect({ servers: other.urls[0] as string });
    const parts = { connection: lossyConnection(connection, everyNth(n, 0)) };
    await using _door = await startTestDoor(other.urls, store.store.api, {}, parts);
    await using sender = await connectKintsugi({ servers: other.urls });
    const bytes = noise(3 * MIB, n);
    for (const key of ["deaf 1", "deaf 2"]) {
      expect((await sender.put(key, pieces(bytes))).sha256).toBe(sha256(bytes));
    }
    await connection.close();
  });

  test.each([5, 9])("downloads arrive whole where every %i-th frame of the gateway does not pass", async (n) => {
    await using other = await startNats();
    const connection = await connect({ servers: other.urls[0] as string });
    await using _door = await startTestDoor(
      other.urls,
      store.store.api,
      {},
      {
        connection: lossyConnection(connection, everyNth(n, 0)),
      },
    );
    const link = await linkTo(other.urls[0] as string, () => "pass");
    const bytes = noise(3 * MIB, n);
    await store.put("lossy down", bytes);
    expect(sha256((await (await getObject(link, "lossy down", {}))?.bytes()) as Uint8Array)).toBe(sha256(bytes));
    await link.connection.close();
    await connection.close();
  });
});

describe.concurrent("a NATS server killed and started again in the middle", () => {
  test("an upload goes on where it was, from a source that can be read only once", async () => {
    await using other = await startNats();
    await using _door = await startTestDoor(other.urls, store.store.api);
    await using sender = await connectKintsugi({ servers: other.urls });
    const bytes = noise(8 * MIB, 21);
    let killed = false;
    const source = pieces(bytes, 70_001, (at) => {
      if (killed || at < 3 * MIB) return;
      killed = true;
      return other.servers[0]?.kill9().then(() => other.servers[0]?.restart());
    });
    expect((await sender.put("survivor", source)).sha256).toBe(sha256(bytes));
    expect([killed, sha256((await store.get("survivor")) as Buffer)]).toEqual([true, sha256(bytes)]);
  });

  test("a download goes on where it was, byte for byte", async () => {
    await using other = await startNats();
    await using _door = await startTestDoor(other.urls, store.store.api);
    await using reader = await connectKintsugi({ servers: other.urls });
    const bytes = noise(8 * MIB, 22);
    await store.put("survivor down", bytes);
    const received: Buffer[] = [];
    let receivedBytes = 0;
    for await (const chunk of (await reader.get("survivor down"))?.body ?? []) {
      received.push(Buffer.from(chunk));
      const before = receivedBytes;
      receivedBytes += chunk.length;
      if (before >= 3 * MIB || receivedBytes < 3 * MIB) continue;
      await other.servers[0]?.kill9();
      await other.servers[0]?.restart();
    }
    expect(sha256(Buffer.concat(received))).toBe(sha256(bytes));
  });

  test("calls that change nothing are repeated by themselves, a small put that is in doubt is not", async () => {
    await using other = await startNats();
    const memory = createMemoryObjects();
    const arrived = Promise.withResolvers<void>();
    let held = true;
    const holding: ObjectApi = {
      ...memory,
      head: async (request) => (held ? (arrived.resolve(), new Promise(() => {})) : memory.head(request)),
      put: async (request) => (held ? (arrived.resolve(), new Promise(() => {})) : memory.put(request)),
    };
    await using door = await startTestDoor(other.urls, holding, { drainMs: 10 });
    await using user = await connectKintsugi({ servers: other.urls, timeoutMs: 3_000 });
    const head = user.head("a");
    const put = user.put("a", "1").catch((cause: unknown) => cause);
    await arrived.promise;
    await other.servers[0]?.kill9();
    held = false;
    await other.servers[0]?.restart();
    expect(await head).toBeNull();
    expect(await put).toMatchObject({ code: "deadline_exceeded", outcomeUnknown: true });
    void door;
  });
});

describe.concurrent("a gateway that dies in the middle", () => {
  test("an upload starts over with another one where its source can be read again", async () => {
    await using other = await startNats();
    const dying = await startTestDoor(other.urls, store.store.api, { transferIdleMs: 500 });
    await using sender = await connectKintsugi({ servers: other.urls });
    await using spare = await late(() => startTestDoor(other.urls, store.store.api));
    const bytes = noise(4 * MIB, 31);
    let opens = 0;
    const receipt = await sender.put("moved on", () => {
      opens += 1;
      return pieces(bytes, 70_001, async (at) => {
        if (opens > 1 || at < MIB) return;
        if ((await store.get("moved on")) !== null) throw new Error("half of it is visible");
        await spare.start();
        await dying.kill();
      });
    });
    expect([opens, receipt.sha256]).toEqual([2, sha256(bytes)]);
  });

  test("an upload from a source that is spent fails clearly, and nothing of it is visible", async () => {
    await using other = await startNats();
    const dying = await startTestDoor(other.urls, store.store.api, { transferIdleMs: 500 });
    await using sender = await connectKintsugi({ servers: other.urls });
    const source = pieces(noise(4 * MIB, 32), 70_001, (at) =>
      at > MIB && at < MIB + 70_001 ? dying.kill() : undefined,
    );
    await expect(sender.put("lost", source)).rejects.toMatchObject({ code: "nats_unavailable", outcomeUnknown: false });
    expect(await store.get("lost")).toBeNull();
    await expect.poll(() => store.store.deps.memory.used).toBe(0);
    expect((await store.orphans()).filter((name) => name.startsWith("lost"))).toEqual([]);
  });

  test("an upload whose end was sent is in doubt, and repeated only for who allows it", async () => {
    await using other = await startNats();
    const memory = createMemoryObjects();
    for (const repeatInDoubt of [false, true]) {
      const taken = Promise.withResolvers<void>();
      const dying = await startTestDoor(other.urls, {
        ...memory,
        async put(request) {
          if (request.body.kind === "stream") for await (const _ of request.body.chunks);
          taken.resolve();
          return await new Promise(() => {});
        },
      });
      await using sender = await connectKintsugi({ servers: other.urls });
      let opens = 0;
      const bytes = noise(MIB, 39);
      const put = sender.put("doubt", () => ((opens += 1), pieces(bytes)), { repeatInDoubt });
      const outcome = put.catch((cause: unknown) => cause);
      await taken.promise;
      await using _spare = await startTestDoor(other.urls, memory);
      await dying.kill();
      expect(await outcome).toMatchObject(repeatInDoubt ? { sha256: sha256(bytes) } : { outcomeUnknown: true });
      expect(opens).toBe(repeatInDoubt ? 2 : 1);
    }
  });

  test("a download goes on with another one", async () => {
    await using other = await startNats();
    const dying = await startTestDoor(other.urls, store.store.api);
    await using reader = await connectKintsugi({ servers: other.urls });
    await using spare = await late(() => startTestDoor(other.urls, store.store.api));
    const bytes = noise(6 * MIB, 33);
    await store.put("read on", bytes);
    const received: Buffer[] = [];
    for await (const chunk of (await reader.get("read on"))?.body ?? []) {
      received.push(Buffer.from(chunk));
      if (received.length !== 5) continue;
      await spare.start();
      await dying.kill();
    }
    expect(sha256(Buffer.concat(received))).toBe(sha256(bytes));
  });

  test("a download whose object was replaced meanwhile says so instead of mixing two", async () => {
    await using other = await startNats();
    await using _door = await startTestDoor(other.urls, createMemoryObjects(), { transferIdleMs: 200 });
    await using reader = await connectKintsugi({ servers: other.urls });
    await reader.put("replaced", noise(4 * MIB, 34));
    const chunks = (await reader.get("replaced"))?.[Symbol.asyncIterator]();
    await chunks?.next();
    await reader.put("replaced", noise(4 * MIB, 44));
    await systemClock.sleep(500);
    const rest = async () => {
      for (let next = await chunks?.next(); next?.done === false; next = await chunks?.next());
    };
    await expect(rest()).rejects.toMatchObject({ code: "precondition_failed" });
  });

  test("one that is stopped lets what is under way end, and refuses nothing meanwhile", async () => {
    await using other = await startNats();
    const stopping = await startTestDoor(other.urls, store.store.api, { drainMs: 10_000 });
    await using sender = await connectKintsugi({ servers: other.urls });
    const bytes = noise(4 * MIB, 36);
    let closed: Promise<void> | null = null;
    const source = pieces(bytes, 70_001, (at) => {
      if (at > MIB) closed ??= stopping.close();
    });
    expect((await sender.put("drained", source)).sha256).toBe(sha256(bytes));
    await closed;
  });

  test("one that cannot wait for a transfer ends it, and the client starts it over elsewhere", async () => {
    await using other = await startNats();
    const stopping = await startTestDoor(other.urls, store.store.api, { drainMs: 50 });
    await using sender = await connectKintsugi({ servers: other.urls });
    await using spare = await late(() => startTestDoor(other.urls, store.store.api));
    const bytes = noise(2 * MIB, 37);
    let opens = 0;
    const receipt = await sender.put("handed over", () => {
      opens += 1;
      return pieces(bytes, 70_001, async (at) => {
        if (opens > 1 || at < MIB) return;
        await spare.start();
        await stopping.close();
      });
    });
    expect([opens, receipt.sha256]).toEqual([2, sha256(bytes)]);
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

/** A door that is started when the test wants it, and ends with the test. */
async function late(make: () => Promise<TestDoor>): Promise<AsyncDisposable & { start(): Promise<void> }> {
  let made: TestDoor | null = null;
  return {
    async start() {
      made ??= await make();
    },
    [Symbol.asyncDispose]: async () => made?.[Symbol.asyncDispose](),
  };
}
