import { describe, expect, it } from "vitest";
import { MemoryBlobStore } from "../../../src/blob/memory-blob-store.ts";
import type { BlobStore } from "../../../src/blob/blob-store.ts";
import { StoreError } from "../../../src/domain/errors.ts";
import type { NodeName } from "../../../src/domain/ids.ts";
import { blobIdOf } from "../../../src/domain/ids.ts";
import type { BlobSet, PlacedBlob } from "../../../src/domain/manifest.ts";
import { placedBlobsOf } from "../../../src/domain/manifest.ts";
import { silentLogger } from "../../../src/lib/logger.ts";
import { ActiveWrites } from "../../../src/object/active-writes.ts";
import { ReadPins } from "../../../src/object/read-pins.ts";
import { Releaser, deleteBlobs } from "../../../src/object/release.ts";
import { createMemoryWal } from "../../../src/wal/memory-wal.ts";
import { ManualClock, settle } from "../../support/manual-clock.ts";
import { ANY_TIME, override } from "../../support/memory-store.ts";
import { sampleIntent, sampleTxid } from "../../support/sample-records.ts";

const [n1, n2] = ["n1", "n2"] as [NodeName, NodeName];
const DELAY_MS = 5_000;
const away = () => Promise.reject(new StoreError("node_unavailable", "The node is away", { retriable: true }));

function copies(txidNumber: number, part: BlobSet["part"] = "body"): BlobSet {
  const redundancy = { scheme: "replication", copies: 2 } as const;
  return { txid: sampleTxid(txidNumber), part, sizeBytes: 1, cellBytes: 64, redundancy, nodes: [n1, n2] };
}

/** A releaser over two nodes that hold `sets`, and the open intent of the write that replaced them. */
async function openReleaser(sets: readonly BlobSet[], node: (real: BlobStore) => Partial<BlobStore> = () => ({})) {
  const clock = new ManualClock();
  const wal = createMemoryWal();
  const pins = new ReadPins(clock);
  const active = new ActiveWrites();
  const nodes = new Map<NodeName, BlobStore>();
  for (const name of [n1, n2]) {
    const real = new MemoryBlobStore(name, clock);
    nodes.set(name, override<BlobStore>(real, node(real)));
    for (const { id } of sets.flatMap(placedBlobsOf).filter((blob) => blob.node === name)) {
      await real.put({ id, descriptor: Buffer.of(1), cells: [] });
    }
  }
  const txid = sampleTxid(9);
  active.begin(txid);
  await wal.append(sampleIntent(9), ANY_TIME);
  const elsewhere = new Set<string>();
  const remotePins = { isPinned: (name: string) => elsewhere.has(name) };
  const ports = { clock, logger: silentLogger, wal, nodes, pins, remotePins, active };
  const deps = { ...ports, elsewhere, releaseDelayMs: DELAY_MS, nodeMs: 1_000 };
  const releaser = new Releaser(deps);
  const left = async () => {
    const lists = await Promise.all([...nodes.values()].map((store) => store.list("", 100, ANY_TIME)));
    return lists.flat().length;
  };
  const isOpen = async () => (await wal.readOpen(0, 10, ANY_TIME)).length === 1;
  return { ...deps, releaser, txid, left, isOpen };
}

describe("Releaser", () => {
  it("schedule() frees only after the delay, then settles the intent, then the write is over", async () => {
    const set = copies(1);
    const { clock, releaser, txid, left, isOpen, active } = await openReleaser([set]);
    releaser.schedule(txid, placedBlobsOf(set));
    clock.advance(DELAY_MS - 1);
    await settle();
    expect([await left(), await isOpen(), active.has(txid), releaser.pending]).toEqual([2, true, true, 1]);
    clock.advance(1);
    await settle();
    expect([await left(), await isOpen(), active.has(txid), releaser.pending]).toEqual([0, false, false, 0]);
  });

  it("schedule() waits for every reader of every set it frees", async () => {
    const [cold, hot, other] = [copies(1, "cold"), copies(1, "hot"), copies(2)];
    const { clock, pins, releaser, txid, left, isOpen } = await openReleaser([cold, hot, other]);
    const unpinFirst = pins.pin([cold, hot]);
    const unpinSecond = pins.pin([hot]);
    pins.pin([other]);
    releaser.schedule(txid, [cold, hot].flatMap(placedBlobsOf));
    clock.advance(10 * DELAY_MS);
    await settle();
    expect([await left(), await isOpen()]).toEqual([6, true]);
    unpinFirst();
    unpinFirst();
    await settle();
    expect(await left(), "the second reader streams on").toBe(6);
    unpinSecond();
    await settle();
    expect([await left(), await isOpen()], "what nobody asked to free stays").toEqual([2, false]);
  });

  it("schedule() puts off what other processes read, round by round, and leaves it to recovery in the end", async () => {
    const [read, other] = [copies(1), copies(2)];
    const { clock, elsewhere, releaser, txid, left, isOpen, active } = await openReleaser([read, other]);
    elsewhere.add(`${sampleTxid(1)}.body`);
    releaser.schedule(txid, placedBlobsOf(read));
    releaser.schedule(sampleTxid(8), placedBlobsOf(other));
    clock.advance(3 * DELAY_MS);
    await settle();
    expect([await left(), await isOpen(), active.has(txid), releaser.pending], "the other is freed").toEqual([
      2,
      true,
      true,
      1,
    ]);
    elsewhere.clear();
    clock.advance(DELAY_MS);
    await settle();
    expect([await left(), await isOpen(), active.has(txid), releaser.pending]).toEqual([0, false, false, 0]);
  });

  it("schedule() does not wait for other processes for ever: the intent stays open, and the write is over", async () => {
    const set = copies(1);
    const { clock, elsewhere, releaser, txid, left, isOpen, active } = await openReleaser([set]);
    elsewhere.add(`${sampleTxid(1)}.body`);
    releaser.schedule(txid, placedBlobsOf(set));
    clock.advance(100 * DELAY_MS);
    await settle();
    expect([await left(), await isOpen(), active.has(txid), releaser.pending, clock.pendingTimers]).toEqual([
      2,
      true,
      false,
      0,
      0,
    ]);
  });

  it("schedule() asks again who reads elsewhere when its own readers have ended", async () => {
    const set = copies(1);
    const { clock, pins, elsewhere, releaser, txid, left } = await openReleaser([set]);
    const unpin = pins.pin([set]);
    releaser.schedule(txid, placedBlobsOf(set));
    clock.advance(DELAY_MS);
    await settle();
    elsewhere.add(`${sampleTxid(1)}.body`);
    unpin();
    await settle();
    expect(await left()).toBe(2);
    elsewhere.clear();
    clock.advance(DELAY_MS);
    await settle();
    expect(await left()).toBe(0);
  });

  it("close() leaves what other processes read to recovery", async () => {
    const set = copies(1);
    const { clock, elsewhere, releaser, txid, left, isOpen } = await openReleaser([set]);
    elsewhere.add(`${sampleTxid(1)}.body`);
    releaser.schedule(txid, placedBlobsOf(set));
    await releaser.close();
    expect([await left(), await isOpen(), releaser.pending, clock.pendingTimers]).toEqual([2, true, 0, 0]);
  });

  it("schedule() settles at once when nothing was replaced", async () => {
    const { releaser, txid, isOpen, active, clock } = await openReleaser([]);
    releaser.schedule(txid, []);
    await settle();
    expect([await isOpen(), active.has(txid), clock.pendingTimers]).toEqual([false, false, 0]);
  });

  it("schedule() leaves the intent to recovery when a node cannot be asked", async () => {
    const set = copies(1);
    const { clock, releaser, txid, left, isOpen, active } = await openReleaser([set], (real) =>
      real.node === n2 ? { delete: away } : {},
    );
    releaser.schedule(txid, placedBlobsOf(set));
    clock.advance(DELAY_MS);
    await settle();
    expect([await left(), await isOpen(), active.has(txid)]).toEqual([1, true, false]);
  });

  it("settle() swallows a log that does not answer: recovery meets the intent again", async () => {
    const { releaser, txid, active, wal } = await openReleaser([]);
    await wal.close();
    await releaser.settle([txid]);
    expect(active.has(txid)).toBe(false);
  });

  it("close() frees what waits, once, also what readers had pinned, and leaves no timer", async () => {
    const set = copies(1);
    const { clock, pins, releaser, txid, left, isOpen } = await openReleaser([set]);
    const unpin = pins.pin([set]);
    releaser.schedule(txid, placedBlobsOf(set));
    await releaser.close();
    expect([await left(), await isOpen(), releaser.pending, clock.pendingTimers]).toEqual([0, false, 0, 0]);
    unpin();
    await settle();
  });
});

describe("deleteBlobs()", () => {
  it("asks each node once, for all of its blobs", async () => {
    const asked: [NodeName, number][] = [];
    const sets = [copies(1), copies(2)];
    const deps = await openReleaser(sets, (real) => ({
      delete: (ids, deadline) => {
        asked.push([real.node, ids.length]);
        return real.delete(ids, deadline);
      },
    }));
    expect(await deleteBlobs(deps, sets.flatMap(placedBlobsOf))).toBe(true);
    expect(asked.sort()).toEqual([
      [n1, 2],
      [n2, 2],
    ]);
    expect(await deps.left()).toBe(0);
  });

  it("asks the other nodes although one is away, and says that something may be left", async () => {
    const set = copies(1);
    const deps = await openReleaser([set], (real) => (real.node === n1 ? { delete: away } : {}));
    expect(await deleteBlobs(deps, placedBlobsOf(set))).toBe(false);
    expect(await deps.left()).toBe(1);
  });

  it("has nothing to do on a node that is no longer configured", async () => {
    const deps = await openReleaser([]);
    const gone: PlacedBlob = { id: blobIdOf(sampleTxid(1), "body", 0), node: "n9" as NodeName };
    expect(await deleteBlobs(deps, [gone])).toBe(true);
  });
});

describe("ReadPins", () => {
  it("whenFree() resolves at once for what nobody reads, and wakes everyone who waits", async () => {
    const pins = new ReadPins(new ManualClock());
    const name = `${sampleTxid(1)}.body`;
    await pins.whenFree(name);
    const unpin = pins.pin([copies(1), copies(2)]);
    let woken = 0;
    const both = [pins.whenFree(name), pins.whenFree(name)].map((free) => free.then(() => (woken += 1)));
    await settle();
    expect(woken).toBe(0);
    unpin();
    await Promise.all(both);
    expect(woken).toBe(2);
    await pins.whenFree(name);
  });
});

describe("ReadPins", () => {
  it("heldLongerThan() names what is read without a pause since then, not what is read anew", async () => {
    const clock = new ManualClock();
    const pins = new ReadPins(clock);
    const [long, short] = [copies(1), copies(2, "cold")];
    const first = pins.pin([long, short]);
    clock.advance(600);
    const second = pins.pin([long]);
    first();
    pins.pin([short]);
    clock.advance(400);
    expect([...pins.heldLongerThan(1_000)]).toEqual([]);
    clock.advance(1);
    expect([...pins.heldLongerThan(1_000)]).toEqual([`${sampleTxid(1)}.body`]);
    clock.advance(600);
    expect([...pins.heldLongerThan(1_000)].length).toBe(2);
    second();
    expect([...pins.heldLongerThan(1_000)]).toEqual([`${sampleTxid(2)}.cold`]);
  });
});

describe("ActiveWrites", () => {
  it("has what has begun and not ended", () => {
    const active = new ActiveWrites();
    active.begin(sampleTxid(1));
    active.begin(sampleTxid(2));
    active.end(sampleTxid(1));
    active.end(sampleTxid(3));
    expect([active.has(sampleTxid(1)), active.has(sampleTxid(2)), active.size]).toEqual([false, true, 1]);
  });
});
