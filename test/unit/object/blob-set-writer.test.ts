import { describe, expect, it } from "vitest";
import type { BlobStore, BlobWriter } from "../../../src/blob/blob-store.ts";
import { StoreError } from "../../../src/domain/errors.ts";
import type { NodeName } from "../../../src/domain/ids.ts";
import { putObject } from "../../../src/object/put.ts";
import { settle } from "../../support/manual-clock.ts";
import type { MemoryStore } from "../../support/memory-store.ts";
import { NODE_NAMES, STRAGGLER_MS, openMemoryStore } from "../../support/memory-store.ts";
import { noise, putRequest } from "../../support/store.ts";

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

/** The node that rank puts first for the key. */
async function placeCopies(): Promise<NodeName> {
  const store = openMemoryStore();
  const { nodes } = await putObject(store.deps, putRequest("k", noise(5_000), { strategy: "replication" }));
  return nodes[0] as NodeName;
}
