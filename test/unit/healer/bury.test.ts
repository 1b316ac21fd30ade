import { Registry } from "prom-client";
import { describe, expect, test } from "vitest";
import { blobSetsOf } from "../../../src/domain/manifest.ts";
import type { WorkOf } from "../../../src/domain/work.ts";
import { createBuryExecutor } from "../../../src/healer/bury.ts";
import { createCollectMetrics } from "../../../src/healer/collect-metrics.ts";
import { deleteObject } from "../../../src/object/delete.ts";
import { putObject } from "../../../src/object/put.ts";
import { NO_PRECONDITIONS } from "../../../src/object/requests.ts";
import { undeleteObject } from "../../../src/object/undelete.ts";
import { settle } from "../../support/manual-clock.ts";
import type { MemoryStoreOptions } from "../../support/memory-store.ts";
import { ANY_TIME, openMemoryStore } from "../../support/memory-store.ts";
import { BUCKET, keyOf, noise, putRequest } from "../../support/store.ts";

const going = { signal: new AbortController().signal };
const UNDELETE_MS = 60_000;
const CONTENT = noise(100_000);
const ADDRESS = { bucket: BUCKET, key: keyOf("k"), preconditions: NO_PRECONDITIONS };

/** An object that was deleted `agoMs` ago. */
async function open(agoMs: number, options: MemoryStoreOptions = {}) {
  const store = openMemoryStore(options);
  const metrics = createCollectMetrics(new Registry());
  await putObject(store.deps, putRequest("k", CONTENT, { strategy: "ec" }));
  await deleteObject(store.deps, ADDRESS);
  await settle();
  store.clock.advance(agoMs);
  const tombstone = (await recordOf(store))!;
  const bury = createBuryExecutor({ ...store.deps, collectMetrics: metrics, undeleteMs: UNDELETE_MS });
  const work = { kind: "bury", urgency: 2, bucket: BUCKET, key: keyOf("k"), version: tombstone.version } as const;
  const buriedCount = async () => (await metrics.buried.get()).values[0]?.value ?? 0;
  return { store, work: work satisfies WorkOf<"bury">, bury, buriedCount };
}

async function recordOf(store: ReturnType<typeof openMemoryStore>) {
  return (await store.realMetadata.get(BUCKET, keyOf("k"), ANY_TIME))?.record ?? null;
}

describe("createBuryExecutor()", () => {
  test("gives up what can no longer be brought back, and leaves a clean-up that frees it", async () => {
    const { store, work, bury, buriedCount } = await open(UNDELETE_MS);
    expect(await bury(work, going)).toEqual({ outcome: "done", bytes: 0 });
    expect(await buriedCount()).toBe(1);
    expect(await store.namedBlobs()).toEqual([]);
    expect(await store.openIntents()).toHaveLength(1);
    await expect(undeleteObject(store.deps, ADDRESS)).rejects.toMatchObject({ code: "undelete_expired" });
    await store.recover();
    expect(await store.blobs()).toEqual([]);
    expect(await store.openIntents()).toEqual([]);
  });

  test("does nothing before the time is over", async () => {
    const { store, work, bury } = await open(UNDELETE_MS - 1);
    const before = await store.blobs();
    expect(await bury(work, going)).toMatchObject({ outcome: "done" });
    expect([await store.blobs(), await store.openIntents()]).toEqual([before, []]);
    await undeleteObject(store.deps, ADDRESS);
    expect((await store.read("k"))?.equals(CONTENT)).toBe(true);
  });

  test.each([
    { meanwhile: "brought back", happens: undeleteObject },
    {
      meanwhile: "written anew",
      happens: async (deps: Parameters<typeof putObject>[0]) => await putObject(deps, putRequest("k", CONTENT)),
    },
  ])("leaves an object alone that was $meanwhile", async ({ happens }) => {
    const { store, work, bury, buriedCount } = await open(UNDELETE_MS);
    await happens(store.deps, ADDRESS);
    await bury(work, going);
    await store.recover();
    expect(await buriedCount()).toBe(0);
    expect((await store.read("k"))?.equals(CONTENT)).toBe(true);
  });

  test("loses against an undelete that commits first, and its clean-up frees nothing", async () => {
    let meanwhile: (() => Promise<unknown>) | null = null;
    const { store, work, bury, buriedCount } = await open(UNDELETE_MS, {
      metadata: (real) => ({
        async commit(change, deadline) {
          const first = meanwhile;
          meanwhile = null;
          await first?.();
          return await real.commit(change, deadline);
        },
      }),
    });
    meanwhile = async () => await undeleteObject(store.deps, ADDRESS);
    await bury(work, going);
    expect(await buriedCount()).toBe(0);
    expect(await store.openIntents()).toHaveLength(1);
    await store.recover();
    expect((await store.read("k"))?.equals(CONTENT)).toBe(true);
    expect(await store.blobs()).toEqual(await store.namedBlobs());
  });

  test("said twice it buries once", async () => {
    const { store, work, bury, buriedCount } = await open(UNDELETE_MS);
    await bury(work, going);
    await bury(work, going);
    expect([await buriedCount(), (await store.openIntents()).length]).toEqual([1, 1]);
  });

  test("frees nothing while somebody reads the content", async () => {
    const { store, work, bury } = await open(UNDELETE_MS);
    const before = await store.blobs();
    const tombstone = (await recordOf(store))!;
    const unpin = store.deps.pins.pin(blobSetsOf(tombstone.manifest));
    await bury(work, going);
    await store.recoverOneRound();
    expect(await store.blobs()).toEqual(before);
    unpin();
    await store.recover();
    expect(await store.blobs()).toEqual([]);
  });
});
