import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { isStoreError } from "../../src/domain/errors.ts";
import { fullCellBytes } from "../../src/domain/geometry.ts";
import type { StrategyChoice } from "../../src/domain/manifest.ts";
import { getObject } from "../../src/object/get.ts";
import { NO_PRECONDITIONS } from "../../src/object/requests.ts";
import type { TestStore } from "../support/store.ts";
import { bytesOf, getRequest, noise, openTestStore, streamOf } from "../support/store.ts";

const cell = fullCellBytes({ scheme: "ec", k: 4, m: 2 });
const stripe = 4 * cell;

/** Blobs that earlier tests replaced may go meanwhile; none may come. */
async function expectNoneBeside(
  store: TestStore,
  before: Awaited<ReturnType<TestStore["blobsOnNodes"]>>,
): Promise<void> {
  const known = new Set(before.map(({ id }) => id));
  expect((await store.blobsOnNodes()).filter(({ id }) => !known.has(id))).toEqual([]);
}

describe("putObject() and getObject()", () => {
  let store: TestStore;
  beforeAll(async () => {
    store = await openTestStore();
  });
  afterAll(async () => await store[Symbol.asyncDispose]());

  const sizes = [
    0,
    1,
    63,
    512,
    513,
    4_096,
    65_535,
    65_536,
    65_537,
    262_145,
    cell,
    stripe - 1,
    stripe,
    stripe + 1,
    3 * stripe + 17,
  ];
  for (const strategy of ["auto", "replication", "ec"] as const satisfies StrategyChoice[]) {
    it(`give back the same bytes for every size with ${strategy}`, async () => {
      for (const size of sizes) {
        const bytes = noise(size, size + 7);
        const receipt = await store.put(`size-${strategy}-${size}`, bytes, { strategy });
        expect(receipt.sha256).toBe(createHash("sha256").update(bytes).digest("hex"));
        expect(receipt.dirty).toBe(false);
        expect((await store.get(`size-${strategy}-${size}`))?.equals(bytes), `${size} bytes`).toBe(true);
      }
    });
  }

  it("give back the same bytes however the body arrives", async () => {
    const bytes = noise(2 * stripe + 12_345, 3);
    for (const declared of [true, false]) {
      for (const chunks of [[65_536], [1, 7, 100_000], [stripe], [stripe + 1]]) {
        await store.put("chunked", streamOf(bytes, chunks, declared), { strategy: "ec" });
        expect((await store.get("chunked"))?.equals(bytes)).toBe(true);
      }
    }
  });

  it("choose inline, replication and ec by size under auto", async () => {
    const strategies = [];
    for (const size of [100, 10_000, 500_000]) {
      strategies.push((await store.put("auto", noise(size), {})).strategy);
      strategies.push((await store.put("auto", streamOf(noise(size), [9_999], false), {})).strategy);
    }
    expect(strategies).toEqual(["inline", "inline", "replication", "replication", "ec", "ec"]);
  });

  it("tell in the receipt what is durable", async () => {
    const ec = await store.put("receipt", noise(300_000), { strategy: "ec" });
    expect(ec).toMatchObject({ blobsDurable: 6, blobsPlanned: 6, tolerance: 2, dirty: false, strategy: "ec" });
    expect(new Set(ec.nodes).size).toBe(6);
    const copies = await store.put("receipt", noise(1_000), { strategy: "replication" });
    expect(copies).toMatchObject({ blobsDurable: 3, tolerance: 2, created: false, nodeBytesWritten: 3_000 });
  });

  it("read any range, also across cells and stripes", async () => {
    const bytes = noise(2 * stripe + 5_000, 11);
    await store.put("ranged", bytes, { strategy: "ec" });
    const cases: [number, number][] = [
      [0, 0],
      [0, 9],
      [cell - 1, cell],
      [stripe - 10, stripe + 10],
      [2 * stripe + 4_990, 2 * stripe + 4_999],
      [5, 2 * stripe + 100],
    ];
    for (const [first, last] of cases) {
      const result = await getObject(store.store.deps, { ...getRequest("ranged"), range: { first, last } });
      expect((await bytesOf(result)).equals(bytes.subarray(first, last + 1)), `${first}-${last}`).toBe(true);
    }
    const suffix = await getObject(store.store.deps, { ...getRequest("ranged"), range: { suffixBytes: 100 } });
    expect((await bytesOf(suffix)).equals(bytes.subarray(-100))).toBe(true);
    const outside = getObject(store.store.deps, {
      ...getRequest("ranged"),
      range: { first: bytes.length, last: null },
    });
    await expect(outside).rejects.toMatchObject({ code: "range_invalid" });
  });

  it("refuse a body with another digest than announced and leave nothing", async () => {
    const before = await store.blobsOnNodes();
    for (const [strategy, size] of [
      ["inline", 10],
      ["replication", 1_000],
      ["ec", 2 * stripe],
    ] as const) {
      const put = store.put("wrong-digest", noise(size), { strategy, expectedSha256: "0".repeat(64) });
      await expect(put).rejects.toMatchObject({ code: "digest_mismatch" });
    }
    expect(await store.get("wrong-digest")).toBeNull();
    await expectNoneBeside(store, before);
  });

  it("leave nothing of a body whose sender vanishes", async () => {
    const before = await store.blobsOnNodes();
    for (const strategy of ["ec", "replication", "field_hybrid", null] as const) {
      const body = {
        kind: "stream" as const,
        sizeBytes: null,
        chunks: (async function* () {
          yield Buffer.from('{"battery_level": 3, "x": "');
          yield Buffer.alloc(stripe + 1, 0x61);
          throw new Error("the client is gone");
        })(),
      };
      await expect(store.put("vanished", body, { strategy })).rejects.toThrow("the client is gone");
    }
    expect(await store.get("vanished")).toBeNull();
    await expectNoneBeside(store, before);
    expect(store.store.deps.memory.used).toBe(0);
  });

  it("refuse a body beyond the limit as soon as that is known", async () => {
    await using small = await openTestStore({ flags: { "http.objectBytesMax": "100KiB" } });
    await expect(small.put("big", noise(102_401))).rejects.toMatchObject({ code: "body_too_large" });
    await expect(small.put("big", streamOf(noise(200_000), [1_000], false))).rejects.toMatchObject({
      code: "body_too_large",
    });
    expect(await small.get("big")).toBeNull();
  });
});

describe("conditional writes", () => {
  it("let exactly one of many creators win", async () => {
    await using store = await openTestStore();
    const preconditions = { ...NO_PRECONDITIONS, ifNoneMatch: ["*"] };
    const outcomes = await Promise.allSettled(
      Array.from({ length: 16 }, (_, index) =>
        store.put("one", noise(2_000, index), { strategy: "replication", preconditions }),
      ),
    );
    expect(outcomes.filter((outcome) => outcome.status === "fulfilled")).toHaveLength(1);
    for (const outcome of outcomes) {
      if (outcome.status === "rejected") expect(isStoreError(outcome.reason, "precondition_failed")).toBe(true);
    }
    expect(await store.orphans()).toEqual([]);
  });

  it("refuse If-Match on another entity tag and keep the old version", async () => {
    await using store = await openTestStore();
    const first = await store.put("k", noise(1_000, 1));
    const stale = { ...NO_PRECONDITIONS, ifMatch: ["stale"] };
    await expect(store.put("k", noise(1_000, 2), { preconditions: stale })).rejects.toMatchObject({
      code: "precondition_failed",
    });
    const fresh = { ...NO_PRECONDITIONS, ifMatch: [first.etag] };
    await store.put("k", noise(1_000, 3), { preconditions: fresh });
    expect((await store.get("k"))?.equals(noise(1_000, 3))).toBe(true);
  });
});

describe("overwriting and deleting", () => {
  it("free the blobs of replaced versions", async () => {
    await using store = await openTestStore();
    for (let round = 0; round < 5; round += 1) {
      await store.put("k", noise(300_000, round), { strategy: "ec" });
      await store.put("k", noise(3_000, round), { strategy: "replication" });
    }
    await store.put("k", noise(100), { strategy: "inline" });
    await store.reopen();
    expect(await store.blobsOnNodes()).toEqual([]);
    expect(await store.openIntents()).toBe(0);
  });

  it("keep a version readable to the end for who has begun to read it", async () => {
    await using store = await openTestStore();
    const old = noise(4 * stripe, 5);
    await store.put("k", old, { strategy: "ec" });
    const reading = await getObject(store.store.deps, getRequest("k"));
    await store.put("k", noise(10), {});
    expect((await bytesOf(reading)).equals(old)).toBe(true);
  });

  it("hide a deleted object and keep its blobs for an undelete", async () => {
    await using store = await openTestStore();
    await store.put("k", noise(5_000));
    expect(await store.remove("k")).toBe(true);
    expect(await store.remove("k")).toBe(false);
    expect(await store.get("k")).toBeNull();
    expect(await store.blobsOnNodes()).toHaveLength(3);
    const again = await store.put("k", noise(6_000));
    expect(again.created).toBe(true);
  });
});

describe("degraded reads", () => {
  it("give the same bytes with any two of six nodes gone", async () => {
    await using store = await openTestStore();
    const bytes = noise(stripe + 100_000, 21);
    await store.put("big", bytes, { strategy: "ec" });
    await store.put("small", bytes.subarray(0, 40_000), { strategy: "replication" });
    const document = Buffer.from(JSON.stringify({ device_id: "d", pad: "x".repeat(50_000) }));
    await store.put("doc", document);
    await store.store.close();
    for (let a = 1; a <= 6; a += 1) {
      for (let b = a + 1; b <= 6; b += 1) {
        await using copy = await openTestStore({ dir: await cloneWithout(store.dir, [`node-${a}`, `node-${b}`]) });
        expect((await copy.get("big"))?.equals(bytes), `without ${a} and ${b}`).toBe(true);
        expect((await copy.get("small"))?.equals(bytes.subarray(0, 40_000))).toBe(true);
        expect((await copy.get("doc"))?.equals(document)).toBe(true);
      }
    }
    await store.reopen();
  });

  it("say so when three of six are gone", async () => {
    await using store = await openTestStore();
    await store.put("big", noise(300_000), { strategy: "ec" });
    await store.store.close();
    await using copy = await openTestStore({ dir: await cloneWithout(store.dir, ["node-1", "node-2", "node-3"]) });
    await expect(copy.get("big")).rejects.toMatchObject({ code: "object_damaged" });
    await store.reopen();
  });
});

/** A copy of a closed store in which some nodes have lost everything. */
async function cloneWithout(dir: string, nodes: readonly string[]): Promise<string> {
  const copy = await mkdtemp(join(tmpdir(), "kintsugi-copy-"));
  execFileSync("cp", ["-r", "--sparse=always", `${dir}/.`, copy]);
  for (const node of nodes) await rm(join(copy, "nodes", node), { recursive: true });
  return copy;
}
