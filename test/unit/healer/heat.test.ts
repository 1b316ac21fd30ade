import { describe, expect, test } from "vitest";
import { StoreError } from "../../../src/domain/errors.ts";
import type { HeatReport } from "../../../src/domain/heat.ts";
import type { NodeName } from "../../../src/domain/ids.ts";
import { blobIdOf } from "../../../src/domain/ids.ts";
import type { BlobSet } from "../../../src/domain/manifest.ts";
import { blobSetsOf } from "../../../src/domain/manifest.ts";
import type { WorkOf } from "../../../src/domain/work.ts";
import { createHeat } from "../../../src/healer/heat.ts";
import { createHeatExecutor } from "../../../src/healer/hot-copies.ts";
import { Throttle } from "../../../src/lib/throttle.ts";
import { getObject } from "../../../src/object/get.ts";
import { putObject } from "../../../src/object/put.ts";
import { createMemoryWorkQueue } from "../../../src/work/memory-work-queue.ts";
import { ManualClock, settle } from "../../support/manual-clock.ts";
import type { MemoryStoreOptions } from "../../support/memory-store.ts";
import { ANY_TIME, openMemoryStore } from "../../support/memory-store.ts";
import { BUCKET, bytesOf, getRequest, keyOf, noise, putRequest } from "../../support/store.ts";

const going = { signal: new AbortController().signal };
const BYTES = noise(300_000);

async function open(options: MemoryStoreOptions = {}) {
  const store = openMemoryStore(options);
  const { deps } = store;
  await putObject(deps, putRequest("k", BYTES, { strategy: "replication" }));
  await settle();
  const setNow = async () => {
    const stored = await store.realMetadata.get(BUCKET, keyOf("k"), ANY_TIME);
    return blobSetsOf(stored!.record.manifest)[0] as BlobSet;
  };
  const set = await setNow();
  const { version } = (await store.realMetadata.get(BUCKET, keyOf("k"), ANY_TIME))!.record;
  const heat = createHeatExecutor({ ...deps, isLost: () => false, throttle: new Throttle(deps.clock, null) });
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

  test("leaves erasure-coded objects alone", async () => {
    const { deps, ask } = await open();
    await putObject(deps, putRequest("coded", BYTES, { strategy: "ec" }));
    expect(await ask(2, "coded")).toEqual({ outcome: "done", bytes: 0 });
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
