import { describe, expect, it } from "vitest";
import type { BlobStore, BlobWriter } from "../../../src/blob/blob-store.ts";
import { decodeDescriptor } from "../../../src/domain/blob.ts";
import { StoreError } from "../../../src/domain/errors.ts";
import type { ObjectRecord } from "../../../src/domain/record.ts";
import { encodeRecord } from "../../../src/domain/record.ts";
import type { VersionId } from "../../../src/domain/ids.ts";
import { REVISION_NONE } from "../../../src/domain/ids.ts";
import type { StrategyChoice } from "../../../src/domain/manifest.ts";
import type { MetadataStore } from "../../../src/metadata/metadata-store.ts";
import { ObjectPatcher } from "../../../src/object/patch.ts";
import { putObject } from "../../../src/object/put.ts";
import { NO_PRECONDITIONS } from "../../../src/object/requests.ts";
import { settle } from "../../support/manual-clock.ts";
import type { MemoryStore } from "../../support/memory-store.ts";
import { ANY_TIME, RELEASE_DELAY_MS, openMemoryStore } from "../../support/memory-store.ts";
import { sampleTxid } from "../../support/sample-records.ts";
import { BUCKET, keyOf, noise, putRequest } from "../../support/store.ts";

const MIB = 1_048_576;
/** One of each way content takes: nothing on nodes, packed copies, packed shards, streamed shards, split. */
const document = (battery: number, cold: number) =>
  Buffer.from(`{"battery": ${battery}, "pad": "${"x".repeat(300_000)}", "cold": ${cold}}`);
const CONTENTS = [
  ["packed copies", "replication", noise(5_000, 1)],
  ["packed shards", "ec", noise(100_000, 1)],
  ["streamed shards", "ec", noise(5 * MIB, 1)],
  ["a split document", "field_hybrid", document(1, 1)],
] as const satisfies [string, StrategyChoice, Buffer][];

const unavailable = () => new StoreError("metadata_unavailable", "No answer", { retriable: true });

/** Writes down which durable step of a write ends when. */
function journal() {
  const events: string[] = [];
  const note = <T>(event: string, work: Promise<T>): Promise<T> => {
    events.push(`${event} begins`);
    return work.then((value) => {
      events.push(`${event} ends`);
      return value;
    });
  };
  return { events, note };
}

function sealing(real: BlobStore, onSeal: <T>(work: () => Promise<T>) => Promise<T>): Partial<BlobStore> {
  return {
    put: (blob, deadline) => onSeal(() => real.put(blob, deadline)),
    async openWriter(id, waitMs): Promise<BlobWriter> {
      const writer = await real.openWriter(id, waitMs);
      return { ...writer, seal: (descriptor) => onSeal(() => writer.seal(descriptor)) };
    },
  };
}

describe("finishWrite()", () => {
  for (const [name, strategy, bytes] of CONTENTS) {
    it(`makes the intent durable before any blob of ${name} is sealed, and a quorum before it commits`, async () => {
      const { events, note } = journal();
      const store = openMemoryStore({
        wal: (real) => ({
          append: (intent, deadline) =>
            note(
              "intent",
              settle().then(() => real.append(intent, deadline)),
            ),
        }),
        node: (real) => sealing(real, (work) => note("seal", settle().then(work))),
        metadata: (real) => ({ commit: (change, deadline) => note("commit", real.commit(change, deadline)) }),
      });
      await putObject(store.deps, putRequest("k", bytes, { strategy }));
      const [intentEnds, firstSeal, commits] = ["intent ends", "seal begins", "commit begins"].map((event) =>
        events.indexOf(event),
      ) as [number, number, number];
      expect(intentEnds).toBeGreaterThan(-1);
      expect(firstSeal).toBeGreaterThan(intentEnds);
      const sealed = events.slice(0, commits).filter((event) => event === "seal ends").length;
      expect(sealed).toBeGreaterThanOrEqual(strategy === "replication" ? 2 : 5);
    });

    it(`seals every blob of ${name} with the record to be and the revision seen`, async () => {
      const store = openMemoryStore();
      await putObject(store.deps, putRequest("k", noise(10)));
      const seen = await store.realMetadata.get(BUCKET, keyOf("k"), ANY_TIME);
      const receipt = await putObject(store.deps, putRequest("k", bytes, { strategy }));
      const committed = await store.realMetadata.get(BUCKET, keyOf("k"), ANY_TIME);
      expect(receipt.nodes.length).toBeGreaterThan(0);
      for (const node of store.deps.nodes.values()) {
        for (const { id } of await node.list("", 100, ANY_TIME)) {
          const blob = await node.describe(id, ANY_TIME);
          const { record, revisionSeen } = decodeDescriptor(blob?.descriptor ?? Buffer.of());
          expect(revisionSeen).toBe(seen?.revision);
          // Byte strings come back as views of different kinds: the formats' own bytes are what is compared.
          expect(encodeRecord(record)).toEqual(encodeRecord(committed?.record as ObjectRecord));
        }
      }
    });

    for (const taken of [true, false]) {
      const outcome = taken ? "was taken" : "was not taken";
      it(`leaves the blobs of ${name} to recovery when the commit ${outcome} and nobody said so`, async () => {
        const store = openMemoryStore({
          metadata: (real) => ({ commit: (change) => loseAnswer(real, change, taken) }),
        });
        await expect(putObject(store.deps, putRequest("k", bytes, { strategy }))).rejects.toMatchObject({
          code: "metadata_unavailable",
        });
        expect(await store.openIntents()).toHaveLength(1);
        expect(store.deps.active.size, "recovery may look at it").toBe(0);
        if (taken) expect((await store.read("k"))?.equals(bytes)).toBe(true);
        const summary = await store.recover();
        expect(summary).toMatchObject(taken ? { finished: 1 } : { resurrected: 1 });
        expect((await store.read("k"))?.equals(bytes)).toBe(true);
        expect(await store.blobs()).toEqual(await store.namedBlobs());
        expect(await store.openIntents()).toEqual([]);
      });
    }

    it(`removes the blobs of ${name} and settles when the intent cannot be made durable`, async () => {
      const store = openMemoryStore({
        wal: () => ({
          append: () => Promise.reject(new StoreError("wal_unavailable", "No quorum", { retriable: true })),
        }),
      });
      await expect(putObject(store.deps, putRequest("k", bytes, { strategy }))).rejects.toMatchObject({
        code: "wal_unavailable",
      });
      expect(await store.blobs()).toEqual([]);
      expect(await store.read("k")).toBeNull();
      expect(store.deps.active.size).toBe(0);
    });
  }

  it("checks the preconditions again on what it meets after a conflict", async () => {
    let race = true;
    const store = openMemoryStore({
      metadata: (real) => ({
        async commit(change, deadline) {
          // Another creator is faster by one step, once.
          if (race) {
            race = false;
            const record = {
              ...change.record,
              version: sampleTxid(1) as string as VersionId,
              etag: "faster",
              manifest: { strategy: "inline" as const, bytes: noise(3) },
            };
            await real.commit({ record, ifRevision: REVISION_NONE }, deadline);
          }
          return await real.commit(change, deadline);
        },
      }),
    });
    const preconditions = { ...NO_PRECONDITIONS, ifNoneMatch: ["*"] };
    const put = putObject(store.deps, putRequest("k", noise(5_000), { strategy: "replication", preconditions }));
    await expect(put).rejects.toMatchObject({ code: "precondition_failed" });
    expect(await store.read("k")).toHaveLength(3);
    expect(await store.blobs()).toEqual([]);
    expect(await store.openIntents()).toEqual([]);
  });

  it("writes over who was faster without preconditions, and frees the blobs of that one", async () => {
    let race = true;
    const store = openMemoryStore({
      metadata: (real) => ({
        async commit(change, deadline) {
          if (race) {
            race = false;
            await putObject(store.deps, putRequest("k", noise(6_000, 2), { strategy: "replication" }));
          }
          return await real.commit(change, deadline);
        },
      }),
    });
    await putObject(store.deps, putRequest("k", noise(5_000, 1), { strategy: "replication" }));
    expect((await store.read("k"))?.equals(noise(5_000, 1))).toBe(true);
    const [intent, ...others] = await store.openIntents();
    expect(others).toEqual([]);
    expect(intent?.replaces, "the intent names what the conflict showed").toHaveLength(3);
    store.clock.advance(RELEASE_DELAY_MS);
    await settle();
    expect(await store.blobs()).toEqual(await store.namedBlobs());
    expect(await store.openIntents()).toEqual([]);
  });

  it("gives up when recovery has fenced the write", async () => {
    let fenceFirst = true;
    const store = openMemoryStore({
      metadata: (real) => ({
        async commit(change, deadline) {
          if (fenceFirst) {
            fenceFirst = false;
            const summary = await store.recover({ writerDead: false });
            expect(summary).toMatchObject({ resurrected: 0, rolledBack: 1 });
          }
          return await real.commit(change, deadline);
        },
      }),
      // One blob of six: too few for recovery to complete the write, though the writer asks for no more.
      node: (real) =>
        real.node === "n1" ? {} : sealing(real, () => Promise.reject(new StoreError("write_conflict", "busy"))),
    });
    const put = putObject(store.deps, putRequest("k", noise(5_000), { strategy: "replication", consistency: "one" }));
    await expect(put).rejects.toMatchObject({ code: "write_conflict", retriable: true });
    expect(await store.read("k")).toBeNull();
    expect(await store.blobs()).toEqual([]);
    expect(await store.openIntents()).toEqual([]);
  });
});

describe("compare-and-set", () => {
  /** A store in which somebody else writes right behind the first read of the record, once it is armed. */
  function openRaced(other: (store: MemoryStore) => Promise<unknown>) {
    const state = { armed: false };
    const store: MemoryStore = openMemoryStore({
      metadata: (real) => ({
        async peek(bucket, key, deadline) {
          const seen = await real.peek(bucket, key, deadline);
          if (state.armed) {
            state.armed = false;
            await other(store);
          }
          return seen;
        },
      }),
    });
    return { store, arm: () => void (state.armed = true) };
  }

  const putDocument = (store: MemoryStore, bytes: Buffer, preconditions = NO_PRECONDITIONS) =>
    putObject(store.deps, putRequest("k", bytes, { strategy: "field_hybrid", preconditions }));
  const patch = (store: MemoryStore, text: string) => new ObjectPatcher(store.deps).patch(patchOf(text));
  const fieldsOf = async (store: MemoryStore) => JSON.parse(String(await store.read("k"))) as Record<string, unknown>;

  it("patch() of hot fields loses nothing that was committed after its look", async () => {
    const { store, arm } = openRaced((raced) => patch(raced, '{"seen": 7}'));
    await putDocument(store, document(1, 1));
    arm();
    await patch(store, '{"battery": 2}');
    expect(await fieldsOf(store)).toMatchObject({ battery: 2, seen: 7, cold: 1 });
  });

  it("patch() of cold fields loses nothing that was committed after its look", async () => {
    const { store, arm } = openRaced((raced) => patch(raced, '{"seen": 7}'));
    await putDocument(store, document(1, 1));
    arm();
    await patch(store, '{"cold": 2}');
    expect(await fieldsOf(store)).toMatchObject({ battery: 1, seen: 7, cold: 2 });
    expect(store.deps.active.size).toBe(1);
    store.clock.advance(RELEASE_DELAY_MS);
    await settle();
    expect(await store.blobs()).toEqual(await store.namedBlobs());
  });

  it("putObject() with If-None-Match: * does not replace what appeared after its look", async () => {
    const { store, arm } = openRaced((raced) => putObject(raced.deps, putRequest("k", noise(3))));
    arm();
    const preconditions = { ...NO_PRECONDITIONS, ifNoneMatch: ["*"] };
    const put = putObject(store.deps, putRequest("k", noise(5_000), { strategy: "replication", preconditions }));
    await expect(put).rejects.toMatchObject({ code: "precondition_failed" });
    expect(await store.read("k")).toHaveLength(3);
    expect(await store.blobs()).toEqual([]);
  });

  it("putObject() of a hot update with If-Match does not replace what was patched after its look", async () => {
    const { store, arm } = openRaced((raced) => patch(raced, '{"battery": 50}'));
    const { etag } = await putDocument(store, document(1, 1));
    arm();
    const preconditions = { ...NO_PRECONDITIONS, ifMatch: [etag] };
    await expect(putDocument(store, document(2, 1), preconditions)).rejects.toMatchObject({
      code: "precondition_failed",
    });
    expect(await fieldsOf(store)).toMatchObject({ battery: 50, cold: 1 });
    expect(await store.blobs()).toEqual(await store.namedBlobs());
  });

  it("putObject() of a hot update without conditions writes over it as the later writer, keeping the cold blobs", async () => {
    const { store, arm } = openRaced((raced) => patch(raced, '{"battery": 50}'));
    await putDocument(store, document(1, 1));
    const before = await store.blobs();
    arm();
    expect(await putDocument(store, document(2, 1))).toMatchObject({ nodeBytesWritten: 0 });
    expect(await fieldsOf(store)).toMatchObject({ battery: 2, cold: 1 });
    expect(await store.blobs()).toEqual(before);
  });
});

function patchOf(patch: string) {
  const address = { bucket: BUCKET, key: keyOf("k") };
  return { ...address, patch: Buffer.from(patch), consistency: null, preconditions: NO_PRECONDITIONS };
}

async function loseAnswer(
  real: MetadataStore,
  change: Parameters<MetadataStore["commit"]>[0],
  taken: boolean,
): Promise<never> {
  if (taken) await real.commit(change, ANY_TIME);
  throw unavailable();
}
