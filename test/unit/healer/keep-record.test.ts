import { describe, expect, test } from "vitest";
import { encodeDescriptor } from "../../../src/domain/blob.ts";
import type { BlobId, NodeName } from "../../../src/domain/ids.ts";
import { KEPT_COPIES, keptBlobId, keptSetName } from "../../../src/domain/kept-record.ts";
import type { WorkOf } from "../../../src/domain/work.ts";
import { createKeepExecutor } from "../../../src/healer/keep-record.ts";
import type { RecordKeeper } from "../../../src/healer/record-keeper.ts";
import { createRecordKeeper } from "../../../src/healer/record-keeper.ts";
import { createStaticMembership } from "../../../src/membership/static-membership.ts";
import { deleteObject } from "../../../src/object/delete.ts";
import { putObject } from "../../../src/object/put.ts";
import { NO_PRECONDITIONS } from "../../../src/object/requests.ts";
import { createMemoryWorkQueue } from "../../../src/work/memory-work-queue.ts";
import { StoreError } from "../../../src/domain/errors.ts";
import { settle } from "../../support/manual-clock.ts";
import type { MemoryStore, MemoryStoreOptions } from "../../support/memory-store.ts";
import { ANY_TIME, NODE_NAMES, openMemoryStore } from "../../support/memory-store.ts";
import { BUCKET, keyOf, noise, putRequest } from "../../support/store.ts";

const going = { signal: new AbortController().signal };
const KEEP_RECORDS_MS = 60_000;

function workFor(key: string, version = "0".repeat(26)): WorkOf<"keep_record"> {
  return { kind: "keep_record", urgency: 2, bucket: BUCKET, key: keyOf(key), version: version as never };
}

async function putInline(store: MemoryStore, key = "k", seed = 1) {
  await putObject(store.deps, putRequest(key, noise(100, seed), { strategy: "inline" }));
  await settle();
  return (await store.realMetadata.get(BUCKET, keyOf(key), ANY_TIME))!;
}

async function remove({ deps }: MemoryStore, key: string) {
  await deleteObject(deps, { bucket: BUCKET, key: keyOf(key), preconditions: NO_PRECONDITIONS });
}

function keptBlobs(blobs: readonly string[], set: string): string[] {
  return blobs.filter((blob) => blob.startsWith(`${set}.`));
}

/** Refuses on the named nodes as a full one does. */
function fullNodes(...full: string[]): MemoryStoreOptions {
  return {
    node: (real) =>
      full.includes(real.node)
        ? { put: async () => Promise.reject(new StoreError("node_full", "no room", { retriable: true })) }
        : {},
  };
}

describe("createKeepExecutor()", () => {
  test("writes the record with its revision to so many nodes", async () => {
    const store = openMemoryStore();
    const { record, revision } = await putInline(store);
    const outcome = await createKeepExecutor(store.deps)(workFor("k", record.version), going);
    const kept = keptBlobs(await store.blobs(), keptSetName(record.version));
    expect(new Set(kept.map((blob) => blob.split("@")[1])).size).toBe(KEPT_COPIES);
    let bytes = 0;
    for (const [id, node] of kept.map((blob) => blob.split("@") as [BlobId, NodeName])) {
      const { descriptor } = (await store.deps.nodes.get(node)!.describe(id, ANY_TIME))!;
      bytes += descriptor.length;
      expect(Buffer.from(descriptor).equals(encodeDescriptor({ record, revisionSeen: revision }))).toBe(true);
    }
    expect(outcome).toEqual({ outcome: "done", bytes });
  });

  test("keeps the present record, whatever version the work names", async () => {
    const store = openMemoryStore();
    const first = await putInline(store, "k", 1);
    const second = await putInline(store, "k", 2);
    await createKeepExecutor(store.deps)(workFor("k", first.record.version), going);
    const blobs = await store.blobs();
    expect(keptBlobs(blobs, keptSetName(first.record.version))).toEqual([]);
    expect(keptBlobs(blobs, keptSetName(second.record.version))).toHaveLength(KEPT_COPIES);
  });

  test.each([
    { what: "a key without a record", prepare: async () => {} },
    {
      what: "an object whose blobs were sealed with its record",
      prepare: async (store: MemoryStore) =>
        await putObject(store.deps, putRequest("k", noise(50_000), { strategy: "ec" })),
    },
  ])("has nothing to do for $what", async ({ prepare }) => {
    const store = openMemoryStore();
    await prepare(store);
    await settle();
    const before = await store.blobs();
    expect(await createKeepExecutor(store.deps)(workFor("k"), going)).toEqual({ outcome: "done", bytes: 0 });
    expect(await store.blobs()).toEqual(before);
  });

  test("goes past nodes that take nothing, to those next in rank", async () => {
    const store = openMemoryStore(fullNodes("n1", "n2", "n3"));
    const { record } = await putInline(store);
    expect(await createKeepExecutor(store.deps)(workFor("k"), going)).toMatchObject({ outcome: "done" });
    const kept = keptBlobs(await store.blobs(), keptSetName(record.version));
    expect(kept.map((blob) => blob.split("@")[1]).sort()).toEqual(["n4", "n5", "n6"]);
  });

  test("comes again where too few nodes take it, and has kept what could be", async () => {
    const store = openMemoryStore(fullNodes("n1", "n2", "n3", "n4"));
    const { record } = await putInline(store);
    expect(await createKeepExecutor(store.deps)(workFor("k"), going)).toMatchObject({ outcome: "later" });
    expect(keptBlobs(await store.blobs(), keptSetName(record.version))).toHaveLength(2);
  });

  test("asks for no more copies than there are nodes", async () => {
    const store = openMemoryStore();
    const { record } = await putInline(store);
    const membership = createStaticMembership(
      NODE_NAMES.slice(0, 2).map((name) => ({ name, state: "live", region: "r", zone: name, weight: 1 })),
    );
    const keep = createKeepExecutor({ ...store.deps, membership });
    expect(await keep(workFor("k"), going)).toMatchObject({ outcome: "done" });
    expect(keptBlobs(await store.blobs(), keptSetName(record.version))).toHaveLength(2);
  });

  test("said again it makes no further blobs", async () => {
    const store = openMemoryStore();
    await putInline(store);
    const keep = createKeepExecutor(store.deps);
    await keep(workFor("k"), going);
    const before = await store.blobs();
    expect(await keep(workFor("k"), going)).toMatchObject({ outcome: "done" });
    expect(await store.blobs()).toEqual(before);
  });
});

describe("createRecordKeeper()", () => {
  function open(options: MemoryStoreOptions = {}) {
    const store = openMemoryStore(options);
    const queue = createMemoryWorkQueue({ clock: store.clock });
    const keep = createKeepExecutor(store.deps);
    const keeper = createRecordKeeper({ ...store.deps, queue, keep, keepRecordsMs: KEEP_RECORDS_MS });
    return { store, queue, keeper };
  }

  async function stepsUntilIdle(keeper: RecordKeeper): Promise<number> {
    for (let steps = 1; ; steps += 1) if ((await keeper.step(going.signal)).state === "idle") return steps;
  }

  test("keeps every record that only metadata has, in steps that end", async () => {
    const { store, keeper } = open();
    await using _ = keeper;
    const count = 600;
    for (let n = 0; n < count; n += 1) {
      await putObject(store.deps, putRequest(`k${n}`, noise(10, n), { strategy: "inline" }));
    }
    expect(keeper.progress()).toEqual({ done: 0, total: count, unit: "records" });
    expect(await stepsUntilIdle(keeper)).toBeGreaterThan(1);
    expect(keeper.figures()).toEqual({ recordsKept: count, recordsWaiting: 0, recordsMissed: 0 });
    expect(keeper.progress()).toBeNull();
    expect(await store.blobs()).toHaveLength(count * KEPT_COPIES);
  });

  test("of a key that changed often only the last state is written", async () => {
    const { store, keeper } = open();
    await using _ = keeper;
    for (let n = 0; n < 10; n += 1) await putInline(store, "k", n);
    await remove(store, "k");
    await stepsUntilIdle(keeper);
    const { record } = (await store.realMetadata.get(BUCKET, keyOf("k"), ANY_TIME))!;
    expect(record.state).toBe("tombstone");
    const expected = Array.from({ length: KEPT_COPIES }, (_unused, index) => keptBlobId(record.version, index));
    expect((await store.blobs()).map((blob) => blob.split("@")[0]).sort()).toEqual(expected.sort());
  });

  test("forgets a key whose newest state its own blobs tell of", async () => {
    const { store, keeper } = open();
    await using _ = keeper;
    await putInline(store, "k");
    await putObject(store.deps, putRequest("k", noise(50_000), { strategy: "ec" }));
    await settle();
    expect(keeper.figures()).toMatchObject({ recordsWaiting: 0 });
  });

  test("looks again within half the stated time", async () => {
    const { keeper } = open();
    await using _ = keeper;
    expect(await keeper.step(going.signal)).toEqual({ state: "idle", againInMs: KEEP_RECORDS_MS / 2 });
  });

  test("what too few nodes take now becomes work that waits", async () => {
    const { store, queue, keeper } = open(fullNodes("n1", "n2", "n3", "n4"));
    await using _ = keeper;
    await putInline(store);
    await stepsUntilIdle(keeper);
    expect((await queue.take(0, going.signal))?.work).toMatchObject({ kind: "keep_record", key: "k" });
  });

  test("what cannot be looked up is counted and left to the audit", async () => {
    let isAway = false;
    const { store, keeper } = open({
      metadata: (real) => ({
        async get(bucket, key, deadline) {
          if (isAway) throw new StoreError("metadata_unavailable", "away", { retriable: true });
          return await real.get(bucket, key, deadline);
        },
      }),
    });
    await using _ = keeper;
    await putInline(store);
    isAway = true;
    await stepsUntilIdle(keeper);
    expect(keeper.figures()).toEqual({ recordsKept: 0, recordsWaiting: 0, recordsMissed: 1 });
  });

  test("is told of nothing more once it is disposed", async () => {
    const { store, keeper } = open();
    await keeper[Symbol.asyncDispose]();
    await putInline(store);
    expect(keeper.figures()).toMatchObject({ recordsWaiting: 0 });
  });
});
