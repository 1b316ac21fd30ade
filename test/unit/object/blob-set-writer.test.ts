import { describe, expect, it } from "vitest";
import type { BlobStore, BlobWriter } from "../../../src/blob/blob-store.ts";
import { StoreError } from "../../../src/domain/errors.ts";
import type { NodeName } from "../../../src/domain/ids.ts";
import { putObject } from "../../../src/object/put.ts";
import { settle } from "../../support/manual-clock.ts";
import type { MemoryStore } from "../../support/memory-store.ts";
import { NODE_NAMES, STRAGGLER_MS, openMemoryStore } from "../../support/memory-store.ts";
import { noise, putRequest, streamOf } from "../../support/store.ts";

const failure = (code: "node_unavailable" | "deadline_exceeded" | "storage_error") =>
  new StoreError(code, "The node failed", { retriable: true });

/** What stands between a node and the durability of a blob: nothing, an error, or a wait that the test ends. */
type Seal = (work: () => Promise<void>) => Promise<void>;

function openWith(seals: ReadonlyMap<NodeName, Seal>): MemoryStore {
  return openMemoryStore({
    node: (real): Partial<BlobStore> => {
      const seal = seals.get(real.node);
      if (seal === undefined) return {};
      return {
        put: (blob, deadline) => seal(() => real.put(blob, deadline)),
        async openWriter(id, waitMs): Promise<BlobWriter> {
          const writer = await real.openWriter(id, waitMs);
          return { ...writer, seal: (descriptor) => seal(() => writer.seal(descriptor)) };
        },
      };
    },
  });
}

const failing: Seal = () => Promise.reject(failure("node_unavailable"));
const SIZES = [
  ["packed", 100_000],
  ["streamed", 5_000_000],
] as const;

describe("BlobSetWriter", () => {
  for (const [name, size] of SIZES) {
    it(`seal() counts ${name} blobs that are durable, not those that were sent`, async () => {
      for (const count of [0, 1, 2, 6]) {
        const store = openWith(new Map(NODE_NAMES.slice(0, count).map((node) => [node, failing])));
        const put = putObject(store.deps, putRequest("k", noise(size), { strategy: "ec" }));
        if (count <= 1) {
          const receipt = await put;
          expect(receipt).toMatchObject({ blobsDurable: 6 - count, tolerance: 2 - count, dirty: count > 0 });
          expect(await store.blobs()).toEqual(await store.namedBlobs());
        } else {
          await expect(put).rejects.toMatchObject({
            code: "quorum_unavailable",
            details: { durable: 6 - count, quorum: 5 },
          });
          expect(await store.blobs()).toEqual([]);
          expect(await store.read("k")).toBeNull();
        }
      }
    });

    it(`blobSet() names no ${name} blob that was still on its way, and removeLate() removes it when it arrives`, async () => {
      const arrival = Promise.withResolvers<void>();
      const late: Seal = async (work) => {
        await arrival.promise;
        await work();
      };
      const store = openWith(new Map([["n2" as NodeName, late]]));
      const putting = putObject(store.deps, putRequest("k", noise(size), { strategy: "ec" }));
      let answered = false;
      void putting.then(() => (answered = true));
      while (store.clock.pendingTimers === 0) await settle();
      store.clock.advance(STRAGGLER_MS - 1);
      await settle();
      expect(answered, "it waits a while for the last one").toBe(false);
      store.clock.advance(1);
      const receipt = await putting;
      expect(receipt).toMatchObject({ blobsDurable: 5, dirty: true });
      expect(receipt.nodes).not.toContain("n2");
      expect(await store.openIntents(), "until it is known that nothing was left").toHaveLength(1);
      arrival.resolve();
      for (let turn = 0; turn < 5; turn += 1) await settle();
      expect(await store.blobs()).toEqual(await store.namedBlobs());
      expect(await store.openIntents()).toEqual([]);
    });
  }

  it("seal() removes what a node may have stored though it said no, when a spare took its place", async () => {
    for (const code of ["deadline_exceeded", "storage_error"] as const) {
      const storesAndFails: Seal = async (work) => {
        await work();
        throw failure(code);
      };
      const first = await placeCopies();
      const store = openWith(new Map([[first, storesAndFails]]));
      const receipt = await putObject(store.deps, putRequest("k", noise(5_000), { strategy: "replication" }));
      for (let turn = 0; turn < 5; turn += 1) await settle();
      expect(receipt).toMatchObject({ blobsDurable: 3, dirty: false });
      expect(receipt.nodes).not.toContain(first);
      expect(await store.blobs()).toEqual(await store.namedBlobs());
      expect(await store.openIntents()).toEqual([]);
    }
  });
});

/** Lets time pass in small steps until `work` is done; answers how much. */
async function passTime(store: MemoryStore, work: Promise<unknown>): Promise<number> {
  const startMs = store.clock.monotonicMs();
  let isDone = false;
  work.finally(() => (isDone = true)).catch(() => {});
  for (;;) {
    for (let turn = 0; turn < 20 && !isDone; turn += 1) await settle();
    if (isDone) return store.clock.monotonicMs() - startMs;
    store.clock.advance(50);
    if (store.clock.monotonicMs() - startMs > 60_000) throw new Error("the write does not end");
  }
}

const stateOf = (store: MemoryStore, node: string) =>
  store.deps.membership.snapshot().find(({ name }) => name === node)?.state;

/** What the slow-node tests allow beside the one wait that they are about. */
const SOON_MS = 1_000;

describe("BlobSetWriter with a node that hangs", () => {
  it("writeStripe() goes on without it after one wait for all stripes, and leaves it the memory that it still reads", async () => {
    const cells: { payload: Uint8Array; sent: Buffer }[] = [];
    const lettingGo = Promise.withResolvers<void>();
    const store = openMemoryStore({
      node: (real): Partial<BlobStore> =>
        real.node !== "n2"
          ? {}
          : {
              async openWriter(id, waitMs): Promise<BlobWriter> {
                const writer = await real.openWriter(id, waitMs);
                return {
                  ...writer,
                  writeCell(_index, payload) {
                    cells.push({ payload, sent: Buffer.from(payload) });
                    return lettingGo.promise;
                  },
                  abort: () => lettingGo.promise.then(() => writer.abort()),
                };
              },
            },
    });
    const bytes = noise(45_000_000, 3);
    const putting = putObject(store.deps, putRequest("k", streamOf(bytes, [300_000]), { strategy: "ec" }));
    const tookMs = await passTime(store, putting);
    expect(tookMs).toBeGreaterThanOrEqual(STRAGGLER_MS);
    expect(tookMs).toBeLessThan(STRAGGLER_MS + SOON_MS);
    expect(await putting).toMatchObject({ blobsDurable: 5, tolerance: 1, dirty: true });
    expect((await store.read("k"))?.equals(bytes)).toBe(true);
    expect(stateOf(store, "n2")).toBe("down");

    expect(cells.length).toBeGreaterThan(0);
    expect(
      cells.every(({ payload, sent }) => sent.equals(payload)),
      "its memory was not used for other stripes",
    ).toBe(true);
    expect(store.deps.memory.used).toBeGreaterThan(0);
    lettingGo.resolve();
    for (let turn = 0; turn < 5; turn += 1) await settle();
    expect(store.deps.memory.used).toBe(0);
    expect(await store.blobs()).toEqual(await store.namedBlobs());
    expect(await store.openIntents()).toEqual([]);
  });

  it("openWriter() of a spare takes its place when the others are open, and what it opens later is aborted", async () => {
    const first = await placeCopies();
    const opening = Promise.withResolvers<void>();
    let aborted = 0;
    const store = openMemoryStore({
      node: (real): Partial<BlobStore> =>
        real.node !== first
          ? {}
          : {
              async openWriter(id, waitMs): Promise<BlobWriter> {
                await opening.promise;
                const writer = await real.openWriter(id, waitMs);
                return { ...writer, abort: () => writer.abort().then(() => void (aborted += 1)) };
              },
            },
    });
    const bytes = noise(3_000_000, 4);
    const putting = putObject(store.deps, putRequest("k", bytes, { strategy: "replication" }));
    expect(await passTime(store, putting)).toBeLessThan(STRAGGLER_MS + SOON_MS);
    const receipt = await putting;
    expect(receipt).toMatchObject({ blobsDurable: 3, dirty: false });
    expect(receipt.nodes).not.toContain(first);
    expect(stateOf(store, first)).toBe("down");
    opening.resolve();
    for (let turn = 0; turn < 5; turn += 1) await settle();
    expect(aborted).toBe(1);
    expect((await store.read("k"))?.equals(bytes)).toBe(true);
  });

  it("seal() gives a small blob to a spare before it settles for less, and removes what arrives late", async () => {
    const first = await placeCopies();
    const arrival = Promise.withResolvers<void>();
    const late: Seal = async (work) => {
      await arrival.promise;
      await work();
    };
    const store = openWith(new Map([[first, late]]));
    const putting = putObject(store.deps, putRequest("k", noise(5_000), { strategy: "replication" }));
    const tookMs = await passTime(store, putting);
    expect(tookMs, "the spare is asked before the wait is over").toBeLessThan(STRAGGLER_MS);
    const receipt = await putting;
    expect(receipt).toMatchObject({ blobsDurable: 3, dirty: false });
    expect(receipt.nodes).not.toContain(first);
    expect(stateOf(store, first)).toBe("down");
    expect(await store.openIntents(), "until it is known that nothing was left").toHaveLength(1);
    arrival.resolve();
    for (let turn = 0; turn < 5; turn += 1) await settle();
    expect(await store.blobs()).toEqual(await store.namedBlobs());
    expect(await store.openIntents()).toEqual([]);
  });

  it("seal() reports it as down where there is no spare, and the next write does without", async () => {
    const store = openWith(new Map([["n2" as NodeName, () => new Promise<void>(() => {})]]));
    const put = () => putObject(store.deps, putRequest("k", noise(100_000), { strategy: "ec" }));
    const first = put();
    expect(await passTime(store, first)).toBeGreaterThanOrEqual(STRAGGLER_MS);
    expect(await first).toMatchObject({ blobsDurable: 5, dirty: true });
    expect(stateOf(store, "n2")).toBe("down");
    expect(await put()).toMatchObject({ blobsDurable: 5, dirty: true });
  });
});

describe("BlobSetWriter", () => {
  for (const [name, size] of SIZES) {
    it(`writes ${name} blobs around a node that left the cluster after it was chosen`, async () => {
      const first = await placeCopies();
      const store = openMemoryStore();
      const nodes = new Map(store.deps.nodes);
      nodes.delete(first);
      const receipt = await putObject(
        { ...store.deps, nodes },
        putRequest("k", noise(size > 1_000_000 ? size : 5_000), { strategy: "replication" }),
      );
      for (let turn = 0; turn < 5; turn += 1) await settle();
      expect(receipt).toMatchObject({ blobsDurable: 3, dirty: false });
      expect(receipt.nodes).not.toContain(first);
      expect(await store.openIntents()).toEqual([]);
    });
  }
});

/** The node that rank puts first for the key. */
async function placeCopies(): Promise<NodeName> {
  const store = openMemoryStore();
  const { nodes } = await putObject(store.deps, putRequest("k", noise(5_000), { strategy: "replication" }));
  return nodes[0] as NodeName;
}
