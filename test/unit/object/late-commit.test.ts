/** Writes that were held up: recovery took them for forgotten, or nobody said that their commit was taken. */
import { describe, expect, it } from "vitest";
import type { BlobStore, BlobWriter } from "../../../src/blob/blob-store.ts";
import { StoreError } from "../../../src/domain/errors.ts";
import type { NodeName } from "../../../src/domain/ids.ts";
import type { StrategyChoice } from "../../../src/domain/manifest.ts";
import type { MetadataStore } from "../../../src/metadata/metadata-store.ts";
import { deleteObject } from "../../../src/object/delete.ts";
import { putObject } from "../../../src/object/put.ts";
import { NO_PRECONDITIONS } from "../../../src/object/requests.ts";
import { UNKNOWN, documentOf, expectQuiet, openHeldUp, patch } from "../../support/held-up-writes.ts";
import { settle } from "../../support/manual-clock.ts";
import type { MemoryStore } from "../../support/memory-store.ts";
import { ANY_TIME, STRAGGLER_MS, openMemoryStore } from "../../support/memory-store.ts";
import { BUCKET, keyOf, noise, putRequest } from "../../support/store.ts";

const CONTENTS = [
  ["packed copies", "replication", noise(5_000, 1)],
  ["packed shards", "ec", noise(100_000, 1)],
  ["a split document", "field_hybrid", documentOf(1, 1)],
] as const satisfies [string, StrategyChoice, Buffer][];

type Commit = MetadataStore["commit"];

describe("finishWrite() of a write that recovery has completed", () => {
  for (const [name, strategy, bytes] of CONTENTS) {
    it(`answers that ${name} are stored, and frees what they replaced`, async () => {
      const { store, state } = openHeldUp((held) => held.recover({ writerDead: false }));
      await putObject(store.deps, putRequest("k", noise(6_000, 2), { strategy: "replication" }));
      state.armed = true;
      const receipt = await putObject(store.deps, putRequest("k", bytes, { strategy }));
      const stored = await store.realMetadata.get(BUCKET, keyOf("k"), ANY_TIME);
      expect(receipt).toMatchObject({ version: stored?.record.version, created: false, dirty: false, tolerance: 2 });
      expect((await store.read("k"))?.equals(bytes)).toBe(true);
      await expectQuiet(store);
    });
  }

  it("tells in its receipt what the record names, and keeps just that", async () => {
    const arrival = Promise.withResolvers<void>();
    // Recovery sees five blobs; the sixth arrives later and nobody counts on it.
    const { store, state } = openHeldUp(
      (held) => held.recover({ writerDead: false }),
      (real) =>
        real.node === "n2"
          ? { put: async (blob, deadline) => await arrival.promise.then(() => real.put(blob, deadline)) }
          : {},
    );
    state.armed = true;
    const putting = putObject(store.deps, putRequest("k", noise(100_000), { strategy: "ec" }));
    putting.catch(() => {});
    for (let turn = 0; turn < 1_000 && state.armed; turn += 1) {
      store.clock.advance(STRAGGLER_MS / 4);
      await settle();
    }
    const receipt = await putting;
    expect(receipt).toMatchObject({ blobsDurable: 5, tolerance: 1, dirty: true, created: true });
    expect(receipt.nodes).not.toContain("n2");
    arrival.resolve();
    await expectQuiet(store);
  });

  it("keeps a blob in doubt that recovery has found", async () => {
    const doubtful = "n2" as NodeName;
    const { store, state } = openHeldUp(
      (held) => {
        // The node answers again.
        held.deps.membership.report(doubtful, "live");
        return held.recover({ writerDead: false });
      },
      (real) =>
        real.node === doubtful
          ? {
              async put(blob, deadline) {
                await real.put(blob, deadline);
                throw new StoreError("deadline_exceeded", "No answer", { retriable: true });
              },
            }
          : {},
    );
    state.armed = true;
    const receipt = await putObject(store.deps, putRequest("k", noise(100_000), { strategy: "ec" }));
    expect(receipt).toMatchObject({ blobsDurable: 6, dirty: false });
    await expectQuiet(store);
    expect((await store.read("k"))?.equals(noise(100_000))).toBe(true);
  });

  it("leaves alone what was patched since: its blobs live on in a version that is not its own", async () => {
    const { store, state } = openHeldUp(async (held) => {
      await held.recover({ writerDead: false });
      await patch(held, '{"battery": 50}');
    });
    state.armed = true;
    const receipt = await putObject(store.deps, putRequest("k", documentOf(1, 1), { strategy: "field_hybrid" }));
    expect(receipt).toMatchObject({ created: true, strategy: "field_hybrid" });
    expect(JSON.parse(String(await store.read("k")))).toMatchObject({ battery: 50, cold: 1 });
    await expectQuiet(store);
  });
});

describe("finishWrite() of a write that recovery has completed and somebody has patched", () => {
  it("frees what it stored beside the blobs that the records named", async () => {
    const hot = (letter: string) => `{"battery": "${letter.repeat(15_000)}", "seen": "${letter.repeat(15_000)}"`;
    const bytes = Buffer.from(`${hot("a")}, "pad": "${"x".repeat(300_000)}"}`);
    const arrival = Promise.withResolvers<void>();
    let slow: NodeName | null = null;
    const { store, state } = openHeldUp(
      async (held) => {
        slow = null;
        await held.recover({ writerDead: false });
        await patch(held, `${hot("b")}}`);
      },
      (real) => ({
        // The first hot blob is slow; a spare takes its place, and then there are two of it.
        async put(blob, deadline) {
          if (state.armed && blob.id.endsWith(".hot.0")) slow ??= real.node;
          if (slow === real.node && blob.id.endsWith(".hot.0")) await arrival.promise;
          await real.put(blob, deadline);
        },
      }),
    );
    state.armed = true;
    const putting = putObject(store.deps, putRequest("k", bytes, { strategy: "field_hybrid" }));
    putting.catch(() => {});
    for (let turn = 0; turn < 1_000 && state.armed; turn += 1) {
      store.clock.advance(STRAGGLER_MS / 4);
      await settle();
    }
    expect(await putting).toMatchObject({ created: true });
    arrival.resolve();
    expect(String(await store.read("k")).startsWith(hot("b"))).toBe(true);
    await expectQuiet(store);
  });
});

describe("finishWrite() of a write that recovery has completed and somebody has replaced", () => {
  for (const [name, strategy, bytes] of CONTENTS) {
    it(`gives ${name} up, leaves them to their readers for a while, and frees what they had replaced`, async () => {
      let completed: string[] = [];
      const { store, state } = openHeldUp(async (held) => {
        await held.recoverOneRound();
        completed = await held.namedBlobs();
        await putObject(held.deps, putRequest("k", noise(7_000, 3), { strategy: "replication" }));
        expect(await held.namedBlobs()).not.toEqual(completed);
      });
      await putObject(store.deps, putRequest("k", noise(6_000, 2), { strategy: "replication" }));
      state.armed = true;
      const putting = putObject(store.deps, putRequest("k", bytes, { strategy }));
      // It was stored for a while.
      await expect(putting).rejects.toMatchObject(UNKNOWN);
      expect(await store.blobs()).toEqual(expect.arrayContaining(completed));
      await expectQuiet(store);
      expect((await store.read("k"))?.equals(noise(7_000, 3))).toBe(true);
    });
  }
});

describe("putObject() of a hot update that was held up and overtaken", () => {
  it("keeps the hot blobs of its next attempt, whatever is cleaned up behind the first", async () => {
    const largeDocument = (letter: string) => {
      const hot = letter.repeat(15_000);
      return Buffer.from(`{"battery": "${hot}", "seen": "${hot}", "pad": "${"x".repeat(300_000)}"}`);
    };
    const { store, state } = openHeldUp(async (held) => {
      held.clock.advance(4_000);
      await patch(held, '{"battery": 1}');
    });
    await putObject(store.deps, putRequest("k", largeDocument("a"), { strategy: "field_hybrid" }));
    state.armed = true;
    const put = putObject(store.deps, putRequest("k", largeDocument("b"), { strategy: "field_hybrid" }));
    expect(await put, "no cold byte is sent").toMatchObject({ nodeBytesWritten: 90_012, dirty: false });
    await expectQuiet(store);
    expect((await store.read("k"))?.equals(largeDocument("b"))).toBe(true);
  });
});

describe("a commit that was taken though nobody said so", () => {
  /** The metadata store tries again by itself, and meets its own first try. */
  function openRepeating(): MemoryStore {
    return openMemoryStore({
      metadata: (real) => {
        const commit: Commit = async (change, deadline) => {
          await real.commit(change, deadline);
          return await real.commit(change, deadline);
        };
        return { commit };
      },
    });
  }

  it("is what putObject(), patch() and deleteObject() answer with, once", async () => {
    const store = openRepeating();
    const inline = await putObject(store.deps, putRequest("k", noise(100)));
    expect(inline).toMatchObject({ strategy: "inline", created: true });
    const other = await putObject(store.deps, putRequest("k", documentOf(1, 1), { strategy: "field_hybrid" }));
    expect(other).toMatchObject({ created: false });
    const patched = await patch(store, '{"battery": 7}');
    const stored = await store.realMetadata.get(BUCKET, keyOf("k"), ANY_TIME);
    expect(stored).toMatchObject({ revision: 3, record: { version: patched.version } });
    const request = { bucket: BUCKET, key: keyOf("k"), preconditions: NO_PRECONDITIONS };
    expect(await deleteObject(store.deps, request)).toEqual({ existed: true });
    expect((await store.realMetadata.get(BUCKET, keyOf("k"), ANY_TIME))?.revision).toBe(4);
  });
});

describe("finishWrite() that fails late", () => {
  /** Blobs are stored and nobody says so, until the wait for a node is over. */
  function openMute() {
    const state = { isMute: false };
    const real = new Map<NodeName, BlobStore>();
    const { store, state: commits } = openHeldUp(
      async () => {},
      (node) => {
        real.set(node.node, node);
        const mute = async (work: Promise<void>): Promise<void> => {
          await work;
          if (!state.isMute) return;
          await store.clock.sleep(10_000);
          throw new StoreError("deadline_exceeded", "No answer", { retriable: true });
        };
        return {
          put: (blob, deadline) => mute(node.put(blob, deadline)),
          async openWriter(id, waitMs): Promise<BlobWriter> {
            const writer = await node.openWriter(id, waitMs);
            return { ...writer, seal: (descriptor) => mute(writer.seal(descriptor)) };
          },
        };
      },
    );
    const fail = async (meanwhile: () => Promise<unknown>, told: object = { code: "quorum_unavailable" }) => {
      state.isMute = true;
      commits.commits = 0;
      const putting = putObject(store.deps, putRequest("k", noise(100_000, 3), { strategy: "ec" }));
      putting.catch(() => {});
      for (let turn = 0; turn < 10; turn += 1) await settle();
      await meanwhile();
      store.clock.advance(10_000);
      await expect(putting).rejects.toMatchObject(told);
      for (const { name } of store.deps.membership.snapshot()) store.deps.membership.report(name, "live");
      state.isMute = false;
    };
    return { store, commits, fail };
  }

  for (const exists of [true, false]) {
    const key = exists ? "a version" : "no version";
    it(`fences itself before it removes its blobs, over ${key}`, async () => {
      const { store, commits, fail } = openMute();
      if (exists) await putObject(store.deps, putRequest("k", noise(5_000, 1), { strategy: "replication" }));
      await fail(async () => {});
      expect(commits.commits).toBe(1);
      const stored = await store.realMetadata.get(BUCKET, keyOf("k"), ANY_TIME);
      expect(stored?.record.fencedTxids).toHaveLength(1);
      expect((await store.read("k"))?.equals(noise(5_000, 1)) ?? null).toBe(exists ? true : null);
      await expectQuiet(store);
      await putObject(store.deps, putRequest("k", noise(100_000, 4), { strategy: "ec" }));
      expect((await store.read("k"))?.equals(noise(100_000, 4))).toBe(true);
    });
  }

  it("removes nothing when recovery has completed the write meanwhile", async () => {
    const { store, fail } = openMute();
    await putObject(store.deps, putRequest("k", noise(5_000, 1), { strategy: "replication" }));
    await fail(async () => {
      expect(await store.recover({ writerDead: false })).toMatchObject({ resurrected: 1 });
    }, UNKNOWN);
    expect((await store.read("k"))?.equals(noise(100_000, 3))).toBe(true);
    await store.recover();
    await expectQuiet(store);
    expect((await store.read("k"))?.equals(noise(100_000, 3))).toBe(true);
  });

  it("leaves its blobs to recovery when the log cannot say whether it took a second intent", async () => {
    const state = { armed: false };
    const store: MemoryStore = openMemoryStore({
      wal: (real) => ({
        async append(intent, deadline) {
          const sequence = await real.append(intent, deadline);
          if (state.armed && intent.replaces.length > 0) throw new StoreError("wal_unavailable", "No answer");
          return sequence;
        },
      }),
      metadata: (real) => ({
        async commit(change, deadline) {
          if (!state.armed) {
            await putObject({ ...store.deps, metadata: real }, putRequest("k", noise(6_000, 2)));
            state.armed = true;
          }
          return await real.commit(change, deadline);
        },
      }),
    });
    const put = putObject(store.deps, putRequest("k", noise(100_000), { strategy: "ec" }));
    await expect(put).rejects.toMatchObject(UNKNOWN);
    expect(store.deps.active.size).toBe(0);
    // The second intent may be durable: whoever finds it finds all of its blobs.
    expect(await store.recover({ writerDead: false })).toMatchObject({ resurrected: 1 });
    expect((await store.read("k"))?.equals(noise(100_000))).toBe(true);
    await expectQuiet(store);
  });

  it("fences itself although it fails at once, when recovery could complete what it stored", async () => {
    let deletes = 0;
    let recovered: Promise<object> | null = null;
    const store: MemoryStore = openMemoryStore({
      node: (real) => ({
        put: (blob, deadline) =>
          real.node === "n3" && recovered === null
            ? Promise.reject(new StoreError("node_unavailable", "away"))
            : real.put(blob, deadline),
        async delete(ids, deadline) {
          // It is stopped right before its five deletes, and recovery finds a quorum.
          deletes += 1;
          if (deletes <= 5) await (recovered ??= store.recover({ writerDead: false }));
          return await real.delete(ids, deadline);
        },
      }),
    });
    await putObject(store.deps, putRequest("k", noise(100)));
    const put = putObject(store.deps, putRequest("k", noise(100_000), { strategy: "ec", consistency: "all" }));
    await expect(put).rejects.toMatchObject({ code: "quorum_unavailable" });
    expect(await recovered).toMatchObject({ resurrected: 0, rolledBack: 1 });
    expect(await store.read("k")).toHaveLength(100);
    await expectQuiet(store);
  });

  it("costs no commit when it fails at once", async () => {
    const state = { commits: 0 };
    const store = openMemoryStore({
      metadata: (real) => ({
        commit(change, deadline) {
          state.commits += 1;
          return real.commit(change, deadline);
        },
      }),
      node: (real) =>
        real.node < "n3" ? { put: () => Promise.reject(new StoreError("node_unavailable", "away")) } : {},
    });
    const put = putObject(store.deps, putRequest("k", noise(100_000), { strategy: "ec" }));
    await expect(put).rejects.toMatchObject({ code: "quorum_unavailable" });
    expect(state.commits).toBe(0);
    await expectQuiet(store);
  });
});
