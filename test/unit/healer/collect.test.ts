import { Registry } from "prom-client";
import { describe, expect, test } from "vitest";
import type { NodeName } from "../../../src/domain/ids.ts";
import { blobIdOf } from "../../../src/domain/ids.ts";
import type { BlobSet } from "../../../src/domain/manifest.ts";
import { blobSetsOf } from "../../../src/domain/manifest.ts";
import type { WorkOf } from "../../../src/domain/work.ts";
import { createCollectExecutor } from "../../../src/healer/collect.ts";
import { createCollectMetrics } from "../../../src/healer/collect-metrics.ts";
import { putObject } from "../../../src/object/put.ts";
import { settle } from "../../support/manual-clock.ts";
import type { MemoryStoreOptions } from "../../support/memory-store.ts";
import { ANY_TIME, NODE_NAMES, openMemoryStore } from "../../support/memory-store.ts";
import { BUCKET, keyOf, noise, putRequest } from "../../support/store.ts";

const going = { signal: new AbortController().signal };

/** An object, and a further copy of its first blob on a node that its record does not name. */
async function open(options: MemoryStoreOptions = {}) {
  const store = openMemoryStore(options);
  await putObject(store.deps, putRequest("k", noise(50_000), { strategy: "replication" }));
  await settle();
  const stored = await store.realMetadata.get(BUCKET, keyOf("k"), ANY_TIME);
  const set = blobSetsOf(stored!.record.manifest)[0] as BlobSet;
  const id = blobIdOf(set.txid, set.part, 0);
  const from = store.deps.nodes.get(set.nodes[0] as NodeName)!;
  const stray = NODE_NAMES.find((name) => !set.nodes.includes(name)) as NodeName;
  const cells = await from.readCells(id, 0, 1, ANY_TIME);
  const { descriptor } = (await from.describe(id, ANY_TIME))!;
  await store.deps.nodes.get(stray)!.put({ id, descriptor, cells }, ANY_TIME);
  const collect = createCollectExecutor({ ...store.deps, collectMetrics: createCollectMetrics(new Registry()) });
  const work = (node: NodeName): WorkOf<"collect"> => ({ kind: "collect", urgency: 2, node, blobs: [{ id, node }] });
  const isThere = async (node: NodeName) => (await store.deps.nodes.get(node)!.describe(id, ANY_TIME)) !== null;
  return { store, set, id, stray, collect, work, isThere };
}

describe("createCollectExecutor()", () => {
  test("deletes a copy that no record names, and none that one names", async () => {
    const { set, stray, collect, work, isThere } = await open();
    const named = set.nodes[0] as NodeName;
    expect(await collect(work(named), going)).toMatchObject({ outcome: "done" });
    expect(await collect(work(stray), going)).toMatchObject({ outcome: "done" });
    expect([await isThere(named), await isThere(stray)]).toEqual([true, false]);
  });

  test("leaves a copy that mending may want, until the blob is back where it belongs", async () => {
    const { store, set, id, stray, collect, work, isThere } = await open();
    await store.deps.nodes.get(set.nodes[0] as NodeName)!.delete([id], ANY_TIME);
    expect(await collect(work(stray), going)).toMatchObject({ outcome: "later" });
    expect(await isThere(stray)).toBe(true);
  });

  test("deletes nothing by what it saw before its process was stopped for a while", async () => {
    let stopped: (() => void) | null = null;
    const { store, stray, collect, work, isThere } = await open({
      metadata: (real) => ({
        async get(bucket, key, deadline) {
          const found = await real.get(bucket, key, deadline);
          stopped?.();
          return found;
        },
      }),
    });
    stopped = () => store.clock.advance(60_000);
    expect(await collect(work(stray), going)).toMatchObject({ outcome: "later" });
    expect(await isThere(stray)).toBe(true);
    stopped = null;
    expect(await collect(work(stray), going)).toMatchObject({ outcome: "done" });
    expect(await isThere(stray)).toBe(false);
  });
});
