/** Writers that sleep while so many others are fenced on their key that its record forgets their own fence. */
import { describe, expect, it } from "vitest";
import { REVISION_NONE } from "../../../src/domain/ids.ts";
import { withFence } from "../../../src/domain/record.ts";
import { LIMITS } from "../../../src/limits.ts";
import type { MetadataStore } from "../../../src/metadata/metadata-store.ts";
import { VERSION_NONE } from "../../../src/object/commit-record.ts";
import { deleteObject } from "../../../src/object/delete.ts";
import { putObject } from "../../../src/object/put.ts";
import { NO_PRECONDITIONS } from "../../../src/object/requests.ts";
import { UNKNOWN, documentOf, expectQuiet, openHeldUp, patch } from "../../support/held-up-writes.ts";
import type { MemoryStore } from "../../support/memory-store.ts";
import { ANY_TIME, override } from "../../support/memory-store.ts";
import { sampleRecord } from "../../support/sample-records.ts";
import { BUCKET, keyOf, noise, putRequest } from "../../support/store.ts";

const NOT_STORED = { code: "write_conflict", retriable: true };

type Commit = MetadataStore["commit"];

/** So many other writes of the key are given up. */
async function fenceOthers({ deps, realMetadata }: MemoryStore, count: number): Promise<void> {
  for (let n = 0; n < count; n += 1) {
    const found = await realMetadata.get(BUCKET, keyOf("k"), ANY_TIME);
    const record = found?.record ?? sampleRecord("k", { bucket: BUCKET, state: "fence", version: VERSION_NONE });
    const change = { record: withFence(record, deps.nextTxid()), ifRevision: found?.revision ?? REVISION_NONE };
    expect((await realMetadata.commit(change, ANY_TIME)).ok).toBe(true);
  }
}

describe("finishWrite() of a write whose fence may have left the record", () => {
  const readyStore = async (exists: boolean, before: (store: MemoryStore) => Promise<unknown>) => {
    const { store, state } = openHeldUp(before);
    if (exists) await putObject(store.deps, putRequest("k", noise(6_000, 2), { strategy: "replication" }));
    state.armed = true;
    return { store, put: () => putObject(store.deps, putRequest("k", noise(100_000, 1), { strategy: "ec" })) };
  };
  const giveUp = async (held: MemoryStore) => {
    expect(await held.recover({ writerDead: false })).toMatchObject({ rolledBack: 1, resurrected: 0 });
  };
  const putOther = (held: MemoryStore) =>
    putObject(held.deps, putRequest("k", noise(7_000, 3), { strategy: "replication" }));
  const remove = (held: MemoryStore) =>
    deleteObject(held.deps, { bucket: BUCKET, key: keyOf("k"), preconditions: NO_PRECONDITIONS });

  const before = noise(6_000, 2);
  const other = noise(7_000, 3);
  const rows: [string, boolean, (held: MemoryStore) => Promise<unknown>, object, Buffer | null][] = [
    ["that was given up on a new key", false, (held) => fenceOthers(held, 1), NOT_STORED, null],
    ["that was given up over a version", true, (held) => fenceOthers(held, 1), NOT_STORED, before],
    ["that was overtaken and given up", true, putOther, UNKNOWN, other],
    ["that was overtaken on a new key and given up", false, putOther, UNKNOWN, other],
    ["that met a delete and was given up", true, remove, UNKNOWN, null],
  ];
  for (const [title, exists, meanwhile, told, left] of rows) {
    it(`commits nothing of one ${title}`, async () => {
      const { store, put } = await readyStore(exists, async (held) => {
        await meanwhile(held);
        await giveUp(held);
        await fenceOthers(held, LIMITS.fencedTxidsMax);
      });
      await expect(put()).rejects.toMatchObject(told);
      expect((await store.read("k"))?.toString("hex")).toBe(left?.toString("hex"));
      await expectQuiet(store);
      expect((await store.read("k"))?.toString("hex")).toBe(left?.toString("hex"));
      // The next one has nothing to do with all that.
      await putObject(store.deps, putRequest("k", noise(100_000, 4), { strategy: "ec" }));
      expect((await store.read("k"))?.equals(noise(100_000, 4))).toBe(true);
    });
  }

  it("commits nothing a second time of one that recovery has completed and somebody has replaced", async () => {
    const { store, put } = await readyStore(true, async (held) => {
      expect(await held.recover({ writerDead: false })).toMatchObject({ resurrected: 1 });
      await putOther(held);
      await fenceOthers(held, LIMITS.fencedTxidsMax);
    });
    await expect(put()).rejects.toMatchObject(UNKNOWN);
    await expectQuiet(store);
    expect((await store.read("k"))?.equals(other)).toBe(true);
  });

  for (const isGivenUp of [false, true]) {
    it(`counts fences from conflict to conflict, ${isGivenUp ? "until its own is among them" : "none its own"}`, async () => {
      let conflicts = 0;
      const { store } = openHeldUp(async () => {});
      const commit: Commit = async (change, deadline) => {
        conflicts += 1;
        // As many as the list holds, again and again: each time it can see that none was its own.
        if (conflicts <= 5) await fenceOthers(store, LIMITS.fencedTxidsMax);
        if (conflicts === 5 && isGivenUp) {
          await giveUp(store);
          await fenceOthers(store, LIMITS.fencedTxidsMax);
        }
        return await store.realMetadata.commit(change, deadline);
      };
      const deps = { ...store.deps, metadata: override(store.realMetadata, { commit }) };
      const put = putObject(deps, putRequest("k", noise(100_000, 1), { strategy: "ec" }));
      if (isGivenUp) await expect(put).rejects.toMatchObject(NOT_STORED);
      else await put;
      expect(conflicts).toBe(isGivenUp ? 5 : 6);
      await expectQuiet(store);
      expect((await store.read("k"))?.length).toBe(isGivenUp ? undefined : 100_000);
    });
  }

  it("gives up when more fences have passed than it can account for, though none was its own", async () => {
    const { store, put } = await readyStore(true, (held) => fenceOthers(held, LIMITS.fencedTxidsMax + 1));
    await expect(put()).rejects.toMatchObject(NOT_STORED);
    await expectQuiet(store);
    expect((await store.read("k"))?.equals(before)).toBe(true);
  });

  it("is no concern of a write that has nothing in the log", async () => {
    const { store, state } = openHeldUp((held) => fenceOthers(held, 3 * LIMITS.fencedTxidsMax));
    state.armed = true;
    await putObject(store.deps, putRequest("k", noise(100)));
    expect((await store.read("k"))?.equals(noise(100))).toBe(true);
  });

  it("patch() that brings blobs commits nothing either", async () => {
    const { store, state } = openHeldUp(async (held) => {
      await fenceOthers(held, 1);
      await giveUp(held);
      await fenceOthers(held, LIMITS.fencedTxidsMax);
    });
    await putObject(store.deps, putRequest("k", documentOf(1, 1), { strategy: "field_hybrid" }));
    state.armed = true;
    await expect(patch(store, '{"cold": 2}')).rejects.toMatchObject(NOT_STORED);
    expect((await store.read("k"))?.equals(documentOf(1, 1))).toBe(true);
    await expectQuiet(store);
  });

  it("leaves everything to recovery when the record is lost", async () => {
    const { store } = openHeldUp(async () => {});
    await putObject(store.deps, putRequest("k", before, { strategy: "replication" }));
    const commit: Commit = () => Promise.resolve({ ok: false, current: null });
    const deps = { ...store.deps, metadata: override(store.realMetadata, { commit }) };
    const put = putObject(deps, putRequest("k", noise(100_000, 1), { strategy: "ec" }));
    await expect(put).rejects.toMatchObject(UNKNOWN);
    expect([store.deps.active.size, (await store.openIntents()).length]).toEqual([0, 1]);
    expect(await store.blobs()).toHaveLength(9);
    await store.recover({ writerDead: false });
    await expectQuiet(store);
  });
});
