import fc from "fast-check";
import { Registry } from "prom-client";
import { describe, expect, test } from "vitest";
import type { BlobStore } from "../../../src/blob/blob-store.ts";
import type { NodeName, Txid } from "../../../src/domain/ids.ts";
import type { BlobSet, StrategyChoice } from "../../../src/domain/manifest.ts";
import { KIB, MIB } from "../../../src/lib/bytes.ts";
import { ContentCache } from "../../../src/object/content-cache.ts";
import { registerCacheMetrics } from "../../../src/object/metrics.ts";
import { readFields } from "../../../src/object/fields.ts";
import { getObject } from "../../../src/object/get.ts";
import { ObjectPatcher } from "../../../src/object/patch.ts";
import { putObject } from "../../../src/object/put.ts";
import type { RangeRequest } from "../../../src/object/requests.ts";
import { NO_PRECONDITIONS } from "../../../src/object/requests.ts";
import { ManualClock, settle } from "../../support/manual-clock.ts";
import type { MemoryStoreOptions } from "../../support/memory-store.ts";
import { openMemoryStore } from "../../support/memory-store.ts";
import { bytesOf, getRequest, noise, putRequest } from "../../support/store.ts";

const SETTINGS = { bytesMax: 8 * MIB, entryBytesMax: MIB, ttlMs: 60_000 };

function setOf(name: string, sizeBytes: number): BlobSet {
  const redundancy = { scheme: "replication", copies: 3 } as const;
  const nodes = ["n1", "n2", "n3"] as NodeName[];
  return { txid: name as Txid, part: "body", sizeBytes, cellBytes: MIB, redundancy, nodes };
}

describe("ContentCache", () => {
  test("find() gives what was kept under the name of the set, until its time is over", () => {
    const clock = new ManualClock();
    const cache = new ContentCache(clock, SETTINGS);
    const bytes = noise(100);
    cache.keep(setOf("A", 100), bytes);
    expect(cache.find(setOf("A", 100))).toBe(bytes);
    expect(cache.find({ ...setOf("A", 100), part: "cold" })).toBeNull();
    expect(cache.find(setOf("B", 100))).toBeNull();
    clock.advance(SETTINGS.ttlMs);
    expect(cache.find(setOf("A", 100))).not.toBeNull();
    clock.advance(1);
    expect(cache.find(setOf("A", 100))).toBeNull();
    expect(cache.figures()).toMatchObject({ hits: 2, misses: 3, hitRate: 0.4, evictions: 0, entries: 0, bytes: 0 });
  });

  test("admits() nothing where it is switched off, nothing empty and nothing too large", () => {
    const off = new ContentCache(new ManualClock(), { ...SETTINGS, bytesMax: 0 });
    expect(off.admits(setOf("A", 1))).toBe(false);
    expect(off.figures()).toMatchObject({ hits: 0, misses: 0, hitRate: null, entries: 0, bytes: 0, bytesMax: 0 });
    const cache = new ContentCache(new ManualClock(), SETTINGS);
    expect([0, 1, MIB, MIB + 1].map((size) => cache.admits(setOf("A", size)))).toEqual([false, true, true, false]);
    const tiny = new ContentCache(new ManualClock(), { ...SETTINGS, bytesMax: 1_000 });
    expect([100, 1_000].map((size) => tiny.admits(setOf("A", size)))).toEqual([true, false]);
  });

  test("never takes more than its bytes, however many or few they are, and lets go of what was not used for longest", () => {
    const sizes = fc.array(fc.tuple(fc.integer({ min: 0, max: 30 }), fc.integer({ min: 1, max: 3_000 })));
    fc.assert(
      fc.property(sizes, (entries) => {
        const cache = new ContentCache(new ManualClock(), { ...SETTINGS, bytesMax: 8_000, entryBytesMax: 2_000 });
        for (const [name, size] of entries) {
          const set = setOf(`${name}-${size}`, size);
          if (cache.admits(set)) cache.keep(set, noise(size));
          expect(cache.figures().bytes).toBeLessThanOrEqual(8_000);
        }
      }),
    );
    const cache = new ContentCache(new ManualClock(), { ...SETTINGS, bytesMax: 4_000 });
    for (const name of ["A", "B"]) cache.keep(setOf(name, 1_000), noise(1_000));
    cache.find(setOf("A", 1_000));
    cache.keep(setOf("C", 1_000), noise(1_000));
    expect(["A", "B", "C"].map((name) => cache.find(setOf(name, 1_000)) !== null)).toEqual([true, false, true]);
    expect(cache.figures()).toMatchObject({ evictions: 1, entries: 2 });
  });

  test("readThrough() lets one read for all who want the same at the same time", async () => {
    const cache = new ContentCache(new ManualClock(), SETTINGS);
    const set = setOf("A", 100);
    const { promise, resolve } = Promise.withResolvers<Uint8Array>();
    let reads = 0;
    const read = async () => {
      reads += 1;
      return await promise;
    };
    const waiting = Array.from({ length: 5 }, () => cache.readThrough(set, read));
    const other = cache.readThrough(setOf("B", 7), () => Promise.resolve(noise(7, 2)));
    expect(await other).toEqual(noise(7, 2));
    resolve(noise(100));
    for (const bytes of await Promise.all(waiting)) expect(bytes?.length).toBe(100);
    expect(await cache.readThrough(set, read)).not.toBeNull();
    expect(reads).toBe(1);
    expect(cache.figures()).toMatchObject({ hits: 5, misses: 2 });
  });

  test("readThrough() sends the others to read for themselves when the one that reads for all fails", async () => {
    const cache = new ContentCache(new ManualClock(), SETTINGS);
    const set = setOf("A", 100);
    const { promise, reject } = Promise.withResolvers<Uint8Array>();
    const leader = cache.readThrough(set, () => promise);
    const follower = cache.readThrough(set, () => Promise.reject(new Error("reads by itself")));
    reject(new Error("no node answered"));
    await expect(leader).rejects.toThrow("no node answered");
    expect(await follower).toBeNull();
    expect(await cache.readThrough(set, () => Promise.resolve(noise(100)))).not.toBeNull();
  });

  test("readThrough() reads only so much at the same time, and always something", async () => {
    const cache = new ContentCache(new ManualClock(), { ...SETTINGS, bytesMax: 4 * MIB });
    const { promise, resolve } = Promise.withResolvers<Uint8Array>();
    const first = cache.readThrough(setOf("A", MIB), () => promise);
    expect(await cache.readThrough(setOf("B", MIB), () => Promise.reject(new Error("not asked")))).toBeNull();
    resolve(noise(MIB));
    await first;
    expect(await cache.readThrough(setOf("B", MIB), () => Promise.resolve(noise(MIB)))).not.toBeNull();
  });
});

describe("registerCacheMetrics()", () => {
  test("shows what the cache has counted, at every scrape anew", async () => {
    const registry = new Registry();
    const cache = new ContentCache(new ManualClock(), SETTINGS);
    registerCacheMetrics(registry, cache);
    cache.keep(setOf("A", 100), noise(100));
    for (const name of ["A", "A", "B"]) cache.find(setOf(name, 100));
    await registry.metrics();
    const text = await registry.metrics();
    expect(text).toMatch(/^kintsugi_cache_hits_total 2$/m);
    expect(text).toMatch(/^kintsugi_cache_misses_total 1$/m);
    expect(text).toMatch(/^kintsugi_cache_evictions_total 0$/m);
    expect(text).toMatch(/^kintsugi_cache_entries 1$/m);
    expect(text).toMatch(new RegExp(`^kintsugi_cache_bytes ${cache.figures().bytes}$`, "m"));
  });
});

/** A store with a cache that counts the cells which its nodes are asked for, and may give bad ones. */
function openCachedStore(options: Pick<MemoryStoreOptions, "cache" | "metadata"> = {}) {
  const asked = { cells: 0, isDamaged: (_node: NodeName) => false };
  const readCells = (real: BlobStore): BlobStore["readCells"] => {
    return async (id, first, count, deadline, into) => {
      asked.cells += 1;
      const cells = await real.readCells(id, first, count, deadline, into);
      if (asked.isDamaged(real.node)) for (const { payload } of cells) payload[0] = (payload[0] as number) ^ 1;
      return cells;
    };
  };
  const store = openMemoryStore({ cache: SETTINGS, ...options, node: (real) => ({ readCells: readCells(real) }) });
  const { deps } = store;
  return {
    ...{ store, deps, asked },
    put: (key: string, bytes: Uint8Array, strategy: StrategyChoice) =>
      putObject(deps, putRequest(key, bytes, { strategy })),
    read: async (key: string, range: RangeRequest | null = null) =>
      await bytesOf(await getObject(deps, { ...getRequest(key), range })),
    /** Another gateway of the same store. */
    neighbour: () => ({ ...deps, cache: new ContentCache(deps.clock, SETTINGS) }),
  };
}

const document = (cold: string) => Buffer.from(JSON.stringify({ battery: 80, bulk: "x".repeat(20_000), cold }));

describe("object paths with a cache", () => {
  const written = [
    ["copies", "replication", noise(5_000)],
    ["packed shards", "ec", noise(150_001)],
    ["the cold part of a document", "field_hybrid", document("a")],
  ] as const satisfies [string, StrategyChoice, Uint8Array][];
  for (const [name, strategy, bytes] of written) {
    test(`read ${name} that was just written without asking a node`, async () => {
      const { put, read, asked } = openCachedStore();
      await put("k", bytes, strategy);
      expect((await read("k")).equals(bytes)).toBe(true);
      expect((await read("k", { first: 10, last: 4_999 })).equals(bytes.subarray(10, 5_000))).toBe(true);
      expect(asked.cells).toBe(0);
    });
  }

  const large = [
    ["copies", "replication", noise(900_000)],
    ["shards", "ec", noise(900_000)],
  ] as const satisfies [string, StrategyChoice, Uint8Array][];
  for (const [name, strategy, bytes] of large) {
    test(`read streamed ${name} once from the nodes, and then the whole and any range of it from memory`, async () => {
      const { put, read, asked, deps } = openCachedStore();
      await put("k", bytes, strategy);
      expect((await read("k")).equals(bytes)).toBe(true);
      const { cells } = asked;
      expect(cells).toBeGreaterThan(0);
      expect((await read("k")).equals(bytes)).toBe(true);
      expect((await read("k", { suffixBytes: 9 })).equals(bytes.subarray(-9))).toBe(true);
      expect((await read("k", { first: 0, last: 0 })).equals(bytes.subarray(0, 1))).toBe(true);
      expect(asked.cells).toBe(cells);
      expect(deps.cache.figures()).toMatchObject({ hits: 3, misses: 1, entries: 1 });
      expect(deps.memory.used).toBe(0);
    });
  }

  test("keep nothing of what is too large, nor of a range of what is not in memory", async () => {
    const { put, read, deps } = openCachedStore();
    await put("large", noise(MIB + 1), "ec");
    await put("shards", noise(MIB), "ec");
    await read("large");
    await read("shards", { first: 0, last: MIB - 2 });
    expect(deps.cache.figures()).toMatchObject({ hits: 0, misses: 1, entries: 0 });
  });

  test("read once for all who want the same content at the same time", async () => {
    const { put, read, asked, deps } = openCachedStore();
    const bytes = noise(900_000);
    await put("k", bytes, "ec");
    const all = await Promise.all(Array.from({ length: 8 }, () => read("k")));
    expect(all.every((body) => body.equals(bytes))).toBe(true);
    expect(asked.cells).toBe(4);
    expect(deps.memory.used).toBe(0);
  });

  for (const [name, strategy, bytes] of [...large, ...written.slice(0, 2)]) {
    test(`let no damaged byte of ${name} (${bytes.length} bytes) in, however many nodes give some`, async () => {
      const { put, read, asked, neighbour } = openCachedStore();
      const { nodes } = await put("k", bytes, strategy);
      const other = neighbour();
      const readThere = async () => await bytesOf(await getObject(other, getRequest("k")));
      asked.isDamaged = () => true;
      await expect(readThere()).rejects.toMatchObject({ code: "object_damaged" });
      expect(other.cache.figures().entries).toBe(0);
      asked.isDamaged = (node) => node === nodes[0];
      expect((await readThere()).equals(bytes)).toBe(true);
      asked.isDamaged = () => true;
      expect((await readThere()).equals(bytes)).toBe(true);
      expect(other.cache.figures()).toMatchObject({ entries: 1, hits: 1 });
      expect(bytes.length > 200 * KIB || (await read("k")).equals(bytes)).toBe(true);
    });
  }

  test("own what they keep: neither the writer's memory nor a reader's matters afterwards", async () => {
    const { put, read } = openCachedStore();
    const bytes = noise(5_000);
    const sent = Buffer.from(bytes);
    await put("k", sent, "replication");
    sent.fill(0);
    (await read("k")).fill(1);
    expect((await read("k")).equals(bytes)).toBe(true);
  });

  test("keep nothing of a write that was not committed", async () => {
    const refuse = () => Promise.resolve({ ok: false as const, current: null });
    const { put, deps } = openCachedStore({ metadata: () => ({ commit: refuse }) });
    await expect(put("k", noise(5_000), "replication")).rejects.toMatchObject({ code: expect.any(String) as string });
    expect(deps.cache.figures().entries).toBe(0);
  });

  test("share the cold part of a document with its hot updates, and project cold fields from it", async () => {
    const { put, read, asked, deps } = openCachedStore();
    await put("k", document("a"), "field_hybrid");
    const address = { bucket: putRequest("k", noise(1)).bucket, key: putRequest("k", noise(1)).key };
    const rest = { consistency: null, preconditions: NO_PRECONDITIONS };
    await new ObjectPatcher(deps).patch({ ...address, ...rest, patch: Buffer.from('{"battery":7}') });
    expect(JSON.parse((await read("k")).toString())).toMatchObject({ battery: 7, cold: "a" });
    const fields = await readFields(deps, { ...address, fields: ["cold"], preconditions: NO_PRECONDITIONS });
    expect(fields.outcome === "found" && Buffer.from(fields.json).toString()).toBe('{"cold":"a"}');
    expect(asked.cells).toBe(0);
  });

  test("answer 503 rather than hold more for slow readers than the process may, and give all of it back", async () => {
    const { put, deps, store } = openCachedStore();
    await put("k", noise(900_000), "ec");
    await store.read("k");
    const open = async () => {
      const result = await getObject(deps, getRequest("k"));
      if (result.outcome !== "found" || result.body.kind !== "stream") throw new Error("expected a stream");
      return result.body.chunks[Symbol.asyncIterator]();
    };
    const readers = await Promise.all(Array.from({ length: Math.floor((64 * MIB) / 900_000) }, open));
    const oneMore = open();
    const refused = expect(oneMore).rejects.toMatchObject({ code: "overloaded" });
    await settle();
    store.clock.advance(1_000);
    await refused;
    for (const reader of readers) await reader.return?.();
    expect(deps.memory.used).toBe(0);
  });
});
