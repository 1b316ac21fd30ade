/**
 * Two gateways with a cache each serve the same store. Whatever they are told in whatever order: each reads what was
 * written last, by itself or by the other, byte for byte, and neither cache takes more than it may.
 */
import fc from "fast-check";
import { expect, test } from "vitest";
import type { StrategyChoice } from "../../src/domain/manifest.ts";
import { KIB } from "../../src/lib/bytes.ts";
import { ContentCache } from "../../src/object/content-cache.ts";
import { deleteObject } from "../../src/object/delete.ts";
import type { ObjectDeps } from "../../src/object/deps.ts";
import { getObject } from "../../src/object/get.ts";
import { ObjectPatcher } from "../../src/object/patch.ts";
import { putObject } from "../../src/object/put.ts";
import { NO_PRECONDITIONS } from "../../src/object/requests.ts";
import { openMemoryStore } from "../support/memory-store.ts";
import { BUCKET, bytesOf, getRequest, keyOf, noise, putRequest } from "../support/store.ts";

/** Room for a few objects only, so that much is pushed out; some are too large to be kept at all. */
const SETTINGS = { bytesMax: 600 * KIB, entryBytesMax: 400 * KIB, ttlMs: 30_000 };

const key = fc.constantFrom("a", "b", "c");
const gateway = fc.constantFrom(0, 1);
const content = fc.record({
  strategy: fc.constantFrom<StrategyChoice>("inline", "replication", "ec", "field_hybrid", "auto"),
  sizeBytes: fc.constantFrom(1, 700, 5_000, 65_536, 65_537, 100_000, 300_000, 420_000),
  seed: fc.integer({ min: 1, max: 1_000 }),
});
const step = fc.oneof(
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("put" as const), key, gateway, content }) },
  { weight: 6, arbitrary: fc.record({ kind: fc.constant("get" as const), key, gateway }) },
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constant("range" as const), key, gateway, from: fc.nat(), length: fc.nat() }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant("patch" as const),
      key,
      gateway,
      battery: fc.nat(100),
      isCold: fc.boolean(),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("delete" as const), key, gateway }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("pass" as const), ms: fc.constantFrom(1_000, 31_000) }) },
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

function bodyOf({ strategy, sizeBytes, seed }: { strategy: StrategyChoice; sizeBytes: number; seed: number }): Buffer {
  if (strategy === "inline") return noise(Math.min(sizeBytes, 4_096), seed);
  if (strategy !== "field_hybrid") return noise(sizeBytes, seed);
  const cold = noise(Math.ceil(sizeBytes / 2), seed).toString("hex");
  return Buffer.from(JSON.stringify({ battery: seed, cold, seen: `${seed}` }));
}

function openWorld() {
  const store = openMemoryStore();
  const gateways = [0, 1].map((): ObjectDeps & { readonly patcher?: ObjectPatcher } => ({
    ...store.deps,
    cache: new ContentCache(store.clock, SETTINGS),
  }));
  return {
    store,
    gateways,
    patchers: gateways.map((deps) => new ObjectPatcher(deps)),
    model: new Map<string, Buffer>(),
  };
}

async function run({ store, gateways, patchers, model }: ReturnType<typeof openWorld>, step: Step): Promise<void> {
  if (step.kind === "pass") return store.clock.advance(step.ms);
  const deps = gateways[step.gateway] as ObjectDeps;
  const address = { bucket: BUCKET, key: keyOf(step.key), preconditions: NO_PRECONDITIONS };
  const before = model.get(step.key) ?? null;
  switch (step.kind) {
    case "put": {
      const body = bodyOf(step.content);
      await putObject(deps, putRequest(step.key, body, { strategy: step.content.strategy }));
      model.set(step.key, body);
      return;
    }
    case "get": {
      const found = await getObject(deps, getRequest(step.key));
      expect(found.outcome === "found" ? (await bytesOf(found)).equals(before as Buffer) : null).toBe(before && true);
      return;
    }
    case "range": {
      if (before === null) return;
      const first = step.from % before.length;
      const last = first + (step.length % (before.length - first));
      const found = await getObject(deps, { ...getRequest(step.key), range: { first, last } });
      expect((await bytesOf(found)).equals(before.subarray(first, last + 1))).toBe(true);
      return;
    }
    case "patch": {
      // Only of documents; all others are refused, and stay what they were.
      const patch = { battery: step.battery, ...(step.isCold ? { cold: `cold ${step.battery}` } : {}) };
      const request = { ...address, patch: Buffer.from(JSON.stringify(patch)), consistency: null };
      const done = await (patchers[step.gateway] as ObjectPatcher).patch(request).catch(() => null);
      if (done === null) return;
      const document = { ...(JSON.parse((before as Buffer).toString()) as Record<string, unknown>), ...patch };
      const found = await bytesOf(
        await getObject(
          { ...deps, cache: new ContentCache(store.clock, { ...SETTINGS, bytesMax: 0 }) },
          getRequest(step.key),
        ),
      );
      expect(JSON.parse(found.toString())).toEqual(document);
      model.set(step.key, found);
      return;
    }
    case "delete":
      await deleteObject(deps, address);
      model.delete(step.key);
  }
}

test("a cache is never stale and never over its bytes, whatever two gateways do", async () => {
  let hits = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 60 }), async (steps) => {
      const world = openWorld();
      for (const each of steps) {
        await run(world, each);
        for (const { cache } of world.gateways) expect(cache.figures().bytes).toBeLessThanOrEqual(SETTINGS.bytesMax);
      }
      for (const { cache } of world.gateways) hits += cache.figures().hits;
      expect(world.store.deps.memory.used).toBe(0);
    }),
    { numRuns: 60, interruptAfterTimeLimit: 20_000 },
  );
  expect(hits).toBeGreaterThan(0);
}, 60_000);
