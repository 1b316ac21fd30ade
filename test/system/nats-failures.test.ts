/** The client library against lost messages, servers that are killed and gateways that die. */
import { connect } from "@nats-io/transport-node";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { connectKintsugi } from "../../src/client/client.ts";
import { GatewayLink } from "../../src/client/gateway-link.ts";
import { getObject } from "../../src/client/get.ts";
import { putObject } from "../../src/client/put.ts";
import type { ObjectApi } from "../../src/gateway/object-api.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { systemRandom } from "../../src/lib/random.ts";
import { decodeFrame } from "../../src/nats/transfer-frame.ts";
import { lossyConnection, type Fate } from "../support/lossy-connection.ts";
import { createMemoryObjects } from "../support/memory-objects.ts";
import { startTestDoor, type TestDoor } from "../support/nats-door.ts";
import { startNats } from "../support/nats.ts";
import { MIB, pieces, sha256 } from "../support/pieces.ts";
import { noise, openTestStore, type TestStore } from "../support/store.ts";

let store: TestStore;
beforeAll(async () => {
  store = await openTestStore();
});
afterAll(async () => {
  await store?.[Symbol.asyncDispose]();
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
    await using nats = await startNats();
    await using _door = await startTestDoor(nats.urls, store.store.api);
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
    const dying = await startTestDoor(other.urls, store.store.api, { transferIdleMs: 3_000 });
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

  test("an upload from a source that is spent fails clearly, and nothing of it is visible", async ({ expect }) => {
    await using other = await startNats();
    const dying = await startTestDoor(other.urls, store.store.api, { transferIdleMs: 3_000 });
    await using sender = await connectKintsugi({ servers: other.urls });
    const source = pieces(noise(4 * MIB, 32), 70_001, (at) =>
      at > MIB && at < MIB + 70_001 ? dying.kill() : undefined,
    );
    await expect(sender.put("lost", source)).rejects.toMatchObject({ code: "nats_unavailable", outcomeUnknown: false });
    expect(await store.get("lost")).toBeNull();
    await expect.poll(() => store.store.deps.memory.used).toBe(0);
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
    const dying = await startTestDoor(other.urls, store.store.api, { transferIdleMs: 3_000 });
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
    await using patient = await startNats();
    const objects = createMemoryObjects();
    await using _door = await startTestDoor(other.urls, objects, { transferIdleMs: 200 });
    await using _patientDoor = await startTestDoor(patient.urls, objects);
    await using reader = await connectKintsugi({ servers: other.urls });
    await using writer = await connectKintsugi({ servers: patient.urls });
    await writer.put("replaced", noise(4 * MIB, 34));
    const chunks = (await reader.get("replaced"))?.[Symbol.asyncIterator]();
    await chunks?.next();
    await writer.put("replaced", noise(4 * MIB, 44));
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
