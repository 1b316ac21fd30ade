/** What was deleted comes back for as long as the store keeps its content: through every door, and never half. */
import { Registry } from "prom-client";
import { describe, expect, test } from "vitest";
import type { VersionId } from "../../src/domain/ids.ts";
import type { StrategyChoice } from "../../src/domain/manifest.ts";
import { createBuryExecutor } from "../../src/healer/bury.ts";
import { createCollectMetrics } from "../../src/healer/collect-metrics.ts";
import { NO_PRECONDITIONS } from "../../src/object/requests.ts";
import { problemOf, receiptOf, StoreClient } from "../support/black-box/client.ts";
import { startServe } from "../support/serve.ts";
import { BUCKET, keyOf, noise, openTestStore, type TestStore } from "../support/store.ts";

const DOCUMENT = Buffer.from(`{"device_id":"d1","battery_level":5,"pad":"${"x".repeat(60_000)}"}`);
const CONTENTS: readonly (readonly [StrategyChoice, Buffer])[] = [
  ["inline", noise(900, 1)],
  ["replication", noise(40_000, 2)],
  ["ec", noise(5_000_000, 3)],
  ["field_hybrid", DOCUMENT],
];
const NEVER = new AbortController().signal;

function buryNow(store: TestStore, undeleteMs = 0) {
  return createBuryExecutor({
    ...store.store.deps,
    collectMetrics: createCollectMetrics(new Registry()),
    undeleteMs,
  });
}

async function tombstoneOf(store: TestStore, key: string): Promise<VersionId> {
  const { metadata } = store.store.deps;
  return (await metadata.get(BUCKET, keyOf(key), { atMs: Number.MAX_SAFE_INTEGER }))?.record.version as VersionId;
}

describe("undeleteObject()", () => {
  test("brings back content of every strategy as a new version, over restarts, again and again", async () => {
    await using store = await openTestStore();
    for (const [strategy, bytes] of CONTENTS) {
      const put = await store.put(strategy, bytes, { strategy });
      const versions = new Set([put.version]);
      for (let round = 0; round < 2; round += 1) {
        expect(await store.remove(strategy)).toBe(true);
        expect(await store.get(strategy)).toBeNull();
        if (round === 0) await store.reopen();
        const receipt = await store.undelete(strategy);
        expect(receipt).toMatchObject({
          etag: put.etag,
          sizeBytes: bytes.length,
          created: true,
          dirty: false,
          strategy,
        });
        versions.add(receipt.version);
        expect((await store.get(strategy))?.equals(bytes)).toBe(true);
      }
      expect(versions.size).toBe(3);
    }
    expect(await store.patch("field_hybrid", '{"battery_level":6}')).toMatchObject({ strategy: "field_hybrid" });
    expect((await store.get("field_hybrid"))?.toString()).toContain('"battery_level":6');
    const unnamed = await store.orphans();
    expect(unnamed.filter((name) => !name.includes(".record."))).toEqual([]);
  });

  test("is refused where nothing is to be brought back, with a reason of its own", async () => {
    await using store = await openTestStore();
    await expect(store.undelete("never")).rejects.toMatchObject({ code: "object_not_found" });
    const { etag } = await store.put("k", noise(100, 1));
    await expect(store.undelete("k")).rejects.toMatchObject({ code: "not_deleted" });
    await store.remove("k");
    const onTag = (tag: string) => ({ ...NO_PRECONDITIONS, ifMatch: [tag] });
    await expect(store.undelete("k", onTag("other"))).rejects.toMatchObject({ code: "precondition_failed" });
    expect((await store.undelete("k", onTag(etag))).etag).toBe(etag);
    await store.remove("k");
    await store.put("k", noise(100, 2));
    await expect(store.undelete("k")).rejects.toMatchObject({ code: "not_deleted" });
  });

  test("what was buried is given up: undelete says so, and its blobs go", async () => {
    await using store = await openTestStore();
    await store.put("k", noise(300_000, 1), { strategy: "ec" });
    await store.remove("k");
    const work = {
      kind: "bury",
      urgency: 2,
      bucket: BUCKET,
      key: keyOf("k"),
      version: await tombstoneOf(store, "k"),
    } as const;
    // Not before its time.
    await buryNow(store, 3_600_000)(work, { signal: NEVER });
    await store.undelete("k");
    await store.remove("k");
    await buryNow(store)({ ...work, version: await tombstoneOf(store, "k") }, { signal: NEVER });
    await expect(store.undelete("k")).rejects.toMatchObject({ code: "undelete_expired" });
    expect(await store.get("k")).toBeNull();
  });

  test("against a burial at the same time exactly one wins, and what is readable is whole", async () => {
    await using store = await openTestStore();
    const bytes = noise(200_000, 1);
    const outcomes = new Set<string>();
    for (let round = 0; round < 40; round += 1) {
      const key = `k-${round}`;
      await store.put(key, bytes, { strategy: round % 2 === 0 ? "ec" : "replication" });
      await store.remove(key);
      const work = {
        kind: "bury",
        urgency: 2,
        bucket: BUCKET,
        key: keyOf(key),
        version: await tombstoneOf(store, key),
      } as const;
      const begin = [
        () => buryNow(store)(work, { signal: NEVER }),
        () =>
          store.undelete(key).then(
            () => outcomes.add("undeleted"),
            (cause: { code: string }) => outcomes.add(cause.code),
          ),
      ];
      if (round % 3 === 0) begin.reverse();
      await Promise.all(begin.map((each) => each()));
    }
    await store.reopen();
    let readable = 0;
    for (let round = 0; round < 40; round += 1) {
      const found = await store.get(`k-${round}`);
      if (found === null) continue;
      readable += 1;
      expect(found.equals(bytes)).toBe(true);
    }
    expect([...outcomes].sort()).toEqual(readable === 40 ? ["undeleted"] : ["undelete_expired", "undeleted"]);
    expect(readable).toBeGreaterThan(0);
  });
});

test("POST /objects/:key?undelete answers with a receipt, and refusals by their codes", async () => {
  await using store = await startServe({});
  using client = new StoreClient(store.url);
  const path = "/objects/a/b%20c";
  const put = receiptOf(
    await client.put(path, DOCUMENT, { "x-kintsugi-meta-owner": "me", "content-type": "application/json" }),
  );
  const undelete = (target: string, options = {}) => client.send("POST", target, options);
  const codeOf = async (target: string, options = {}) => {
    const answer = await undelete(target, options);
    return [answer.status, problemOf(answer).code];
  };
  expect(await codeOf(`${path}?undelete`)).toEqual([409, "not_deleted"]);
  expect(await codeOf("/objects/never?undelete")).toEqual([404, "object_not_found"]);
  expect((await client.send("DELETE", path)).status).toBe(204);
  expect(await codeOf(`${path}?undelete=1`)).toEqual([400, "parameter_invalid"]);
  expect(await codeOf(`${path}?undelete&strategy=ec`)).toEqual([400, "parameter_invalid"]);
  expect(await codeOf(`${path}?undelete`, { body: "x" })).toEqual([400, "request_malformed"]);
  expect(await codeOf(`${path}?undelete`, { headers: { "if-match": '"other"' } })).toEqual([
    412,
    "precondition_failed",
  ]);
  const answer = await undelete(`${path}?undelete`);
  expect([answer.status, answer.headers["location"]]).toEqual([201, path]);
  expect(receiptOf(answer)).toMatchObject({ etag: put.etag, sha256: put.sha256, created: true });
  const read = await client.get(path);
  expect([read.body.equals(DOCUMENT), read.headers["x-kintsugi-meta-owner"]]).toEqual([true, "me"]);
  // Without the parameter it is a put, as ever.
  expect((await client.send("POST", path, { body: "new" })).status).toBe(200);
});
