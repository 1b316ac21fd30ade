/** A node behind HTTP: what clients, the network and slow disks do to it, and what is told of it. */
import { Registry } from "prom-client";
import { describe, expect, test } from "vitest";
import { cellChecksum } from "../../src/domain/checksum.ts";
import { StoreError } from "../../src/domain/errors.ts";
import type { BlobId } from "../../src/domain/ids.ts";
import { MIB } from "../../src/lib/bytes.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { deadlineIn } from "../../src/lib/deadline.ts";
import { LIMITS } from "../../src/limits.ts";
import { FULL_CELL_BYTES, nextBlobId, readWhole, smallBlob, soon, WAIT_MS, writeLarge } from "../support/blobs.ts";
import { startProxy } from "../support/network-proxy.ts";
import { connectTo, serveStore, startServedNode, untilStill, valueOf, withMethods } from "../support/node-plane.ts";

const within = (ms: number) => deadlineIn(systemClock, ms);

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
