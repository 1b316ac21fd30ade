import { Registry } from "prom-client";
import { describe, expect, it } from "vitest";
import { encodeDescriptor } from "../../../src/domain/blob.ts";
import type { BlobId, NodeName, Txid, VersionId } from "../../../src/domain/ids.ts";
import { REVISION_NONE, blobIdOf } from "../../../src/domain/ids.ts";
import type { Intent } from "../../../src/domain/intent.ts";
import { blobSetsOf, placedBlobsOf } from "../../../src/domain/manifest.ts";
import type { StoredRecord } from "../../../src/domain/record.ts";
import type { Leadership } from "../../../src/healer/leadership.ts";
import { createHealerMetrics } from "../../../src/healer/metrics.ts";
import type { RecoveryDeps } from "../../../src/healer/recovery-loop.ts";
import { startRecovery } from "../../../src/healer/recovery-loop.ts";
import { healerStatus } from "../../../src/healer/status.ts";
import { LIMITS } from "../../../src/limits.ts";
import { ActiveWrites } from "../../../src/object/active-writes.ts";
import { putObject } from "../../../src/object/put.ts";
import { blobSetName } from "../../../src/object/read-pins.ts";
import { settle } from "../../support/manual-clock.ts";
import type { MemoryStore } from "../../support/memory-store.ts";
import { ANY_TIME, openMemoryStore, override } from "../../support/memory-store.ts";
import { sampleIntent, sampleRecord } from "../../support/sample-records.ts";
import { BUCKET, keyOf, noise, putRequest } from "../../support/store.ts";

const KEY = keyOf("k");
/** The intents of a memory log are ever new. */
const BOUNDS = { writerGoneMs: 0, lookAgainMs: 20_000, releaseMs: 10_000 };

function recoveryDeps(store: MemoryStore, more: Partial<RecoveryDeps> = {}): RecoveryDeps {
  const { deps, realMetadata: metadata } = store;
  return { ...deps, metadata, active: new ActiveWrites(), waitMs: 1_000, ...more };
}

async function pass(store: MemoryStore, ms: number): Promise<void> {
  for (let left = ms; left >= 0; left -= 1_000) {
    store.clock.advance(Math.min(1_000, left));
    for (let turn = 0; turn < 5; turn += 1) await settle();
  }
}

/** An intent of a gateway that nobody knows. */
async function append(store: MemoryStore, changes: Partial<Intent> = {}): Promise<Intent> {
  const intent = sampleIntent(1, { bucket: BUCKET, key: KEY, writer: "g1", ...changes });
  await store.deps.wal.append(intent, ANY_TIME);
  return intent;
}

/** A write that sealed one blob of two and was not heard of again. */
async function leaveBlob(store: MemoryStore, changes: Partial<Intent> = {}): Promise<Intent> {
  const intent = await append(store, changes);
  const id = blobIdOf(intent.txid, "body", 0);
  const descriptor = encodeDescriptor({ record: sampleRecord("k"), revisionSeen: REVISION_NONE });
  await store.deps.nodes.get("n1" as NodeName)?.put({ id, descriptor, cells: [] }, ANY_TIME);
  return intent;
}

/** A write that committed and was not heard of again: the blobs of the version before are still there. */
async function leaveReplaced(store: MemoryStore): Promise<{ readonly blobs: readonly string[] }> {
  await putObject(store.deps, putRequest("k", noise(5_000), { strategy: "replication" }));
  await settle();
  const before = (await store.realMetadata.get(BUCKET, KEY, ANY_TIME)) as StoredRecord;
  const blobs = await store.blobs();
  const replaces = blobSetsOf(before.record.manifest).flatMap(placedBlobsOf);
  const { txid } = await append(store, { planned: [], replaces, revisionSeen: before.revision });
  const record = sampleRecord("k", { bucket: BUCKET, version: txid as string as VersionId });
  await store.realMetadata.commit({ record, ifRevision: before.revision }, ANY_TIME);
  return { blobs };
}

async function fencesOn(store: MemoryStore): Promise<readonly Txid[] | null> {
  return (await store.realMetadata.get(BUCKET, KEY, ANY_TIME))?.record.fencedTxids ?? null;
}

describe("startRecovery() of a leader", () => {
  it("fences what a writer left that is not there, and settles it after a second look", async () => {
    const store = openMemoryStore();
    const { txid } = await append(store);
    await using recovery = startRecovery(recoveryDeps(store), {
      kind: "leading",
      grant: { isHeld: () => true },
      bounds: BOUNDS,
    });
    await pass(store, 0);
    expect(await fencesOn(store)).toEqual([txid]);
    await pass(store, 19_000);
    expect(await store.openIntents()).toHaveLength(1);
    await pass(store, 3_000);
    expect(await store.openIntents()).toEqual([]);
    expect(recovery.status().counts).toEqual({ finished: 0, resurrected: 0, rolledBack: 1, left: 0 });
  });

  it("settles more writes of one key than its record remembers fences", async () => {
    const store = openMemoryStore();
    const count = LIMITS.fencedTxidsMax + 4;
    for (let n = 1; n <= count; n += 1) await leaveBlob(store, sampleIntent(n, { bucket: BUCKET, key: KEY }));
    await using recovery = startRecovery(recoveryDeps(store), {
      kind: "leading",
      grant: { isHeld: () => true },
      bounds: BOUNDS,
    });
    await pass(store, 60_000);
    expect([await store.openIntents(), await store.blobs()]).toEqual([[], []]);
    expect(recovery.status().counts).toMatchObject({ rolledBack: count });
    const stored = await store.realMetadata.get(BUCKET, KEY, ANY_TIME);
    expect(stored?.record.fencesForgotten, "each was fenced once").toBe(count - LIMITS.fencedTxidsMax);
  });

  for (const step of ["describe", "get", "commit", "delete", "readOpen"] as const) {
    it(`changes nothing more when its lease is lost during ${step}`, async () => {
      const effects: string[] = [];
      let held = true;
      const during = <T>(name: string, work: Promise<T>): Promise<T> => {
        if (["commit", "delete", "append", "settle"].includes(name) && !held) effects.push(name);
        return work.finally(() => {
          if (name === step) held = false;
        });
      };
      const store = openMemoryStore({
        node: (real) => ({
          describe: (id, deadline) => during("describe", real.describe(id, deadline)),
          delete: (ids, deadline) => during("delete", real.delete(ids, deadline)),
        }),
      });
      const { txid } = await leaveBlob(store);
      const { realMetadata } = store;
      const { wal } = store.deps;
      let reads = 0;
      const deps = recoveryDeps(store, {
        metadata: override(realMetadata, {
          get: (bucket, key, deadline) => during("get", realMetadata.get(bucket, key, deadline)),
          commit: (change, deadline) => during("commit", realMetadata.commit(change, deadline)),
        }),
        wal: override(wal, {
          append: (intent, deadline) => during("append", wal.append(intent, deadline)),
          settle: (txids, deadline) => during("settle", wal.settle(txids, deadline)),
          // The second of a round comes right before it settles.
          readOpen: (after, limit, deadline) =>
            during((reads += 1) === 2 ? "readOpen" : "first read", wal.readOpen(after, limit, deadline)),
        }),
      });
      const bounds = { ...BOUNDS, lookAgainMs: 0 };
      await using _ = startRecovery(deps, { kind: "leading", grant: { isHeld: () => held }, bounds });
      await pass(store, 5_000);
      expect([held, effects]).toEqual([false, []]);
      expect((await store.openIntents()).map((intent) => intent.txid)).toEqual([txid]);
    });
  }

  it("leaves to readers of other processes what they stream from", async () => {
    const store = openMemoryStore();
    const { blobs } = await leaveReplaced(store);
    const pinned = new Set([blobSetName(blobs[0] as BlobId)]);
    const deps = recoveryDeps(store, { remotePins: { isPinned: (name) => pinned.has(name) } });
    await using _ = startRecovery(deps, { kind: "leading", grant: { isHeld: () => true }, bounds: BOUNDS });
    await pass(store, 30_000);
    expect(await store.blobs()).toEqual(blobs);
    pinned.clear();
    await pass(store, 10_000);
    expect(await store.blobs()).toEqual([]);
    expect(await store.openIntents()).toEqual([]);
  });

  it("keeps what was replaced for readers that are about to begin", async () => {
    const store = openMemoryStore();
    const { blobs } = await leaveReplaced(store);
    await using _ = startRecovery(recoveryDeps(store), {
      kind: "leading",
      grant: { isHeld: () => true },
      bounds: BOUNDS,
    });
    await pass(store, 9_000);
    expect(await store.blobs()).toEqual(blobs);
    await pass(store, 3_000);
    expect(await store.blobs()).toEqual([]);
  });

  it("trims the log now and then", async () => {
    const store = openMemoryStore();
    let trims = 0;
    const wal = Object.assign(override(store.deps.wal, {}), { trim: async () => void (trims += 1) });
    await using _ = startRecovery(recoveryDeps(store, { wal }), { kind: "leading", grant: { isHeld: () => true } });
    await pass(store, 9_000);
    expect(trims).toBe(0);
    await pass(store, 23_000);
    expect(trims).toBe(3);
  });

  it("shows what it does in the status and the metrics of its healer", async () => {
    const store = openMemoryStore();
    await append(store);
    const registry = new Registry();
    const healerMetrics = createHealerMetrics(registry, store.clock);
    const leadership: Leadership = {
      ...{ isLeading: () => true, sinceMs: () => 1, holder: () => "h1" },
      [Symbol.asyncDispose]: () => Promise.resolve(),
    };
    healerMetrics.beganTerm();
    await using recovery = startRecovery(recoveryDeps(store, { healerMetrics }), {
      kind: "leading",
      grant: { isHeld: () => true },
      bounds: BOUNDS,
    });
    const counts = { finished: 0, resurrected: 0, rolledBack: 0, left: 0 };
    const who = { leading: true, holder: "h1", sinceMs: 1 };
    expect(healerStatus(leadership, recovery.status())).toEqual({
      ...who,
      lastRoundAgoMs: null,
      openIntents: null,
      counts,
    });
    await pass(store, 2_000);
    const { lastRoundAgoMs, ...status } = healerStatus(leadership, recovery.status());
    expect(lastRoundAgoMs).toBeLessThan(2_000);
    expect(status).toEqual({ ...who, openIntents: 1, counts });
    const text = await registry.metrics();
    expect(text).toContain("kintsugi_healer_open_intents 1");
    expect(text).toContain("kintsugi_healer_leading_seconds 2");
    healerMetrics.endedTerm();
    expect(await registry.metrics()).toContain("kintsugi_healer_open_intents 0");
    expect(healerStatus({ ...leadership, isLeading: () => false }, recovery.status()).openIntents).toBeNull();
  });
});
