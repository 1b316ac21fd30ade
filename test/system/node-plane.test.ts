/** A node behind HTTP: what clients, the network and slow disks do to it, and what is told of it. */
import { once } from "node:events";
import { createServer, type Server, type Socket } from "node:net";
import { Registry } from "prom-client";
import { describe, expect, test } from "vitest";
import type { BlobStore } from "../../src/blob/blob-store.ts";
import { cellChecksum } from "../../src/domain/checksum.ts";
import { StoreError } from "../../src/domain/errors.ts";
import type { BlobId } from "../../src/domain/ids.ts";
import type { NodeState } from "../../src/domain/node-info.ts";
import { MIB } from "../../src/lib/bytes.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { deadlineIn } from "../../src/lib/deadline.ts";
import { LIMITS } from "../../src/limits.ts";
import {
  cellBytes,
  descriptorOf,
  FULL_CELL_BYTES,
  listIds,
  nextBlobId,
  readWhole,
  smallBlob,
  soon,
  TEST_NODE,
  WAIT_MS,
  writeLarge,
} from "../support/blobs.ts";
import { connectTo, serveStore, startServedNode } from "../support/node-plane.ts";

const within = (ms: number) => deadlineIn(systemClock, ms);

/** The store of `local` with some methods of the test's own. */
function withMethods(local: BlobStore, methods: Partial<BlobStore>): BlobStore {
  const all: Partial<BlobStore> = { node: local.node };
  for (const name of [
    "state",
    "put",
    "openWriter",
    "readCells",
    "describe",
    "list",
    "delete",
    "verify",
    "usage",
    "close",
  ]) {
    const method = name as Exclude<keyof BlobStore, "node">;
    Object.assign(all, {
      [method]: (...args: unknown[]) => Reflect.apply(local[method] as () => unknown, local, args),
    });
  }
  return Object.assign(all as BlobStore, methods);
}

describe("batches", () => {
  test("put() of many goes in few requests", async () => {
    const registry = new Registry();
    await using node = await startServedNode({}, { registry });
    const ids = Array.from({ length: 600 }, () => nextBlobId());
    await Promise.all(ids.map((id) => node.remote.put(smallBlob(id, 50), soon())));
    const requests = await valueOf(node.plane.registry, "kintsugi_data_requests_total", { operation: "batch" });
    expect(requests).toBeLessThan(20);
    expect(await valueOf(node.plane.registry, "kintsugi_data_batch_items_total", { op: "put", outcome: "ok" })).toBe(
      600,
    );
    expect(await valueOf(registry, "kintsugi_node_requests_total", { operation: "batch", outcome: "ok" })).toBe(
      requests,
    );
  });

  test("each item of a batch is answered by itself", async () => {
    await using node = await startServedNode();
    const [whole, gone, large, writing] = [nextBlobId(), nextBlobId(), nextBlobId(), nextBlobId()];
    await node.local.put(smallBlob(whole, 300), soon());
    await writeLarge(node.local, large, [200_000]);
    const writer = await node.local.openWriter(writing, WAIT_MS);
    const outcomes = await Promise.allSettled([
      node.remote.put(smallBlob(nextBlobId(), 10), soon()),
      node.remote.put(smallBlob(writing, 10), soon()),
      node.remote.delete([gone], soon()),
      node.remote.readCells(whole, 0, 1, soon()),
      node.remote.readCells(gone, 0, 1, soon()),
      node.remote.describe(whole, soon()),
      node.remote.describe(gone, soon()),
      node.remote.readCells(large, 0, 1, soon()),
    ]);
    await writer.abort();
    const told = outcomes.map((outcome) =>
      outcome.status === "fulfilled" ? outcome.value : (outcome.reason as StoreError).code,
    );
    expect(told).toMatchObject([
      undefined,
      "write_conflict",
      0,
      [{ index: 0, payload: expect.objectContaining({ length: 300 }) }],
      "blob_not_found",
      { info: { id: whole, cellCount: 1, payloadBytes: 300 } },
      null,
      [{ index: 0, payload: expect.objectContaining({ length: 200_000 }) }],
    ]);
    // The large one was asked for again, alone.
    expect(await valueOf(node.plane.registry, "kintsugi_data_requests_total", { operation: "read" })).toBe(1);
  });

  test("an item that takes long holds up neither the others of its batch nor those behind it", async () => {
    await using node = await startServedNode();
    const [slow, ...others] = Array.from({ length: 8 }, () => nextBlobId()) as [BlobId, ...BlobId[]];
    const { promise: released, resolve: release } = Promise.withResolvers<void>();
    const store = withMethods(node.local, {
      put: async (blob, deadline) => {
        if (blob.id === slow) await released;
        await node.local.put(blob, deadline);
      },
    });
    await using plane = await serveStore(store);
    await using client = connectTo(() => plane.url);
    const slowPut = client.put(smallBlob(slow, 5), soon());
    await Promise.all(others.slice(0, 4).map((id) => client.put(smallBlob(id, 5), soon())));
    await Promise.all(others.slice(4).map((id) => client.put(smallBlob(id, 5), soon())));
    expect(await node.local.describe(slow, soon())).toBeNull();
    release();
    await slowPut;
    expect(await readWhole(client, slow)).toBe(1);
  });

  test("an item whose time is up is told so alone, and its memory is not read any more", async () => {
    await using node = await startServedNode();
    const { promise: released, resolve: release } = Promise.withResolvers<void>();
    const stored: BlobId[] = [];
    const store = withMethods(node.local, {
      put: async (blob, deadline) => {
        await released;
        stored.push(blob.id);
        await node.local.put(blob, deadline);
      },
    });
    await using plane = await serveStore(store);
    const states: string[] = [];
    await using client = connectTo(() => plane.url, { onState: (state) => states.push(state) });
    const ids = Array.from({ length: 40 }, () => nextBlobId());
    const outcomes = await Promise.allSettled(ids.map((id) => client.put(smallBlob(id, 5), within(100))));
    expect(new Set(outcomes.map((outcome) => (outcome as PromiseRejectedResult).reason.code))).toEqual(
      new Set(["deadline_exceeded"]),
    );
    expect(states.at(-1)).toBe("down");
    release();
    const later = nextBlobId();
    await client.put(smallBlob(later, 5), soon());
    expect(states.at(-1)).toBe("live");
    expect(await readWhole(client, later)).toBe(1);
  });

  test("large answers of a batch come in several parts", async () => {
    await using node = await startServedNode();
    const ids = Array.from({ length: 60 }, () => nextBlobId());
    await Promise.all(ids.map((id) => node.remote.put(smallBlob(id, LIMITS.packedBlobBytesMax), soon())));
    expect(await Promise.all(ids.map(async (id) => (await node.remote.readCells(id, 0, 1, soon())).length))).toEqual(
      ids.map(() => 1),
    );
    for (const id of ids) expect(await readWhole(node.remote, id)).toBe(1);
  });
});

describe("reading", () => {
  test("readCells() writes nothing into memory that was given up, neither before nor after the answer", async () => {
    await using node = await startServedNode();
    const [small, large] = [nextBlobId(), nextBlobId()];
    await node.local.put(smallBlob(small, 5_000), soon());
    await writeLarge(node.local, large, [FULL_CELL_BYTES]);
    for (const [id, bytes] of [
      [small, 5_000],
      [large, FULL_CELL_BYTES],
    ] as const) {
      const { promise: asked, resolve: ask } = Promise.withResolvers<void>();
      const { promise: released, resolve: release } = Promise.withResolvers<void>();
      const { promise: answered, resolve: answer } = Promise.withResolvers<void>();
      const store = withMethods(node.local, {
        readCells: async (...args) => {
          ask();
          await released;
          const cells = await node.local.readCells(...args);
          answer();
          return cells;
        },
      });
      await using plane = await serveStore(store);
      const states: string[] = [];
      await using client = connectTo(() => plane.url, { onState: (state) => states.push(state) });
      const into = new Uint8Array(bytes).fill(0xee);
      const controller = new AbortController();
      const read = client.readCells(id, 0, 1, soon(), into, controller.signal);
      await asked;
      controller.abort();
      await expect(read).rejects.toMatchObject({
        code: "deadline_exceeded",
        message: expect.stringMatching(/gave it up/),
      });
      // An abort says nothing about the node; a deadline does.
      expect(states).not.toContain("down");
      const expired = client.readCells(id, 0, 1, within(20), into);
      await expect(expired).rejects.toMatchObject({ code: "deadline_exceeded" });
      expect(states.at(-1)).toBe("down");
      await expect(
        client.readCells(id, 0, 1, soon(), into, AbortSignal.abort()),
        "given up before it began",
      ).rejects.toMatchObject({ code: "deadline_exceeded" });
      release();
      await answered;
      // One more answer over the same client comes behind anything that could still be on its way.
      await client.describe(id, soon());
      expect(into.every((byte) => byte === 0xee)).toBe(true);
    }
  });

  test("readCells() reads into shared memory, window by window", async () => {
    await using node = await startServedNode();
    const id = nextBlobId();
    const lengths = [...Array(7).fill(FULL_CELL_BYTES), 33];
    await writeLarge(node.remote, id, lengths);
    const into = new Uint8Array(new SharedArrayBuffer(8 * MIB));
    const cells = await node.remote.readCells(id, 1, 50, soon(), into);
    expect(cells.map(({ index }) => index)).toEqual([1, 2, 3, 4, 5, 6, 7]);
    for (const { index, payload, checksum } of cells) {
      expect(payload.buffer).toBe(into.buffer);
      expect(cellChecksum(payload, id, index)).toBe(checksum);
    }
  });

  test("readCells() says that a blob is damaged when its cells do not fit the memory for them", async () => {
    await using node = await startServedNode();
    const [small, large] = [nextBlobId(), nextBlobId()];
    await node.local.put(smallBlob(small, 100), soon());
    await writeLarge(node.local, large, [100_000, 100_000]);
    const damaged = { code: "blob_damaged" };
    await expect(node.remote.readCells(small, 0, 1, soon(), new Uint8Array(99))).rejects.toMatchObject(damaged);
    await expect(node.remote.readCells(large, 0, 2, soon(), new Uint8Array(150_000))).rejects.toMatchObject(damaged);
    expect(node.remote.state()).toBe("live");
  });

  test("a client that takes no answers is given one, and the node reads no further for it", async () => {
    await using node = await startServedNode();
    const id = nextBlobId();
    await writeLarge(node.local, id, Array(12).fill(FULL_CELL_BYTES));
    let bytesRead = 0;
    const store = withMethods(node.local, {
      readCells: async (...args) => {
        const cells = await node.local.readCells(...args);
        for (const cell of cells) bytesRead += cell.payload.length;
        return cells;
      },
    });
    await using plane = await serveStore(store);
    await using proxy = await startProxy(plane.url);
    await using client = connectTo(() => proxy.url);
    await client.usage();
    proxy.holdAnswers();
    const controller = new AbortController();
    const read = client.readCells(id, 0, 12, soon(), undefined, controller.signal);
    await untilStill(() => bytesRead);
    controller.abort();
    await expect(read).rejects.toMatchObject({
      code: "deadline_exceeded",
      message: expect.stringMatching(/gave it up/),
    });
    expect(bytesRead).toBeGreaterThan(0);
    expect(bytesRead).toBeLessThanOrEqual(5 * FULL_CELL_BYTES);
  });

  test("transfers give back what they take, however they end", async () => {
    await using node = await startServedNode();
    const id = nextBlobId();
    await writeLarge(node.local, id, [FULL_CELL_BYTES]);
    const into = new Uint8Array(FULL_CELL_BYTES);
    // More than the client has transfers at a time, and more bytes than the node has memory for at a time.
    for (let round = 0; round < 270; round += 1) {
      await node.remote.readCells(id, 0, 1, soon(), into);
      if (round % 2 === 1) continue;
      await node.remote.readCells(nextBlobId(), 0, 1, soon(), into).catch(() => {});
      const writer = await node.remote.openWriter(nextBlobId(), WAIT_MS);
      await writer.abort();
    }
    expect(await valueOf(node.plane.registry, "kintsugi_data_writers", {})).toBe(0);
  });
});

describe("writing", () => {
  test("writeCell() does not take more than the node can store", async () => {
    await using node = await startServedNode();
    const { promise: released, resolve: release } = Promise.withResolvers<void>();
    let taken = 0;
    const store = withMethods(node.local, {
      openWriter: async (id, waitMs) => {
        const writer = await node.local.openWriter(id, waitMs);
        return {
          ...{ seal: (bytes: Uint8Array) => writer.seal(bytes), abort: () => writer.abort() },
          writeCell: async (index, payload, checksum) => {
            taken += 1;
            await released;
            await writer.writeCell(index, payload, checksum);
          },
        };
      },
    });
    await using plane = await serveStore(store);
    await using client = connectTo(() => plane.url);
    const id = nextBlobId();
    const writer = await client.openWriter(id, WAIT_MS);
    let resolved = 0;
    const cells = Array.from({ length: 40 }, async (_, index) => {
      const payload = cellBytes(id, index, FULL_CELL_BYTES);
      await writer.writeCell(index, payload, cellChecksum(payload, id, index));
      resolved += 1;
    });
    // The store has its four, the socket its buffers; then nothing moves until the store goes on.
    await untilStill(() => resolved);
    expect(taken).toBe(4);
    expect(resolved).toBeLessThan(30);
    release();
    await Promise.all(cells);
    await writer.seal(descriptorOf(id));
    expect(await readWhole(client, id)).toBe(40);
  });

  test("writeCell() tells what the node told, and nothing of the blob stays", async () => {
    await using node = await startServedNode();
    const full = new StoreError("node_full", "Cannot write on node n1: full", {
      retriable: true,
      details: { freeBytes: 7 },
    });
    let isFull = false;
    const store = withMethods(node.local, {
      state: () => (isFull ? "full" : "live") satisfies NodeState,
      openWriter: async (id, waitMs) => {
        const writer = await node.local.openWriter(id, waitMs);
        return {
          ...{ seal: (bytes: Uint8Array) => writer.seal(bytes), abort: () => writer.abort() },
          writeCell: async (index, payload, checksum) => {
            isFull = index === 2;
            if (isFull) throw full;
            await writer.writeCell(index, payload, checksum);
          },
        };
      },
    });
    await using plane = await serveStore(store);
    await using client = connectTo(() => plane.url);
    const id = nextBlobId();
    const writer = await client.openWriter(id, WAIT_MS);
    const writeOn = async () => {
      for (let index = 0; ; index += 1) {
        const payload = cellBytes(id, index, FULL_CELL_BYTES);
        await writer.writeCell(index, payload, cellChecksum(payload, id, index));
      }
    };
    const told = { code: "node_full", retriable: true, message: full.message, details: { freeBytes: 7 } };
    await expect(writeOn()).rejects.toMatchObject(told);
    await expect(writer.seal(descriptorOf(id))).rejects.toMatchObject(told);
    await writer.abort();
    expect(client.state()).toBe("full");
    expect(await listIds(node.local)).toEqual([]);
    // The node is done with it: the blob can be written anew.
    isFull = false;
    await untilOpen(node.local, id);
  });

  test("abort() frees memory at once when the node does not take the bytes", async () => {
    await using node = await startServedNode();
    await using proxy = await startProxy(node.plane.url);
    await using client = connectTo(() => proxy.url);
    const id = nextBlobId();
    const writer = await client.openWriter(id, WAIT_MS);
    proxy.holdRequests();
    const cells = Array.from({ length: 30 }, (_, index) =>
      writer.writeCell(index, cellBytes(id, index, FULL_CELL_BYTES), 0n).then(
        () => "taken",
        () => "failed",
      ),
    );
    await untilStill(() => proxy.bytesHeld());
    await writer.abort();
    // None waits any more; the last ones cannot have been taken.
    expect((await Promise.all(cells)).at(-1)).toBe("failed");
    await expect(writer.writeCell(30, cellBytes(id, 30, 10), 0n)).rejects.toMatchObject({ code: "node_unavailable" });
  });

  test("a connection that breaks takes its unsealed blob along", async () => {
    await using node = await startServedNode();
    await using proxy = await startProxy(node.plane.url);
    await using client = connectTo(() => proxy.url);
    const id = nextBlobId();
    const writer = await client.openWriter(id, WAIT_MS);
    const payload = cellBytes(id, 0, FULL_CELL_BYTES);
    await writer.writeCell(0, payload, cellChecksum(payload, id, 0));
    await expect(node.local.openWriter(id, WAIT_MS)).rejects.toMatchObject({ code: "write_conflict" });
    proxy.cut();
    await expect(writer.seal(descriptorOf(id))).rejects.toMatchObject({
      code: expect.stringMatching(/node_unavailable|deadline_exceeded/),
    });
    await writer.abort();
    await untilOpen(node.local, id);
    expect(await listIds(node.local)).toEqual([]);
  });

  test("seal() without an answer leaves the outcome open", async () => {
    await using node = await startServedNode();
    await using proxy = await startProxy(node.plane.url);
    await using client = connectTo(() => proxy.url);
    const [large, small] = [nextBlobId(), nextBlobId()];
    const writer = await client.openWriter(large, 300);
    proxy.holdAnswers();
    await expect(writer.seal(descriptorOf(large))).rejects.toMatchObject({ code: "deadline_exceeded" });
    const put = client.put(smallBlob(small, 10), soon());
    await untilStored(node.local, small);
    proxy.cut();
    await expect(put).rejects.toMatchObject({ code: "deadline_exceeded", retriable: true });
    expect((await listIds(node.local)).sort()).toEqual([large, small].sort());
  });

  test("a writer that falls silent is given up, one that says that it lives is not", async () => {
    await using node = await startServedNode();
    await using plane = await serveStore(node.local, { idleMs: 1_500 });
    await using proxy = await startProxy(plane.url);
    // This client's clock runs fast, so that it speaks up every 100 ms.
    const hasty = { ...systemClock, monotonicMs: () => systemClock.monotonicMs() * 100 };
    const clock = {
      ...hasty,
      startTimer: (ms: number, action: () => void) => systemClock.startTimer(ms / 100, action),
    };
    await using lively = connectTo(() => plane.url, { clock });
    await using silent = connectTo(() => proxy.url);
    const [kept, dropped] = [nextBlobId(), nextBlobId()];
    const livelyWriter = await lively.openWriter(kept, 100 * WAIT_MS);
    const silentWriter = await silent.openWriter(dropped, WAIT_MS);
    proxy.holdRequests();
    await untilOpen(node.local, dropped);
    await expect(silentWriter.seal(descriptorOf(dropped))).rejects.toMatchObject({
      code: expect.stringMatching(/node_unavailable|node_refused|deadline_exceeded/),
    });
    await expect(node.local.openWriter(kept, WAIT_MS)).rejects.toMatchObject({ code: "write_conflict" });
    await livelyWriter.seal(descriptorOf(kept));
    expect(await listIds(node.local)).toEqual([kept]);
  });
});

describe("reaching a node", () => {
  test("a node that is not there is told as unavailable, and its return is noticed", async () => {
    await using node = await startServedNode();
    let url: string | null = null;
    const states: string[] = [];
    await using client = connectTo(() => url, { onState: (state) => states.push(state) });
    const unavailable = { code: "node_unavailable", retriable: true };
    expect(client.state()).toBe("down");
    await expect(client.put(smallBlob(nextBlobId(), 5), soon())).rejects.toMatchObject(unavailable);
    url = "http://127.0.0.1:1";
    expect(client.state()).toBe("down");
    await expect(client.put(smallBlob(nextBlobId(), 5), soon())).rejects.toMatchObject(unavailable);
    await expect(client.openWriter(nextBlobId(), WAIT_MS)).rejects.toMatchObject(unavailable);
    await expect(client.readCells(nextBlobId(), 0, 9, soon())).rejects.toMatchObject(unavailable);
    expect(new Set(states)).toEqual(new Set(["down"]));
    url = node.plane.url;
    await client.put(smallBlob(nextBlobId(), 5), soon());
    expect([client.state(), states.at(-1)]).toEqual(["live", "live"]);
  });

  test("kept connections that the node closed meanwhile are no failure", async () => {
    await using node = await startServedNode();
    await using proxy = await startProxy(node.plane.url);
    const states: string[] = [];
    await using client = connectTo(() => proxy.url, { onState: (state) => states.push(state) });
    const ids = Array.from({ length: 20 }, () => nextBlobId());
    for (const id of ids) {
      await client.put(smallBlob(id, 5), soon());
      // The next request finds the connection broken at the moment at which it is used.
      proxy.breakOnNextRequest();
    }
    const large = nextBlobId();
    await writeLarge(client, large, [100_000]);
    expect(await listIds(client)).toEqual([...ids, large].toSorted());
    expect(states).not.toContain("down");
  });

  test("state() is what the node said last", async () => {
    await using node = await startServedNode();
    let state: NodeState = "live";
    const store = withMethods(node.local, { state: () => state });
    await using plane = await serveStore(store);
    await using client = connectTo(() => plane.url);
    for (state of ["full", "draining", "fenced", "live"] as const) {
      await client.usage();
      expect(client.state()).toBe(state);
    }
    await plane.close();
    await expect(client.usage()).rejects.toMatchObject({ code: "node_unavailable" });
    expect(client.state()).toBe("down");
  });

  test("broken invariants of the node are told as internal, and to whoever ends the process", async () => {
    await using node = await startServedNode();
    const { AssertionError } = await import("../../src/lib/assert.ts");
    const bug = () => Promise.reject(new AssertionError("Broken invariant: secret detail"));
    const store = withMethods(node.local, { put: bug, verify: bug });
    await using plane = await serveStore(store);
    await using client = connectTo(() => plane.url);
    for (const call of [
      () => client.put(smallBlob(nextBlobId(), 5), soon()),
      () => client.verify(nextBlobId(), soon()),
    ]) {
      const error = await call().catch((cause: unknown) => cause);
      expect(error).toMatchObject({ code: "internal" });
      expect(String(error)).not.toContain("secret detail");
    }
    expect(plane.bugs.length).toBe(2);
  });

  test("delete() and list() of more than one request's worth", async () => {
    await using node = await startServedNode();
    const ids = Array.from({ length: 2_500 }, () => nextBlobId());
    await Promise.all(ids.map((id) => node.local.put(smallBlob(id, 1), soon())));
    expect((await node.remote.list("", 100_000, soon())).length).toBe(2_500);
    expect(await node.remote.delete([...ids, ids[0] as BlobId], soon())).toBe(2_500);
    expect(await node.remote.list("", 100_000, soon())).toEqual([]);
  });

  test("/health and /metrics are open, everything else is not", async () => {
    await using node = await startServedNode();
    await node.remote.put(smallBlob(nextBlobId(), 5), soon());
    const health = await fetch(`${node.plane.url}/health`);
    expect([health.status, await health.json()]).toEqual([
      200,
      { status: "ok", node: TEST_NODE, state: "live", version: "test" },
    ]);
    const metrics = await (await fetch(`${node.plane.url}/metrics`)).text();
    expect(metrics).toMatch(/^kintsugi_data_requests_total\{operation="batch",outcome="ok"\} 1$/m);
    expect(metrics).toMatch(/^kintsugi_data_sessions 1$/m);
    expect((await fetch(`${node.plane.url}/health`, { method: "POST" })).status).toBe(405);
    expect((await fetch(`${node.plane.url}/v1/other`)).status).toBe(404);
    await using fenced = await serveStore(withMethods(node.local, { state: () => "fenced" }));
    expect((await fetch(`${fenced.url}/health`)).status).toBe(503);
  });
});

async function valueOf(registry: Registry, name: string, labels: Record<string, string>): Promise<number> {
  const metric = await registry.getSingleMetric(name)?.get();
  const matches = (metric?.values ?? []).filter((value) =>
    Object.entries(labels).every(([label, wanted]) => (value.labels as Record<string, unknown>)[label] === wanted),
  );
  return matches.reduce((sum, { value }) => sum + value, 0);
}

/** Resolves when `read` has given the same number for a while: nothing moves any more. */
async function untilStill(read: () => number): Promise<void> {
  for (let last = -1, same = 0; same < 10;) {
    await systemClock.sleep(20);
    same = read() === last ? same + 1 : 0;
    last = read();
  }
}

/** Resolves when nobody writes this blob any more. */
async function untilOpen(store: BlobStore, id: BlobId): Promise<void> {
  for (;;) {
    const writer = await store.openWriter(id, WAIT_MS).catch(() => null);
    if (writer !== null) return await writer.abort();
    await systemClock.sleep(10);
  }
}

async function untilStored(store: BlobStore, id: BlobId): Promise<void> {
  while ((await store.describe(id, soon())) === null) await systemClock.sleep(5);
}

type Proxy = AsyncDisposable & {
  readonly url: string;
  /** From now on what clients send stays here. */
  holdRequests(): void;
  /** From now on what the node answers stays here. */
  holdAnswers(): void;
  bytesHeld(): number;
  /** Breaks every connection, and lets through what comes after. */
  cut(): void;
  /** Breaks each present connection when the next byte of a request comes over it. */
  breakOnNextRequest(): void;
};

/** A network with faults between a client and a node. */
async function startProxy(target: string): Promise<Proxy> {
  const { createConnection } = await import("node:net");
  const pairs = new Set<{ client: Socket; node: Socket; doomed: boolean }>();
  let holdsRequests = false;
  let holdsAnswers = false;
  let held = 0;
  const server: Server = createServer((client) => {
    const node = createConnection({ host: "127.0.0.1", port: Number(new URL(target).port) });
    const pair = { client, node, doomed: false };
    pairs.add(pair);
    const end = () => {
      pairs.delete(pair);
      client.destroy();
      node.destroy();
    };
    client.on("data", (chunk) => {
      if (pair.doomed) return end();
      if (!holdsRequests) return void node.write(chunk);
      held += chunk.length;
      client.pause();
    });
    node.on("data", (chunk) => {
      if (holdsAnswers) return void node.pause();
      client.write(chunk);
    });
    for (const socket of [client, node]) socket.on("error", end).on("close", end);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const cut = () => {
    holdsRequests = false;
    holdsAnswers = false;
    for (const { client, node } of pairs) {
      client.destroy();
      node.destroy();
    }
  };
  return {
    url: `http://127.0.0.1:${(server.address() as { port: number }).port}`,
    holdRequests: () => (holdsRequests = true),
    holdAnswers: () => (holdsAnswers = true),
    bytesHeld: () => held,
    cut,
    breakOnNextRequest() {
      for (const pair of pairs) pair.doomed = true;
    },
    async [Symbol.asyncDispose]() {
      cut();
      server.close();
    },
  };
}
