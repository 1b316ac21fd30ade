import fc from "fast-check";
import { Registry } from "prom-client";
import { describe, expect, test } from "vitest";
import type { BlobId, NodeName } from "../../../src/domain/ids.ts";
import { blobIdOf } from "../../../src/domain/ids.ts";
import type { BlobSet, StrategyChoice } from "../../../src/domain/manifest.ts";
import { blobSetsOf, blobsNeeded, placedBlobsOf } from "../../../src/domain/manifest.ts";
import type { StoredRecord } from "../../../src/domain/record.ts";
import type { WorkOf } from "../../../src/domain/work.ts";
import { createMendExecutor } from "../../../src/healer/mend.ts";
import { createMendMetrics } from "../../../src/healer/mend-metrics.ts";
import { Throttle } from "../../../src/lib/throttle.ts";
import { putObject } from "../../../src/object/put.ts";
import { settle } from "../../support/manual-clock.ts";
import type { MemoryStore, MemoryStoreOptions } from "../../support/memory-store.ts";
import { ANY_TIME, NODE_NAMES, openMemoryStore, override } from "../../support/memory-store.ts";
import { BUCKET, keyOf, noise, putRequest } from "../../support/store.ts";

const going = { signal: new AbortController().signal };
const LARGE = noise(3_000_000, 2);
const DOCUMENT = Buffer.from(`{"battery":81.0,"pad":"${"x".repeat(300_000)}"}`);
const CONTENTS = [
  ["packed copies", "replication", noise(50_000, 1)],
  ["streamed copies", "replication", LARGE],
  ["packed shards", "ec", noise(100_000, 3)],
  ["streamed shards", "ec", LARGE],
  ["a cold part", "field_hybrid", DOCUMENT],
] as const satisfies [string, StrategyChoice, Buffer][];

const WORK: WorkOf<"mend"> = {
  ...{ kind: "mend", urgency: 0, reason: "missing", suspects: [] },
  ...{ bucket: BUCKET, key: keyOf("k") },
};

async function open(strategy: StrategyChoice, bytes: Buffer, options: MemoryStoreOptions = {}) {
  const store = openMemoryStore(options);
  const { deps } = store;
  await putObject(deps, putRequest("k", bytes, { strategy }));
  await settle();
  const lost = new Set<NodeName>();
  const mendMetrics = createMendMetrics(new Registry());
  const throttle = new Throttle(deps.clock, null);
  const mend = createMendExecutor({ ...deps, throttle, mendMetrics, isLost: (node) => lost.has(node) });
  const setNow = async () => (await recordNow(store)).sets[0] as BlobSet;
  return { store, deps, mend, lost, setNow, before: await contentsOf(store) };
}

async function recordNow({ realMetadata }: MemoryStore) {
  const stored = (await realMetadata.get(BUCKET, keyOf("k"), ANY_TIME)) as StoredRecord;
  return { stored, sets: blobSetsOf(stored.record.manifest) };
}

/** What every blob that the record names really holds, cells and descriptor; null where it is not there. */
async function contentsOf(store: MemoryStore): Promise<Map<BlobId, string | null>> {
  const { sets } = await recordNow(store);
  const contents = new Map<BlobId, string | null>();
  for (const { id, node } of sets.flatMap(placedBlobsOf)) {
    const blobs = store.deps.nodes.get(node)!;
    const found = await blobs.describe(id, ANY_TIME);
    const cells = found === null ? [] : await blobs.readCells(id, 0, found.info.cellCount, ANY_TIME);
    const parts = cells.map(({ payload, checksum }) => `${checksum} ${Buffer.from(payload).toString("base64")}`);
    contents.set(id, found === null ? null : [Buffer.from(found.descriptor).toString("hex"), ...parts].join("\n"));
  }
  return contents;
}

/** Every blob of the sets is on a node of its own, with the bytes and the descriptor that it had. */
async function expectWhole(store: MemoryStore, before: ReadonlyMap<BlobId, string | null>): Promise<void> {
  const { sets } = await recordNow(store);
  for (const { nodes } of sets) {
    expect(nodes).not.toContain(null);
    expect(new Set(nodes).size).toBe(nodes.length);
  }
  expect(await contentsOf(store)).toEqual(before);
}

async function drop({ deps }: MemoryStore, set: BlobSet, index: number): Promise<void> {
  const node = set.nodes[index] as NodeName;
  await deps.nodes.get(node)!.delete([blobIdOf(set.txid, set.part, index)], ANY_TIME);
}

describe("createMendExecutor()", () => {
  for (const [name, strategy, bytes] of CONTENTS) {
    test(`makes the same blobs anew, whichever of ${name} are gone`, async () => {
      const { store, mend, lost, setNow, before } = await open(strategy, bytes);
      const count = (await setNow()).nodes.length;
      const gone = fc.uniqueArray(fc.nat(count - 1), { minLength: 1, maxLength: 2 });
      await fc.assert(
        fc.asyncProperty(gone, fc.boolean(), async (indexes, areLost) => {
          const set = await setNow();
          lost.clear();
          for (const index of indexes) await drop(store, set, index);
          const nodes = indexes.map((index) => set.nodes[index] as NodeName);
          // Where a node of its own is left for each, it goes there; six shards fill all six nodes.
          const areElsewhere = areLost && count + indexes.length <= NODE_NAMES.length;
          for (const node of areElsewhere ? nodes : []) {
            lost.add(node);
            store.deps.membership.report(node, "down");
          }
          expect(await mend(WORK, going)).toMatchObject({ outcome: "done" });
          if (areElsewhere) for (const node of nodes) expect((await setNow()).nodes).not.toContain(node);
          for (const node of nodes) store.deps.membership.report(node, "live");
          await expectWhole(store, before);
        }),
        { numRuns: 8 },
      );
      expect(store.deps.memory.used).toBe(0);
    });
  }

  test("changes neither version nor entity tag, and nothing at all of what is whole", async () => {
    const { store, mend, setNow, before } = await open("replication", LARGE);
    const first = await recordNow(store);
    expect(await mend(WORK, going)).toEqual({ outcome: "done", bytes: 0 });
    expect(await recordNow(store)).toEqual(first);
    const set = await setNow();
    await drop(store, set, 0);
    store.deps.membership.report(set.nodes[0] as NodeName, "full");
    await mend(WORK, going);
    const { stored } = await recordNow(store);
    expect(stored.revision).not.toBe(first.stored.revision);
    expect({ ...stored.record, manifest: null }).toEqual({ ...first.stored.record, manifest: null });
    await expectWhole(store, before);
  });

  test("waits for what is only away, and does not move it", async () => {
    const { store, mend, setNow } = await open("replication", LARGE);
    const set = await setNow();
    store.deps.membership.report(set.nodes[0] as NodeName, "down");
    await mend(WORK, going);
    expect(await setNow()).toEqual(set);
  });

  test("leaves alone what cannot be read any more, and says so", async () => {
    const { store, mend, setNow } = await open("ec", LARGE);
    const set = await setNow();
    const spare = set.nodes.length - blobsNeeded(set.redundancy);
    for (let index = 0; index <= spare; index += 1) await drop(store, set, index);
    const blobs = await store.blobs();
    expect(await mend(WORK, going)).toMatchObject({ outcome: "later" });
    expect([await setNow(), await store.blobs()]).toEqual([set, blobs]);
  });

  test("never overwrites a newer version that was committed while it worked", async () => {
    let isArmed = false;
    const newer = noise(70_000, 9);
    const { store, mend, setNow } = await open("replication", LARGE, {
      metadata: (real) => ({
        async commit(change, deadline) {
          if (isArmed) {
            isArmed = false;
            await putObject(store.deps, putRequest("k", newer, { strategy: "replication" }));
          }
          return await real.commit(change, deadline);
        },
      }),
    });
    const set = await setNow();
    await drop(store, set, 1);
    store.deps.membership.report(set.nodes[1] as NodeName, "full");
    isArmed = true;
    expect(await mend(WORK, going)).toMatchObject({ outcome: "done" });
    expect(isArmed).toBe(false);
    expect((await store.read("k"))?.equals(newer)).toBe(true);
  });

  test("looks once more at what the record came to name, and is not done when that was collected", async () => {
    let collect: (() => Promise<void>) | null = null;
    const { store, mend, setNow, before } = await open("replication", LARGE, {
      metadata: (real) => ({
        async commit(change, deadline) {
          const result = await real.commit(change, deadline);
          await collect?.();
          collect = null;
          return result;
        },
      }),
    });
    const set = await setNow();
    await drop(store, set, 0);
    store.deps.membership.report(set.nodes[0] as NodeName, "full");
    collect = async () => await drop(store, await setNow(), 0);
    expect(await mend(WORK, going)).toMatchObject({ outcome: "later" });
    expect(await mend(WORK, going)).toMatchObject({ outcome: "done" });
    await expectWhole(store, before);
  });

  test("changes no record after it was told to stop", async () => {
    const stopping = new AbortController();
    let isArmed = false;
    const { store, mend, setNow } = await open("replication", LARGE, {
      node: (real) => ({
        async openWriter(id, idleMs) {
          const writer = await real.openWriter(id, idleMs);
          return override(writer, {
            async seal(descriptor) {
              await writer.seal(descriptor);
              if (isArmed) stopping.abort();
            },
          });
        },
      }),
    });
    const set = await setNow();
    await drop(store, set, 0);
    store.deps.membership.report(set.nodes[0] as NodeName, "full");
    isArmed = true;
    const outcome = await mend(WORK, { signal: stopping.signal }).catch((cause: unknown) => cause);
    expect(outcome).not.toMatchObject({ outcome: "done" });
    expect(await setNow()).toEqual(set);
  });
});
