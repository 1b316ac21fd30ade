/** Healing moves blobs under readers: the version stays, the nodes that hold it are others. */
import { describe, expect, test } from "vitest";
import type { StrategyChoice } from "../../../src/domain/manifest.ts";
import { blobSetsOf, placedBlobsOf } from "../../../src/domain/manifest.ts";
import type { NodeName } from "../../../src/domain/ids.ts";
import type { StoredRecord } from "../../../src/domain/record.ts";
import { getObject } from "../../../src/object/get.ts";
import { putObject } from "../../../src/object/put.ts";
import type { MemoryStore, MemoryStoreOptions } from "../../support/memory-store.ts";
import { ANY_TIME, NODE_NAMES, openMemoryStore } from "../../support/memory-store.ts";
import { settle } from "../../support/manual-clock.ts";
import { BUCKET, bytesOf, getRequest, keyOf, noise, putRequest } from "../../support/store.ts";

const BYTES = noise(9_000_000, 4);

const stored = async (store: MemoryStore) =>
  (await store.realMetadata.get(BUCKET, keyOf("k"), ANY_TIME)) as StoredRecord;

/** Puts every blob of the object on another node: no place that a reader of the old record knows is left. */
async function moveAll(store: MemoryStore): Promise<void> {
  const { deps } = store;
  const before = await stored(store);
  const [set] = blobSetsOf(before.record.manifest);
  const places = placedBlobsOf(set!);
  const nodes = NODE_NAMES.slice().reverse();
  const spare = (index: number) => nodes[(nodes.indexOf(set!.nodes[index] as NodeName) + 1) % nodes.length] as NodeName;
  for (const [index, { id, node }] of places.entries()) {
    const from = deps.nodes.get(node)!;
    const found = await from.describe(id, ANY_TIME);
    const cells = await from.readCells(id, 0, found!.info.cellCount, ANY_TIME);
    const writer = await deps.nodes.get(spare(index))!.openWriter(id, 1_000);
    for (const [cell, { payload, checksum }] of cells.entries()) await writer.writeCell(cell, payload, checksum);
    await writer.seal(found!.descriptor);
  }
  const moved = { ...set!, nodes: places.map((_, index) => spare(index)) };
  const manifest = { ...before.record.manifest, body: moved } as StoredRecord["record"]["manifest"];
  const next = { ...before.record, manifest };
  const change = { record: next, ifRevision: before.revision };
  expect(await store.realMetadata.commit(change, ANY_TIME)).toMatchObject({ ok: true });
  for (const { id, node } of places) await deps.nodes.get(node)!.delete([id], ANY_TIME);
}

async function openWith(strategy: StrategyChoice, bytes: Buffer, options: MemoryStoreOptions = {}) {
  const store = openMemoryStore(options);
  await putObject(store.deps, putRequest("k", bytes, { strategy }));
  await settle();
  return store;
}

describe("getObject()", () => {
  for (const strategy of ["replication", "ec"] as const) {
    for (const bytes of [BYTES.subarray(0, 50_000), BYTES]) {
      test(`starts over when ${strategy} content of ${bytes.length} bytes moved after its record was looked up`, async () => {
        let isFirst = true;
        const store = await openWith(strategy, bytes, {
          metadata: (real) => ({
            async get(bucket, key, deadline) {
              const found = await real.get(bucket, key, deadline);
              if (isFirst && found !== null) {
                isFirst = false;
                await moveAll(store);
              }
              return found;
            },
          }),
        });
        expect((await bytesOf(await getObject(store.deps, getRequest("k")))).equals(bytes)).toBe(true);
        expect(isFirst).toBe(false);
      });
    }

    test(`goes on with ${strategy} content that moves while it streams`, async () => {
      const store = await openWith(strategy, BYTES);
      const result = await getObject(store.deps, getRequest("k"));
      if (result.outcome !== "found" || result.body.kind !== "stream") throw new Error("streams");
      const chunks: Buffer[] = [];
      for await (const chunk of result.body.chunks) {
        chunks.push(Buffer.from(chunk));
        if (chunks.length === 1) await moveAll(store);
      }
      expect(chunks.length).toBeGreaterThan(2);
      expect(Buffer.concat(chunks).equals(BYTES)).toBe(true);
      expect(store.deps.memory.used).toBe(0);
    });
  }

  test("breaks off rather than going on with another version", async () => {
    const store = await openWith("ec", BYTES);
    const result = await getObject(store.deps, getRequest("k"));
    if (result.outcome !== "found" || result.body.kind !== "stream") throw new Error("streams");
    const { chunks } = result.body;
    const readOn = async () => {
      let count = 0;
      for await (const _ of chunks) {
        count += 1;
        if (count > 1) continue;
        const places = blobSetsOf((await stored(store)).record.manifest).flatMap(placedBlobsOf);
        await putObject(store.deps, putRequest("k", noise(9_000_000, 5), { strategy: "ec" }));
        for (const { id, node } of places) await store.deps.nodes.get(node)!.delete([id], ANY_TIME);
      }
    };
    await expect(readOn()).rejects.toMatchObject({ code: "object_damaged" });
    expect(store.deps.memory.used).toBe(0);
  });
});
