import { Registry } from "prom-client";
import { describe, expect, test } from "vitest";
import { StoreError } from "../../../src/domain/errors.ts";
import type { HeatReport } from "../../../src/domain/heat.ts";
import type { NodeName } from "../../../src/domain/ids.ts";
import { blobIdOf } from "../../../src/domain/ids.ts";
import type { BlobSet, StrategyChoice } from "../../../src/domain/manifest.ts";
import { blobSetsOf, codedContentOf, placedBlobsOf } from "../../../src/domain/manifest.ts";
import type { WorkOf } from "../../../src/domain/work.ts";
import { stripeCount } from "../../../src/domain/geometry.ts";
import { createHeat } from "../../../src/healer/heat.ts";
import { createHeatExecutor } from "../../../src/healer/hot-copies.ts";
import { createMendMetrics } from "../../../src/healer/mend-metrics.ts";
import { createMendExecutor } from "../../../src/healer/mend.ts";
import { Throttle } from "../../../src/lib/throttle.ts";
import { getObject } from "../../../src/object/get.ts";
import { putObject } from "../../../src/object/put.ts";
import { createMemoryWorkQueue } from "../../../src/work/memory-work-queue.ts";
import { ManualClock, settle } from "../../support/manual-clock.ts";
import type { MemoryStoreOptions } from "../../support/memory-store.ts";
import { ANY_TIME, openMemoryStore, RELEASE_DELAY_MS } from "../../support/memory-store.ts";
import { BUCKET, bytesOf, getRequest, keyOf, noise, putRequest } from "../../support/store.ts";

const going = { signal: new AbortController().signal };
const BYTES = noise(300_000);
const BYTES_MAX = 10_000_000;

async function open(options: MemoryStoreOptions = {}, strategy: StrategyChoice = "replication", bytes = BYTES) {
  const store = openMemoryStore(options);
  const { deps } = store;
  await putObject(deps, putRequest("k", bytes, { strategy }));
  await settle();
  const setNow = async () => {
    const stored = await store.realMetadata.get(BUCKET, keyOf("k"), ANY_TIME);
    return blobSetsOf(stored!.record.manifest)[0] as BlobSet;
  };
  const set = await setNow();
  const { version } = (await store.realMetadata.get(BUCKET, keyOf("k"), ANY_TIME))!.record;
  const throttle = new Throttle(deps.clock, null);
  const heat = createHeatExecutor({ ...deps, isLost: () => false, throttle, bytesMax: BYTES_MAX });
  const ask = (copies: number, key = "k") =>
    heat({ kind: "heat", urgency: 2, bucket: BUCKET, key: keyOf(key), version, copies }, going);
  const readFrom = async (node: NodeName) => {
    for (const name of (await setNow()).nodes) if (name !== null) deps.membership.report(name, "down");
    deps.membership.report(node, "live");
    return bytesOf(await getObject(deps, getRequest("k")));
  };
  return { store, deps, set, setNow, version, ask, readFrom };
}

describe("createHeatExecutor()", () => {
  test("makes the copies before the record names them, each readable alone", async () => {
    const { set, setNow, ask, deps, readFrom } = await open();
    expect(await ask(2)).toMatchObject({ outcome: "done", bytes: 2 * BYTES.length });
    const hot = await setNow();
    expect(hot.nodes.slice(0, 3)).toEqual(set.nodes);
    expect(new Set(hot.nodes).size).toBe(5);
    expect(hot.redundancy).toEqual({ scheme: "replication", copies: 5 });
    for (const [index, node] of hot.nodes.entries()) {
      const blobs = deps.nodes.get(node as NodeName)!;
      expect(await blobs.verify(blobIdOf(hot.txid, hot.part, index), ANY_TIME)).toEqual([]);
    }
    expect((await readFrom(hot.nodes[4] as NodeName)).equals(BYTES)).toBe(true);
  });

  test("is done where nothing is to be done, or no node is free", async () => {
    const { setNow, ask } = await open();
    await ask(2);
    const hot = await setNow();
    expect(await ask(2)).toEqual({ outcome: "done", bytes: 0 });
    expect(await setNow()).toEqual(hot);
    expect(await ask(9)).toMatchObject({ outcome: "done", bytes: BYTES.length });
    expect((await setNow()).nodes).toHaveLength(6);
  });

  test("takes back what it gave and nothing of what the write gave, and leaves the places to recovery", async () => {
    const { store, set, setNow, ask } = await open();
    await ask(2);
    const hot = await setNow();
    expect(await ask(0)).toEqual({ outcome: "done", bytes: 0 });
    expect(await setNow()).toEqual(set);
    const dropped = [3, 4].map((index) => ({ id: blobIdOf(set.txid, set.part, index), node: hot.nodes[index] }));
    expect(await store.openIntents()).toMatchObject([{ writer: "", planned: [], replaces: dropped }]);
    expect(await ask(0)).toEqual({ outcome: "done", bytes: 0 });
    expect(await setNow()).toEqual(set);
  });

  test("takes nothing back while a copy of the object is missing", async () => {
    const { deps, set, setNow, ask } = await open();
    await ask(1);
    const hot = await setNow();
    await deps.nodes.get(set.nodes[0] as NodeName)?.delete([blobIdOf(set.txid, set.part, 0)], ANY_TIME);
    expect(await ask(0)).toMatchObject({ outcome: "later" });
    expect(await setNow()).toEqual(hot);
  });

  test("gives up to a writer that was faster", async () => {
    let isArmed = false;
    const { ask, setNow, deps } = await open({
      metadata: (real) => ({
        async commit(change, deadline) {
          if (isArmed) {
            isArmed = false;
            await putObject(deps, putRequest("k", noise(5_000), { strategy: "replication" }));
          }
          return await real.commit(change, deadline);
        },
      }),
    });
    isArmed = true;
    expect(await ask(2)).toMatchObject({ outcome: "later" });
    expect(await setNow()).toMatchObject({ sizeBytes: 5_000, redundancy: { copies: 3 } });
  });

  test("names none of the copies behind one that a node did not take", async () => {
    let putCount = 0;
    const { ask, setNow } = await open({
      node: (real) => ({
        async openWriter(id, idleMs) {
          if (id.endsWith(".4")) throw new StoreError("node_unavailable", "The node refuses", { retriable: true });
          putCount += 1;
          return await real.openWriter(id, idleMs);
        },
      }),
    });
    await ask(3);
    expect(putCount).toBeGreaterThan(0);
    expect((await setNow()).nodes).toHaveLength(4);
  });

  test("leaves inline objects alone, and what is too large", async () => {
    const { deps, ask } = await open();
    await putObject(deps, putRequest("inline", noise(100), { strategy: "inline" }));
    await putObject(deps, putRequest("large", noise(BYTES_MAX + 1), { strategy: "ec" }));
    expect(await ask(2, "inline")).toEqual({ outcome: "done", bytes: 0 });
    expect(await ask(2, "large")).toEqual({ outcome: "done", bytes: 0 });
  });
});

describe.each([
  ["packed shards", "ec", noise(90_000, 4)],
  ["streamed shards", "ec", noise(9_500_000, 5)],
  ["a cold part", "field_hybrid", Buffer.from(`{"battery":81.0,"pad":"${"x".repeat(2_300_000)}"}`)],
] as const)("whole copies beside %s", (_name, strategy, bytes) => {
  async function openCoded(options: MemoryStoreOptions = {}) {
    const opened = await open(options, strategy, bytes);
    const { store, deps } = opened;
    const recordNow = async () => (await store.realMetadata.get(BUCKET, keyOf("k"), ANY_TIME))!.record;
    const contentNow = async () => codedContentOf((await recordNow()).manifest)!;
    const dropBlobs = async (set: BlobSet) => {
      for (const { id, node } of placedBlobsOf(set)) await deps.nodes.get(node)!.delete([id], ANY_TIME);
    };
    const throttle = new Throttle(deps.clock, null);
    const mender = createMendExecutor({
      ...{ ...deps, throttle, isLost: () => false, mendMetrics: createMendMetrics(new Registry()) },
    });
    const mend = () =>
      mender({ kind: "mend", urgency: 0, reason: "missing", suspects: [], bucket: BUCKET, key: keyOf("k") }, going);
    return { ...opened, recordNow, contentNow, dropBlobs, mend };
  }

  test("are made, change nothing that a reader sees, and are read", async () => {
    const { ask, recordNow, contentNow, dropBlobs, store, deps } = await openCoded();
    const before = await recordNow();
    expect(await ask(1)).toMatchObject({ outcome: "done" });
    const { coded, copy } = await contentNow();
    expect(copy).toMatchObject({ part: "copy", sizeBytes: coded.sizeBytes, redundancy: { copies: 2 } });
    expect(new Set(copy!.nodes).size).toBe(2);
    expect({ ...(await recordNow()), manifest: null }).toEqual({ ...before, manifest: null });
    expect(await ask(1)).toEqual({ outcome: "done", bytes: 0 });
    // Without the shards there is nothing else that could be read.
    await dropBlobs(coded);
    expect((await store.read("k"))?.equals(bytes)).toBe(true);
    const range = await getObject(deps, { ...getRequest("k"), range: { first: 11, last: 60_011 } });
    expect((await bytesOf(range)).equals(bytes.subarray(11, 60_012))).toBe(true);
  });

  test("are not needed: the shards go on where they end", async () => {
    let rottenFrom = Number.POSITIVE_INFINITY;
    const { ask, contentNow, dropBlobs, store, mend } = await openCoded({
      node: (real) => ({
        async readCells(id, first, count, deadline, into) {
          const cells = await real.readCells(id, first, count, deadline, into);
          if (!id.includes(".copy.") || first < rottenFrom) return cells;
          return cells.map((cell) => ({ ...cell, payload: cell.payload.map((byte) => byte ^ 1) }));
        },
      }),
    });
    await ask(3);
    const { coded, copy } = await contentNow();
    expect(copy!.nodes).toHaveLength(3);
    for (const cell of [stripeCount(coded.sizeBytes, copy!.redundancy, copy!.cellBytes) - 1, 0]) {
      rottenFrom = cell;
      expect((await store.read("k"))?.equals(bytes)).toBe(true);
    }
    rottenFrom = Number.POSITIVE_INFINITY;
    await dropBlobs(copy!);
    expect((await store.read("k"))?.equals(bytes)).toBe(true);
    expect(await mend()).toMatchObject({ outcome: "done" });
    expect((await contentNow()).copy).toBeNull();
  });

  test("go when the object has cooled, with a clean-up intent, and when it is overwritten", async () => {
    const { ask, contentNow, recordNow, store, deps } = await openCoded();
    const before = await recordNow();
    await ask(1);
    const { copy } = await contentNow();
    expect(await ask(0)).toEqual({ outcome: "done", bytes: 0 });
    expect(await recordNow()).toEqual(before);
    expect(await store.openIntents()).toMatchObject([{ writer: "", planned: [], replaces: placedBlobsOf(copy!) }]);
    await ask(1);
    const again = (await contentNow()).copy!;
    const blobsOf = async (set: BlobSet) => (await store.blobs()).filter((id) => id.includes(set.txid));
    expect(await blobsOf(again)).toHaveLength(2);
    await putObject(deps, putRequest("k", noise(90), { strategy: "inline" }));
    await settle();
    store.clock.advance(RELEASE_DELAY_MS);
    await settle();
    expect(await blobsOf(again)).toEqual([]);
  });

  test("bring the shards back when too few of those are left", async () => {
    const { ask, contentNow, dropBlobs, store, mend } = await openCoded();
    await ask(1);
    const { coded, copy } = await contentNow();
    await dropBlobs(coded);
    expect(await mend()).toMatchObject({ outcome: "done" });
    await dropBlobs(copy!);
    expect((await store.read("k"))?.equals(bytes)).toBe(true);
  });

  test("leave nothing behind when a node does not take its copy, or a writer was faster", async () => {
    let isArmed = false;
    let isRaced = false;
    const { ask, store, contentNow, recordNow } = await openCoded({
      node: (real) => ({
        async openWriter(id, idleMs) {
          if (isArmed && id.endsWith(".copy.1")) throw new StoreError("node_unavailable", "The node refuses");
          return await real.openWriter(id, idleMs);
        },
        async put(blob, deadline) {
          if (isArmed && blob.id.endsWith(".copy.1")) throw new StoreError("node_unavailable", "The node refuses");
          await real.put(blob, deadline);
        },
      }),
      metadata: (real) => ({
        async commit(change, deadline) {
          if (isRaced) {
            isRaced = false;
            await real.commit(
              { record: { ...(await recordNow()), userMetadata: {} }, ifRevision: change.ifRevision },
              deadline,
            );
          }
          return await real.commit(change, deadline);
        },
      }),
    });
    const blobs = await store.blobs();
    isArmed = true;
    expect(await ask(1)).toMatchObject({ outcome: "later" });
    isArmed = false;
    isRaced = true;
    expect(await ask(1)).toMatchObject({ outcome: "later", inMs: 0 });
    expect((await contentNow()).copy).toBeNull();
    expect(await store.blobs()).toEqual(blobs);
  });
});

describe("createHeat()", () => {
  async function lead() {
    const opened = await open();
    const { deps, version } = opened;
    const clock = new ManualClock();
    const queue = createMemoryWorkQueue({ clock });
    let reads = 0;
    const reports = {
      collect: (): HeatReport[] => [
        { process: "g", objects: [{ bucket: BUCKET, key: keyOf("k"), version, reads, windowMs: 60_000 }] },
      ],
    };
    const bounds = { readsMin: 100, copiesMax: 2, coolMs: 1_000 };
    const start = () => createHeat({ ...deps, clock, queue, reports, bounds, scanEveryMs: 60_000 });
    const waiting = async () => (await queue.depth(ANY_TIME)).byUrgency[2];
    const take = async () => (await queue.take(0, going.signal))!;
    return { ...opened, clock, start, waiting, take, setReads: (count: number) => (reads = count) };
  }

  test("has a hot object given copies", async () => {
    const { start, setReads, take } = await lead();
    setReads(250);
    const track = start();
    await track.step(going.signal);
    expect((await take()).work).toMatchObject({ kind: "heat", key: "k", copies: 2 });
    expect(track.figures()).toEqual({ hotObjects: 1, asked: 1 });
  });

  test("finds copies that a leader before it has given, and takes them back", async () => {
    const { ask, start, waiting, take, clock, set, setNow } = await lead();
    await ask(2);
    const track = start();
    await track.step(going.signal);
    expect([track.figures(), await waiting()]).toEqual([{ hotObjects: 1, asked: 0 }, 0]);
    clock.advance(1_000);
    await track.step(going.signal);
    const { work } = await take();
    expect(work).toMatchObject({ kind: "heat", copies: 0 });
    await ask((work as WorkOf<"heat">).copies);
    expect(await setNow()).toEqual(set);
  });
});
