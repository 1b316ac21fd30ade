import { describe, expect, test } from "vitest";
import type { BlobStore } from "../../../src/blob/blob-store.ts";
import { StoreError } from "../../../src/domain/errors.ts";
import type { NodeName } from "../../../src/domain/ids.ts";
import { blobIdOf } from "../../../src/domain/ids.ts";
import type { BlobSet } from "../../../src/domain/manifest.ts";
import { blobSetsOf } from "../../../src/domain/manifest.ts";
import type { WorkOf } from "../../../src/domain/work.ts";
import { createDrain, targetOf } from "../../../src/healer/drain.ts";
import { createMoveExecutor } from "../../../src/healer/move.ts";
import { Throttle } from "../../../src/lib/throttle.ts";
import { getObject } from "../../../src/object/get.ts";
import { putObject } from "../../../src/object/put.ts";
import { createMemoryWorkQueue } from "../../../src/work/memory-work-queue.ts";
import type { Delivery } from "../../../src/work/work-queue.ts";
import { ManualClock, settle } from "../../support/manual-clock.ts";
import type { MemoryStoreOptions } from "../../support/memory-store.ts";
import { ANY_TIME, NODE_NAMES, openMemoryStore, override } from "../../support/memory-store.ts";
import { BUCKET, bytesOf, getRequest, keyOf, noise, putRequest } from "../../support/store.ts";

const going = { signal: new AbortController().signal };
const BYTES = noise(300_000);

/** An object of three copies on six nodes, and the work of moving one of them. */
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
  const from = set.nodes[0] as NodeName;
  const to = NODE_NAMES.find((name) => !set.nodes.includes(name)) as NodeName;
  const id = blobIdOf(set.txid, set.part, 0);
  const object = { bucket: BUCKET, key: keyOf("k") };
  const work: WorkOf<"move"> = { kind: "move", urgency: 2, ...object, blob: { id, node: from }, to };
  const move = createMoveExecutor({ ...deps, isLost: () => false, throttle: new Throttle(deps.clock, null) });
  const holds = async (node: NodeName) => (await deps.nodes.get(node)?.describe(id, ANY_TIME)) !== null;
  const read = async () => bytesOf(await getObject(deps, getRequest("k")));
  return { store, deps, work, move, set, setNow, from, to, holds, read };
}

describe("createMoveExecutor()", () => {
  test("makes the blob at its new place, lets the record name it, and leaves the old place to recovery", async () => {
    const { store, work, move, setNow, set, from, to, holds, read } = await open();
    expect(await move(work, going)).toMatchObject({ outcome: "done", bytes: BYTES.length });
    expect((await setNow()).nodes).toEqual([to, ...set.nodes.slice(1)]);
    expect([await holds(from), await holds(to)]).toEqual([true, true]);
    expect(await store.openIntents()).toMatchObject([{ writer: "", planned: [], replaces: [work.blob] }]);
    expect((await read()).equals(BYTES)).toBe(true);
  });

  test("remembers the old place before the record changes", async () => {
    const order: string[] = [];
    const { work, move } = await open({
      wal: (real) => ({
        append: (intent, deadline) => {
          order.push("intent");
          return real.append(intent, deadline);
        },
      }),
      metadata: (real) => ({
        commit: (change, deadline) => {
          order.push("commit");
          return real.commit(change, deadline);
        },
      }),
    });
    order.length = 0;
    await move(work, going);
    expect(order).toEqual(["intent", "commit"]);
  });

  test("changes nothing where it was done, or where a node would hold two of a set", async () => {
    const { store, work, move, set, setNow } = await open();
    expect(await move({ ...work, to: set.nodes[1] as NodeName }, going)).toMatchObject({ outcome: "done", bytes: 0 });
    expect(await setNow()).toEqual(set);
    await move(work, going);
    const after = await setNow();
    expect(await move(work, going)).toMatchObject({ outcome: "done", bytes: 0 });
    expect(await setNow()).toEqual(after);
    expect(await store.openIntents()).toHaveLength(1);
  });

  test("waits for a target that is not live, and for an object that lacks something", async () => {
    const { deps, work, move, set, setNow, to } = await open();
    deps.membership.report(to, "full");
    expect(await move(work, going)).toMatchObject({ outcome: "later" });
    deps.membership.report(to, "live");
    await deps.nodes.get(set.nodes[1] as NodeName)?.delete([blobIdOf(set.txid, set.part, 1)], ANY_TIME);
    expect(await move(work, going)).toMatchObject({ outcome: "later" });
    expect(await setNow()).toEqual(set);
  });

  test("the old place is freed once the new one holds the blob, and never before", async () => {
    const { store, deps, work, move, from, to, holds, read } = await open();
    const away = new StoreError("node_unavailable", "away", { retriable: true });
    await move(work, going);
    const moved = deps.nodes.get(to)!;
    for (const describe of [async () => null, async () => Promise.reject(away)]) {
      const lacking = override(moved, { describe });
      (deps.nodes as Map<NodeName, BlobStore>).set(to, lacking);
      expect(await store.recover()).toMatchObject({ left: 1 });
      expect(await holds(from)).toBe(true);
    }
    (deps.nodes as Map<NodeName, BlobStore>).set(to, moved);
    expect(await store.recover()).toMatchObject({ finished: 1 });
    expect([await holds(from), await holds(to)]).toEqual([false, true]);
    expect((await read()).equals(BYTES)).toBe(true);
  });

  test("a write whose blob was moved to a node that is away is settled, and the old place is remembered", async () => {
    let isSettled = false;
    const { store, deps, work, move, from, to, holds } = await open({
      wal: (real) => ({
        settle: async (txids, deadline) => (isSettled ? await real.settle(txids, deadline) : undefined),
      }),
    });
    isSettled = true;
    await move(work, going);
    const there = deps.nodes.get(to)!;
    const refuse = () => Promise.reject(new StoreError("node_unavailable", "away", { retriable: true }));
    (deps.nodes as Map<NodeName, BlobStore>).set(to, override(there, { describe: refuse, delete: refuse }));
    expect(await store.recover()).toMatchObject({ finished: 1, left: 1 });
    const remembered = await store.openIntents();
    expect(remembered.map(({ planned }) => planned)).toEqual([[], []]);
    expect(remembered.every(({ replaces }) => replaces.some((blob) => blob.node === from))).toBe(true);
    expect(await store.recover()).toMatchObject({ finished: 0, left: 2 });
    expect(await holds(from)).toBe(true);
    (deps.nodes as Map<NodeName, BlobStore>).set(to, there);
    expect(await store.recover()).toMatchObject({ finished: 2 });
    expect([await holds(from), await holds(to)]).toEqual([false, true]);
    expect(await store.openIntents()).toEqual([]);
  });

  test("gives up to a writer that was faster", async () => {
    let isFirst = true;
    const { work, move, deps, setNow } = await open({
      wal: (real) => ({
        async append(intent, deadline) {
          if (intent.writer === "" && isFirst) {
            isFirst = false;
            await putObject(deps, putRequest("k", noise(5_000), { strategy: "replication" }));
          }
          return await real.append(intent, deadline);
        },
      }),
    });
    expect(await move(work, going)).toMatchObject({ outcome: "later" });
    expect((await setNow()).sizeBytes).toBe(5_000);
  });
});

describe("createDrain()", () => {
  test("queues the move of all that records name on a draining node, and tells when nothing is left", async () => {
    const { deps, set, from, move } = await open();
    const queue = createMemoryWorkQueue({ clock: new ManualClock() });
    const drain = createDrain({ ...deps, queue });
    expect(await drain.step(going.signal)).toMatchObject({ state: "idle" });
    deps.membership.report(from, "draining");
    await drain.step(going.signal);
    expect(drain.figures()).toMatchObject({ movesQueued: 1, [`left.${from}`]: 1 });
    expect(await drain.step(going.signal)).toMatchObject({ state: "throttled" });
    const delivery = (await queue.take(0, going.signal)) as Delivery;
    const queued = delivery.work as WorkOf<"move">;
    expect(queued).toMatchObject({ kind: "move", blob: { node: from } });
    expect(set.nodes).not.toContain(queued.to);
    expect(await move(queued, going)).toMatchObject({ outcome: "done" });
    await delivery.done();
    await drain.step(going.signal);
    expect(drain.figures()).toMatchObject({ movesQueued: 1, [`left.${from}`]: 0 });
    deps.membership.report(from, "live");
    await drain.step(going.signal);
    expect(drain.figures()).not.toHaveProperty([`left.${from}`]);
  });
});

describe("targetOf()", () => {
  test("is a live node that holds nothing of the set, or none", async () => {
    const { deps, set } = await open();
    const nodes = deps.membership.snapshot();
    const target = targetOf(set, nodes, "bucket/k") as NodeName;
    expect([set.nodes.includes(target), NODE_NAMES.includes(target)]).toEqual([false, true]);
    const full = nodes.map((node) => (set.nodes.includes(node.name) ? node : { ...node, state: "full" as const }));
    expect(targetOf(set, full, "bucket/k")).toBeNull();
  });
});
