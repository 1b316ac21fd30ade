import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { BlobStore } from "../../src/blob/blob-store.ts";
import { StoreError } from "../../src/domain/errors.ts";
import { fullCellBytes } from "../../src/domain/geometry.ts";
import type { NodeName } from "../../src/domain/ids.ts";
import { flipPayloadBytes } from "../support/flip-payload-bytes.ts";
import type { TestStore } from "../support/store.ts";
import { noise, openTestStore, streamOf } from "../support/store.ts";

const stripe = 4 * fullCellBytes({ scheme: "ec", k: 4, m: 2 });

/** Makes some methods of a real node fail from now on, or hang until the function given back is called. */
function breakNode(store: TestStore, node: string, broken: Partial<BlobStore>): () => void {
  const nodes = store.store.deps.nodes as Map<NodeName, BlobStore>;
  const real = nodes.get(node as NodeName) as BlobStore;
  const proxy = new Proxy(real, {
    get(target, name) {
      const replaced = Reflect.get(broken, name) as unknown;
      if (replaced !== undefined) return replaced;
      const value = Reflect.get(target, name) as unknown;
      return typeof value === "function" ? (value as (...args: unknown[]) => unknown).bind(target) : value;
    },
  });
  nodes.set(node as NodeName, proxy);
  return () => void nodes.set(node as NodeName, real);
}

const unavailable = () => Promise.reject(new StoreError("node_unavailable", "The node is away", { retriable: true }));
const away = { put: unavailable, openWriter: unavailable };

describe("putObject() with failing nodes", () => {
  it("puts copies on the next nodes in rank instead", async () => {
    await using store = await openTestStore();
    const first = await store.put("k", noise(2_000), { strategy: "replication" });
    for (const node of first.nodes.slice(0, 2)) breakNode(store, node, away);
    const second = await store.put("k", noise(2_000, 2), { strategy: "replication" });
    expect(second).toMatchObject({ blobsDurable: 3, dirty: false });
    expect((await store.get("k"))?.equals(noise(2_000, 2))).toBe(true);
  });

  for (const [name, size] of [
    ["a small", 50_000],
    ["a large", 2 * stripe + 9],
  ] as const) {
    it(`settles for the quorum of ${name} erasure-coded object and says that it is dirty`, async () => {
      await using store = await openTestStore();
      const bytes = noise(size);
      const mend = breakNode(store, "node-3", away);
      const receipt = await store.put("k", streamOf(bytes, [65_536]), { strategy: "ec" });
      expect(receipt).toMatchObject({ blobsDurable: 5, blobsPlanned: 6, tolerance: 1, dirty: true });
      expect(receipt.nodes).not.toContain("node-3");
      mend();
      expect((await store.get("k"))?.equals(bytes)).toBe(true);
    });

    it(`refuses ${name} erasure-coded object with two nodes away, and stores it with consistency one`, async () => {
      await using store = await openTestStore();
      const bytes = noise(size);
      for (const node of ["node-1", "node-5"]) breakNode(store, node, away);
      await expect(store.put("k", bytes, { strategy: "ec" })).rejects.toMatchObject({ code: "quorum_unavailable" });
      expect(await store.get("k")).toBeNull();
      expect(await store.blobsOnNodes()).toEqual([]);
      expect(await store.openIntents()).toBe(0);
      const receipt = await store.put("k", bytes, { strategy: "ec", consistency: "one" });
      expect(receipt).toMatchObject({ blobsDurable: 4, tolerance: 0, dirty: true });
      expect((await store.get("k"))?.equals(bytes)).toBe(true);
    });
  }

  it("drops a node that fails in the middle of a stream", async () => {
    await using store = await openTestStore();
    const real = store.store.deps.nodes.get("node-2" as NodeName) as BlobStore;
    breakNode(store, "node-2", {
      async openWriter(id, waitMs) {
        const writer = await real.openWriter(id, waitMs);
        return {
          seal: (descriptor) => writer.seal(descriptor),
          abort: () => writer.abort(),
          writeCell: (index, payload, checksum) =>
            index < 2 ? writer.writeCell(index, payload, checksum) : unavailable(),
        };
      },
    });
    const bytes = noise(4 * stripe);
    const receipt = await store.put("k", streamOf(bytes, [65_536]), { strategy: "ec" });
    expect(receipt).toMatchObject({ blobsDurable: 5, dirty: true });
    expect((await store.get("k"))?.equals(bytes)).toBe(true);
    expect(await store.orphans()).toEqual([]);
  });

  it("does not wait for a straggler once the quorum is durable, and removes its late blob", async () => {
    await using store = await openTestStore();
    const real = store.store.deps.nodes.get("node-4" as NodeName) as BlobStore;
    let arrive: () => void = () => {};
    const late = new Promise<void>((resolve) => (arrive = resolve));
    const deleted = Promise.withResolvers<void>();
    breakNode(store, "node-4", {
      put: (blob, deadline) => late.then(() => real.put(blob, deadline)),
      async delete(ids, deadline) {
        const count = await real.delete(ids, deadline);
        deleted.resolve();
        return count;
      },
    });
    const receipt = await store.put("k", noise(50_000), { strategy: "ec" });
    expect(receipt).toMatchObject({ blobsDurable: 5, dirty: true });
    arrive();
    await deleted.promise;
    expect(await store.orphans()).toEqual([]);
  });

  it("removes the blob of a node that stored it without saying so", async () => {
    await using store = await openTestStore();
    const first = await store.put("k", noise(2_000), { strategy: "replication" });
    const silent = first.nodes[0] as NodeName;
    const real = store.store.deps.nodes.get(silent) as BlobStore;
    const deleted = Promise.withResolvers<void>();
    breakNode(store, silent, {
      async put(blob, deadline) {
        await real.put(blob, deadline);
        throw new StoreError("deadline_exceeded", "The answer was lost", { retriable: true });
      },
      async delete(ids, deadline) {
        const count = await real.delete(ids, deadline);
        if (ids.some((id) => !id.startsWith(first.version))) deleted.resolve();
        return count;
      },
    });
    const receipt = await store.put("k", noise(2_000, 2), { strategy: "replication" });
    expect(receipt).toMatchObject({ blobsDurable: 3, dirty: false });
    expect(receipt.nodes).not.toContain(silent);
    await deleted.promise;
    expect((await store.orphans()).filter((name) => name.startsWith(receipt.version))).toEqual([]);
  });

  it("says how many nodes are missing when none can be placed", async () => {
    await using store = await openTestStore();
    for (const node of ["node-1", "node-2"]) store.store.deps.membership.report(node as NodeName, "down");
    await expect(store.put("k", noise(100_000), { strategy: "ec" })).rejects.toMatchObject({
      code: "placement_impossible",
      message: expect.stringContaining("4 nodes are live") as string,
    });
  });

  it("answers overloaded instead of taking more memory than allowed", async () => {
    await using store = await openTestStore({
      flags: { "memory.inFlightBytesMax": "32MiB", "timeouts.memoryMs": "50ms" },
    });
    const open = Promise.withResolvers<void>();
    const slow = Array.from({ length: 6 }, (_, index) =>
      store.put(
        `slow-${index}`,
        {
          kind: "stream",
          sizeBytes: null,
          chunks: (async function* () {
            yield noise(100_000);
            await open.promise;
          })(),
        },
        { strategy: "ec" },
      ),
    );
    const outcomes = Promise.allSettled(slow);
    await expect(Promise.race(slow)).rejects.toMatchObject({ code: "overloaded", retriable: true });
    open.resolve();
    const states = (await outcomes).map((outcome) => outcome.status);
    expect(states.filter((state) => state === "fulfilled")).toHaveLength(5);
    expect(store.store.deps.memory.used).toBe(0);
  });
});

describe("reads of damaged data", () => {
  it("serve the right bytes around any damaged cell, and nothing when too many are", async () => {
    await using store = await openTestStore();
    const bytes = noise(stripe, 77);
    await store.put("k", bytes, { strategy: "ec" });
    // Else what a read has met is mended before the next node is damaged.
    await store.store.desk.control("repair", { paused: true });
    for (const [node, readable] of [
      ["node-1", true],
      ["node-2", true],
      ["node-3", false],
    ] as const) {
      await store.store.close();
      await flipPayloadBytes(join(store.dir, "nodes", node));
      await store.reopen();
      if (readable) expect((await store.get("k"))?.equals(bytes), node).toBe(true);
      else await expect(store.get("k")).rejects.toMatchObject({ code: "object_damaged" });
    }
  });

  it("serve the right bytes of a replicated object with a damaged copy", async () => {
    await using store = await openTestStore();
    const bytes = noise(40_000, 78);
    const { nodes } = await store.put("k", bytes, { strategy: "replication" });
    await store.store.close();
    for (const node of nodes.slice(0, 2)) await flipPayloadBytes(join(store.dir, "nodes", node));
    await store.reopen();
    for (let round = 0; round < 8; round += 1) expect((await store.get("k"))?.equals(bytes)).toBe(true);
  });
});
