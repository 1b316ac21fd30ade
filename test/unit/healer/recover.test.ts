import { describe, expect, it } from "vitest";
import type { BlobStore } from "../../../src/blob/blob-store.ts";
import { StoreError } from "../../../src/domain/errors.ts";
import { encodeDescriptor } from "../../../src/domain/blob.ts";
import { cellChecksum } from "../../../src/domain/checksum.ts";
import type { BlobId, NodeName, Revision, VersionId } from "../../../src/domain/ids.ts";
import { REVISION_NONE, blobIdOf } from "../../../src/domain/ids.ts";
import type { Intent } from "../../../src/domain/intent.ts";
import type { BlobSet } from "../../../src/domain/manifest.ts";
import { placedBlobsOf } from "../../../src/domain/manifest.ts";
import type { ObjectRecord } from "../../../src/domain/record.ts";
import { recoverIntents } from "../../../src/healer/recover.ts";
import { deleteObject } from "../../../src/object/delete.ts";
import { putObject } from "../../../src/object/put.ts";
import { NO_PRECONDITIONS } from "../../../src/object/requests.ts";
import { settle } from "../../support/manual-clock.ts";
import type { MemoryStore } from "../../support/memory-store.ts";
import { ANY_TIME, NODE_NAMES, openMemoryStore, override } from "../../support/memory-store.ts";
import { BUCKET, keyOf, noise, putRequest } from "../../support/store.ts";

const away = () => Promise.reject(new StoreError("node_unavailable", "The node is away", { retriable: true }));
const KEY = keyOf("k");

/** A write of three copies that its process did not survive: its intent is open, `held` of its blobs are sealed. */
async function leaveWrite(store: MemoryStore, held: readonly number[], replaces: BlobSet | null = null) {
  const txid = store.deps.nextTxid();
  const bytes = noise(5_000, 77);
  const seen = await store.realMetadata.get(BUCKET, KEY, ANY_TIME);
  const set: BlobSet = {
    txid,
    part: "body",
    sizeBytes: bytes.length,
    cellBytes: 1_048_064,
    redundancy: { scheme: "replication", copies: 3 },
    nodes: NODE_NAMES.slice(0, 3),
  };
  const record: ObjectRecord = {
    state: "object",
    bucket: BUCKET,
    key: KEY,
    version: txid as string as VersionId,
    modifiedAtMs: 0,
    sizeBytes: bytes.length,
    etag: "left",
    sha256: null,
    contentType: "",
    userMetadata: {},
    manifest: { strategy: "replication", body: set },
    fencedTxids: [],
  };
  const revisionSeen = seen?.revision ?? REVISION_NONE;
  const intent = { txid, bucket: BUCKET, key: KEY, startedAtMs: 0, writer: "", revisionSeen };
  const planned = [{ ...set, sizeBytes: 0 }];
  await store.deps.wal.append(
    { ...intent, planned, replaces: replaces === null ? [] : placedBlobsOf(replaces) },
    ANY_TIME,
  );
  for (const index of held)
    await putCopy(store, set, index, NODE_NAMES[index] as NodeName, record, revisionSeen, bytes);
  return { txid, bytes, set, record, revisionSeen };
}

async function putCopy(
  store: MemoryStore,
  set: BlobSet,
  index: number,
  node: NodeName,
  record: ObjectRecord,
  revisionSeen: Revision,
  bytes: Buffer,
): Promise<BlobId> {
  const id = blobIdOf(set.txid, set.part, index);
  const cells = [{ payload: bytes, checksum: cellChecksum(bytes, id, 0) }];
  await (store.deps.nodes.get(node) as BlobStore).put(
    { id, descriptor: encodeDescriptor({ record, revisionSeen }), cells },
    ANY_TIME,
  );
  return id;
}

/** No blob of the node can be described any more. */
function damageSeal(store: MemoryStore, node: NodeName): void {
  const describe = () => Promise.reject(new StoreError("blob_damaged", "The seal of the blob is damaged"));
  const nodes = store.deps.nodes as Map<NodeName, BlobStore>;
  nodes.set(node, override(nodes.get(node) as BlobStore, { describe }));
}

async function currentRecord(store: MemoryStore): Promise<ObjectRecord | undefined> {
  return (await store.realMetadata.get(BUCKET, KEY, ANY_TIME))?.record;
}

/** The body's set of what a put has stored. */
async function putCopies(store: MemoryStore, seed: number): Promise<{ set: BlobSet; bytes: Buffer }> {
  const bytes = noise(5_000, seed);
  await putObject(store.deps, putRequest("k", bytes, { strategy: "replication" }));
  const manifest = (await currentRecord(store))?.manifest;
  if (manifest?.strategy !== "replication") throw new Error("copies were wanted");
  // The write settles its intent behind its answer.
  await settle();
  return { set: manifest.body, bytes };
}

/** Nothing is open, and the blobs on the nodes are exactly those that records name. */
async function expectClean(store: MemoryStore): Promise<void> {
  expect(await store.openIntents()).toEqual([]);
  expect(await store.blobs()).toEqual(await store.namedBlobs());
}

async function expectNothingToDo(store: MemoryStore): Promise<void> {
  const record = await currentRecord(store);
  expect(await store.recover()).toEqual({ finished: 0, resurrected: 0, rolledBack: 0, left: 0 });
  expect(await currentRecord(store)).toEqual(record);
}

describe("recoverIntents()", () => {
  it("settles an intent that wrote nothing", async () => {
    const store = openMemoryStore();
    await leaveWrite(store, []);
    expect(await store.recover()).toEqual({ finished: 0, resurrected: 0, rolledBack: 1, left: 0 });
    expect(await currentRecord(store), "a dead writer needs no fence").toBeUndefined();
    await expectClean(store);
    await expectNothingToDo(store);
  });

  it("goes on beside a blob whose seal is damaged, which counts for nothing", async () => {
    const rolledBack = openMemoryStore();
    await leaveWrite(rolledBack, [0, 1]);
    damageSeal(rolledBack, NODE_NAMES[1] as NodeName);
    expect(await rolledBack.recover()).toEqual({ finished: 0, resurrected: 0, rolledBack: 1, left: 0 });
    await expectClean(rolledBack);

    const resurrected = openMemoryStore();
    const { set } = await leaveWrite(resurrected, [0, 1, 2]);
    damageSeal(resurrected, NODE_NAMES[2] as NodeName);
    expect(await resurrected.recover()).toEqual({ finished: 0, resurrected: 1, rolledBack: 0, left: 0 });
    const nodes = [...NODE_NAMES.slice(0, 2), null];
    expect((await currentRecord(resurrected))?.manifest).toMatchObject({ body: { txid: set.txid, nodes } });
    await expectClean(resurrected);
  });

  it("rolls back what did not reach the quorum", async () => {
    const store = openMemoryStore();
    const { bytes } = await putCopies(store, 1);
    await leaveWrite(store, [1]);
    expect(await store.recover()).toEqual({ finished: 0, resurrected: 0, rolledBack: 1, left: 0 });
    expect((await store.read("k"))?.equals(bytes)).toBe(true);
    await expectClean(store);
    await expectNothingToDo(store);
  });

  it("resurrects what reached the quorum: readable, dirty where a blob is missing, the old blobs freed", async () => {
    const store = openMemoryStore();
    const { set: old } = await putCopies(store, 1);
    const { bytes } = await leaveWrite(store, [0, 2], old);
    expect(await store.recover()).toEqual({ finished: 0, resurrected: 1, rolledBack: 0, left: 0 });
    expect((await store.read("k"))?.equals(bytes)).toBe(true);
    const manifest = (await currentRecord(store))?.manifest;
    expect(manifest?.strategy === "replication" && manifest.body.nodes).toEqual(["n1", null, "n3"]);
    await expectClean(store);
    await expectNothingToDo(store);
  });

  it("resurrects from spares too, and removes what a planned node had stored after all", async () => {
    const store = openMemoryStore();
    const left = await leaveWrite(store, [0, 1]);
    await putCopy(store, left.set, 1, "n6" as NodeName, left.record, left.revisionSeen, left.bytes);
    await putCopy(store, left.set, 2, "n5" as NodeName, left.record, left.revisionSeen, left.bytes);
    expect(await store.recover()).toMatchObject({ resurrected: 1 });
    const manifest = (await currentRecord(store))?.manifest;
    expect(manifest?.strategy === "replication" && manifest.body.nodes).toEqual(["n1", "n2", "n5"]);
    expect((await store.read("k"))?.equals(left.bytes)).toBe(true);
    await expectClean(store);
  });

  it("finishes what was committed: frees what it replaced and the blob that came too late, and keeps the named", async () => {
    const store = openMemoryStore();
    const { set: old } = await putCopies(store, 1);
    const left = await leaveWrite(store, [0, 1, 2], old);
    const body = { ...left.set, nodes: [left.set.nodes[0] as NodeName, left.set.nodes[1] as NodeName, null] };
    const record: ObjectRecord = { ...left.record, manifest: { strategy: "replication", body } };
    await store.realMetadata.commit({ record, ifRevision: left.revisionSeen }, ANY_TIME);
    expect(await store.recover()).toEqual({ finished: 1, resurrected: 0, rolledBack: 0, left: 0 });
    expect((await store.read("k"))?.equals(left.bytes)).toBe(true);
    expect(await store.blobs()).toHaveLength(2);
    await expectClean(store);
    await expectNothingToDo(store);
  });

  it("leaves blobs alone that the record still names after a delete", async () => {
    const store = openMemoryStore();
    const { set: old } = await putCopies(store, 1);
    await leaveWrite(store, [0, 1, 2], old);
    // Somebody deleted the object meanwhile: the tombstone names the old blobs for an undelete.
    await deleteObject(store.deps, { bucket: BUCKET, key: KEY, preconditions: NO_PRECONDITIONS });
    expect(await store.recover()).toEqual({ finished: 0, resurrected: 0, rolledBack: 1, left: 0 });
    expect(await currentRecord(store)).toMatchObject({ state: "tombstone" });
    expect(await store.blobs()).toHaveLength(3);
    await expectClean(store);
  });

  it("does not resurrect over a version that was written later", async () => {
    const store = openMemoryStore();
    await leaveWrite(store, [0, 1, 2]);
    const { bytes } = await putCopies(store, 5);
    expect(await store.recover()).toMatchObject({ rolledBack: 1, resurrected: 0 });
    expect((await store.read("k"))?.equals(bytes)).toBe(true);
    await expectClean(store);
  });

  it("looks at every intent, page by page", async () => {
    const store = openMemoryStore();
    for (let count = 0; count < 300; count += 1) await leaveWrite(store, []);
    expect(await store.recover()).toMatchObject({ rolledBack: 300 });
    expect(await store.openIntents()).toEqual([]);
  });

  it("leaves the writes of this process alone", async () => {
    const hold = Promise.withResolvers<void>();
    const store = openMemoryStore({
      metadata: (real) => ({ commit: (change, deadline) => hold.promise.then(() => real.commit(change, deadline)) }),
    });
    const put = putObject(store.deps, putRequest("k", noise(5_000), { strategy: "replication" }));
    await settle();
    const summary = await recoverIntents(
      { ...store.deps, waitMs: 1_000 },
      { writerDead: true, ageMsMin: Number.NEGATIVE_INFINITY },
    );
    expect(summary).toEqual({ finished: 0, resurrected: 0, rolledBack: 0, left: 0 });
    hold.resolve();
    expect((await put).blobsDurable).toBe(3);
  });
});

describe("recoverIntents() with a node away", () => {
  /** A store of which one node fails the methods named, the fourth unless said otherwise, until it is mended. */
  function openWithNodeAway(...methods: ("describe" | "delete")[]) {
    const state: { away: NodeName | null } = { away: "n4" as NodeName };
    const store = openMemoryStore({
      node: (real) => {
        const perhaps = methods.map((method) => {
          const work = real[method] as (...args: unknown[]) => unknown;
          return [method, (...args: unknown[]) => (state.away === real.node ? away() : work.apply(real, args))];
        });
        return Object.fromEntries(perhaps) as Partial<BlobStore>;
      },
    });
    return { store, state, mend: () => void (state.away = null) };
  }

  it("leaves an intent open when the node may hold what decides the case", async () => {
    const { store, mend } = openWithNodeAway("describe");
    const { txid } = await leaveWrite(store, [0]);
    expect(await store.recover()).toEqual({ finished: 0, resurrected: 0, rolledBack: 0, left: 1 });
    expect((await store.openIntents()).map((intent) => intent.txid)).toEqual([txid]);
    expect(await store.blobs(), "nothing was deleted for lack of evidence").toHaveLength(1);
    expect(await currentRecord(store)).toBeUndefined();
    mend();
    expect(await store.recover()).toMatchObject({ rolledBack: 1, left: 0 });
    await expectClean(store);
  });

  for (const [held, outcome] of [
    [[], "rolledBack"],
    [[0, 1], "resurrected"],
  ] as const) {
    it(`decides with ${held.length} blobs found, whatever the node holds, and looks for the rest when it is back`, async () => {
      const { store, mend } = openWithNodeAway("describe", "delete");
      const left = await leaveWrite(store, held);
      // A spare that its writer believed to be away.
      await putCopy(store, left.set, 2, "n4" as NodeName, left.record, left.revisionSeen, left.bytes);
      expect(await store.recover()).toMatchObject({ [outcome]: 1 });
      const cleanUp = { txid: left.txid, planned: [], writer: "", replaces: expect.arrayContaining([]) as unknown };
      expect(await store.openIntents()).toMatchObject([cleanUp]);
      const record = await currentRecord(store);
      expect(await store.recover(), "the node is still away").toMatchObject({ left: 1 });
      mend();
      expect(await store.recover()).toEqual({ finished: 1, resurrected: 0, rolledBack: 0, left: 0 });
      expect(await currentRecord(store)).toEqual(record);
      await expectClean(store);
    });
  }

  it("forgets what a node held that is given up", async () => {
    const { store } = openWithNodeAway("describe");
    await leaveWrite(store, [0, 1]);
    store.deps.membership.report("n4" as NodeName, "gone");
    expect(await store.recover()).toEqual({ finished: 0, resurrected: 1, rolledBack: 0, left: 0 });
    await expectClean(store);
  });

  it("leaves an intent open until everything it replaced is really gone, though the write itself is resurrected", async () => {
    const { store, state, mend } = openWithNodeAway("delete");
    const { set: old } = await putCopies(store, 1);
    state.away = old.nodes[1] as NodeName;
    const { bytes } = await leaveWrite(store, [0, 1, 2], old);
    expect(await store.recover()).toMatchObject({ left: 1, resurrected: 0 });
    expect((await store.read("k"))?.equals(bytes)).toBe(true);
    expect(await store.openIntents()).toHaveLength(1);
    mend();
    expect(await store.recover()).toMatchObject({ finished: 1, left: 0 });
    expect((await store.read("k"))?.equals(bytes)).toBe(true);
    await expectClean(store);
  });

  it("leaves a roll back open until every blob is gone", async () => {
    const { store, mend } = openWithNodeAway("delete");
    const left = await leaveWrite(store, []);
    await putCopy(store, left.set, 0, "n4" as NodeName, left.record, left.revisionSeen, left.bytes);
    expect(await store.recover()).toMatchObject({ left: 1 });
    expect(await store.openIntents()).toHaveLength(1);
    mend();
    expect(await store.recover()).toMatchObject({ rolledBack: 1 });
    await expectClean(store);
  });
});

describe("recoverIntents() with a writer that may live", () => {
  it("fences before it deletes, so that a late commit conflicts", async () => {
    const events: string[] = [];
    const store = openMemoryStore({
      node: (real) => ({
        delete: (ids, deadline) => {
          events.push("delete");
          return real.delete(ids, deadline);
        },
      }),
    });
    const { txid, record, revisionSeen } = await leaveWrite(store, [1]);
    const metadata = override(store.realMetadata, {
      commit: (change, deadline) => {
        events.push("fence");
        return store.realMetadata.commit(change, deadline);
      },
    });
    expect(await store.recover({ writerDead: false, metadata })).toMatchObject({ rolledBack: 1 });
    expect(new Set(events)).toEqual(new Set(["fence", "delete"]));
    expect(events.lastIndexOf("fence")).toBe(0);
    expect(await currentRecord(store)).toMatchObject({ state: "fence", fencedTxids: [txid] });
    expect(await store.read("k"), "a fence is invisible").toBeNull();
    const late = await store.realMetadata.commit({ record, ifRevision: revisionSeen }, ANY_TIME);
    expect(late).toMatchObject({ ok: false, current: { record: { fencedTxids: [txid] } } });
    expect(await store.openIntents()).toEqual([]);
  });

  it("has nodes refuse what is still on its way when a write is rolled back", async () => {
    const store = openMemoryStore();
    const { set, record, revisionSeen, bytes } = await leaveWrite(store, [1]);
    expect(await store.recover({ writerDead: false })).toMatchObject({ rolledBack: 1 });
    for (const index of [0, 1, 2]) {
      for (const node of [NODE_NAMES[index], NODE_NAMES[4]] as NodeName[]) {
        // A blob that was there and is deleted has arrived: it does not come twice.
        if (index === 1 && node === NODE_NAMES[1]) continue;
        const late = putCopy(store, set, index, node, record, revisionSeen, bytes);
        await expect(late, `${index} on ${node}`).rejects.toMatchObject({ code: "write_conflict" });
      }
    }
    await expectClean(store);
  });

  it("keeps the object under the fence as it is", async () => {
    const store = openMemoryStore();
    const { bytes } = await putCopies(store, 1);
    const before = await currentRecord(store);
    const { txid } = await leaveWrite(store, [1]);
    expect(await store.recover({ writerDead: false })).toMatchObject({ rolledBack: 1 });
    expect(await currentRecord(store)).toMatchObject({ ...before, fencedTxids: [txid] });
    expect((await store.read("k"))?.equals(bytes)).toBe(true);
    await expectClean(store);
  });

  it("deletes nothing when the writer commits between the look and the fence", async () => {
    const store = openMemoryStore();
    // Two of three with a quorum of its own making: the recoverer sees one blob, the writer knows of two.
    const left = await leaveWrite(store, [0]);
    const metadata = override(store.realMetadata, {
      async commit(change, deadline) {
        const body = { ...left.set, nodes: [left.set.nodes[0] as NodeName, null, null] };
        const record: ObjectRecord = { ...left.record, manifest: { strategy: "replication", body } };
        await store.realMetadata.commit({ record, ifRevision: left.revisionSeen }, deadline);
        return await store.realMetadata.commit(change, deadline);
      },
    });
    const summary = await store.recover({ writerDead: false, metadata });
    expect(summary).toEqual({ finished: 0, resurrected: 0, rolledBack: 0, left: 1 });
    expect((await store.read("k"))?.equals(left.bytes)).toBe(true);
    expect(await store.openIntents()).toHaveLength(1);
    expect(await store.recover({ writerDead: false })).toMatchObject({ finished: 1 });
    expect((await store.read("k"))?.equals(left.bytes)).toBe(true);
    await expectClean(store);
  });

  it("leaves the intent when the key changes between the look and the resurrection", async () => {
    const store = openMemoryStore();
    await leaveWrite(store, [0, 1, 2]);
    let faster: Buffer | null = null;
    const metadata = override(store.realMetadata, {
      async commit(change, deadline) {
        faster ??= (await putCopies(store, 9)).bytes;
        return await store.realMetadata.commit(change, deadline);
      },
    });
    expect(await store.recover({ writerDead: false, metadata })).toMatchObject({ left: 1, resurrected: 0 });
    expect((await store.read("k"))?.equals(faster as unknown as Buffer)).toBe(true);
    expect(await store.recover({ writerDead: false })).toMatchObject({ rolledBack: 1 });
    expect((await store.read("k"))?.equals(faster as unknown as Buffer)).toBe(true);
    await expectClean(store);
  });

  it("goes on with a roll back that was fenced before, without fencing again", async () => {
    const store = openMemoryStore();
    await putCopies(store, 1);
    const { txid } = await leaveWrite(store, [0, 1, 2]);
    const current = await store.realMetadata.get(BUCKET, KEY, ANY_TIME);
    const record = { ...(current?.record as ObjectRecord), fencedTxids: [txid] };
    const fenced = await store.realMetadata.commit({ record, ifRevision: current?.revision as Revision }, ANY_TIME);
    expect(await store.recover({ writerDead: false })).toMatchObject({ rolledBack: 1 });
    const after = await store.realMetadata.get(BUCKET, KEY, ANY_TIME);
    expect(after?.revision).toBe(fenced.ok && fenced.revision);
    await expectClean(store);
  });

  it("settles no intent that was appended again meanwhile: its write may have other blobs to free", async () => {
    const store = openMemoryStore();
    const { set: old } = await putCopies(store, 1);
    const left = await leaveWrite(store, [0, 1, 2]);
    const [intent] = await store.openIntents();
    const again = { ...(intent as Intent), replaces: placedBlobsOf(old) };
    const metadata = override(store.realMetadata, {
      async get(bucket, key, deadline) {
        // The writer goes on just now: its new intent is durable before its commit.
        await store.deps.wal.append(again, deadline);
        await store.realMetadata.commit({ record: left.record, ifRevision: left.revisionSeen }, deadline);
        return await store.realMetadata.get(bucket, key, deadline);
      },
    });
    expect(await store.recover({ writerDead: false, metadata })).toMatchObject({ finished: 0, left: 1 });
    expect(await store.openIntents()).toEqual([again]);
    expect(await store.recover({ writerDead: false })).toMatchObject({ finished: 1 });
    await expectClean(store);
  });
});
