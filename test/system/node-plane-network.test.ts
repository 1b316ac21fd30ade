/** A node behind HTTP: blobs written over connections that fail, and nodes that come and go. */
import { describe, expect, test } from "vitest";
import { cellChecksum } from "../../src/domain/checksum.ts";
import { StoreError } from "../../src/domain/errors.ts";
import type { BlobId } from "../../src/domain/ids.ts";
import type { NodeState } from "../../src/domain/node-info.ts";
import { AssertionError } from "../../src/lib/assert.ts";
import { systemClock } from "../../src/lib/clock.ts";
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
import { startHungNode } from "../support/hung-node.ts";
import { ManualClock } from "../support/manual-clock.ts";
import { startProxy } from "../support/network-proxy.ts";
import {
  connectTo,
  serveStore,
  startServedNode,
  untilOpen,
  untilStill,
  untilStored,
  withMethods,
} from "../support/node-plane.ts";

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

  test("abort() while a cell is under way breaks the connection at once, and nobody gets it again", async () => {
    await using node = await startServedNode();
    await using hung = await startHungNode(node.plane.url);
    // Time stands still for the client: nothing here may wait for any of its deadlines.
    const clock = new ManualClock();
    await using client = connectTo(() => hung.url, { clock });
    const soonThere = { atMs: clock.monotonicMs() + WAIT_MS };
    const id = nextBlobId();
    const writer = await client.openWriter(id, WAIT_MS);
    hung.stopReading();
    const cells = Array.from({ length: 30 }, (_, index) => {
      const payload = cellBytes(id, index, FULL_CELL_BYTES);
      return writer.writeCell(index, payload, cellChecksum(payload, id, index)).then(
        () => "taken",
        (cause: unknown) => (cause as StoreError).code,
      );
    });
    await untilStill(() => hung.bytesTaken());
    await writer.abort();
    expect((await Promise.all(cells)).at(-1)).toBe("node_unavailable");
    const accepted = hung.accepted();
    // Nor does the system keep it for the cells that were not taken yet.
    expect(await hung.readOn()).toEqual(["ECONNRESET"]);
    await client.put(smallBlob(nextBlobId(), 5), soonThere);
    expect(hung.accepted()).toBe(accepted + 1);
    await untilOpen(node.local, id);
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
