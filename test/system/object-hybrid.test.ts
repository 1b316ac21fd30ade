import { createHash } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { getObject } from "../../src/object/get.ts";
import { NO_PRECONDITIONS } from "../../src/object/requests.ts";
import type { TestStore } from "../support/store.ts";
import { bytesOf, getRequest, openTestStore, streamOf } from "../support/store.ts";

/** A document in which every kind of token that re-serialising would change stands somewhere. */
function telemetry(hot: { battery?: string; seen?: string } = {}, coldNumber = 1): Buffer {
  const samples = Array.from({ length: 2_000 }, (_, i) => `{"t": ${i}.0, "v":[1e400,-0.50, 12345678901234567890]}`);
  return Buffer.from(
    `\n{ "device_id" : "d-\\u0041",\t"battery_level":${hot.battery ?? "81.0"},\n "dup": 1, "dup": 2,` +
      ` "samples": [${samples.join(", ")}], "__proto__": {"x": ${coldNumber}},` +
      ` "last_sync_ts": ${hot.seen ?? "1763690000000000001"} , "note": "caf\u00e9 \\ud83d\\ude00" }  \n`,
  );
}

describe("field_hybrid", () => {
  let store: TestStore;
  beforeAll(async () => {
    store = await openTestStore();
  });
  afterAll(async () => await store[Symbol.asyncDispose]());

  it("gives back the identical bytes however they arrive", async () => {
    const document = telemetry();
    for (const sizes of [[document.length], [1_000], [7, 1, 30]]) {
      const receipt = await store.put("doc", streamOf(document, sizes), { strategy: "field_hybrid" });
      expect(receipt.strategy).toBe("field_hybrid");
      expect(receipt.sha256).toBe(createHash("sha256").update(document).digest("hex"));
      expect((await store.get("doc"))?.equals(document)).toBe(true);
    }
  });

  it("is what auto chooses for a JSON object with hot fields, and not for other bytes", async () => {
    const nothingHot = Buffer.from(JSON.stringify({ plain: "x".repeat(100_000) }));
    const broken = Buffer.concat([telemetry(), Buffer.from("{")]);
    expect((await store.put("a", telemetry())).strategy).toBe("field_hybrid");
    expect((await store.put("b", nothingHot)).strategy).toBe("ec");
    const small = nothingHot.subarray(0, 30_000);
    expect((await store.put("b", small)).strategy).toBe("replication");
    expect((await store.get("b"))?.equals(small)).toBe(true);
    await store.put("c", broken);
    expect((await store.get("c"))?.equals(broken)).toBe(true);
    await expect(store.patch("c", '{"battery_level": 1}')).rejects.toMatchObject({ code: "json_invalid" });
  });

  it("reads every range of the interleaved bytes", async () => {
    const document = telemetry();
    await store.put("doc", document);
    for (let first = 0; first < document.length; first += 9_973) {
      const last = Math.min(document.length - 1, first + 12_345);
      const result = await getObject(store.store.deps, { ...getRequest("doc"), range: { first, last } });
      expect((await bytesOf(result)).equals(document.subarray(first, last + 1))).toBe(true);
    }
  });

  it("writes no node byte when only hot values differ", async () => {
    await store.put("hot", telemetry());
    const before = await store.blobsOnNodes();
    const update = telemetry({ battery: "80", seen: "42" });
    const receipt = await store.put("hot", streamOf(update, [60_000]));
    expect(receipt.nodeBytesWritten).toBe(0);
    expect(await store.blobsOnNodes()).toEqual(before);
    expect((await store.get("hot"))?.equals(update)).toBe(true);
    const cold = await store.put("hot", telemetry({}, 2));
    expect(cold.nodeBytesWritten).toBeGreaterThan(0);
  });

  it("projects hot fields without a node and cold ones from the document", async () => {
    await store.put("doc", telemetry());
    expect(await store.fields("doc", "last_sync_ts", "device_id", "firmware_version")).toEqual({
      json: '{"last_sync_ts":1763690000000000001,"device_id":"d-\\u0041"}',
      fromHotPart: true,
    });
    expect(await store.fields("doc", "dup", "battery_level", "nowhere")).toEqual({
      json: '{"dup":2,"battery_level":81.0}',
      fromHotPart: false,
    });
  });

  it("refuses what is no JSON object, with the offset, and stores nothing", async () => {
    const cases: [string, string][] = [
      ["[1]", "json_not_object"],
      ['{"a": 1,}', "json_invalid"],
      ['{"device_id": 1, "device_id": 2}', "hot_field_duplicate"],
      [`{"a": ${"[".repeat(5_000)}`, "json_too_deep"],
    ];
    for (const [text, code] of cases) {
      await expect(store.put("bad", Buffer.from(text), { strategy: "field_hybrid" })).rejects.toMatchObject({ code });
    }
    expect(await store.get("bad")).toBeNull();
  });

  it("survives reopening with patches applied", async () => {
    await store.put("kept", telemetry());
    await store.patch("kept", '{"battery_level": 12, "status_code": 7, "last_sync_ts": null}');
    const before = await store.get("kept");
    await store.reopen();
    expect((await store.get("kept"))?.equals(before as Buffer)).toBe(true);
    expect(await store.orphans()).toEqual([]);
  });
});

describe("patchObject()", () => {
  it("changes hot fields with one commit and no node byte", async () => {
    await using store = await openTestStore();
    await store.put("doc", telemetry());
    const receipt = await store.patch("doc", '{"battery_level": 79.50, "last_sync_ts": 9007199254740993}');
    expect(receipt).toMatchObject({ nodeBytesWritten: 0, sha256: null });
    const expected = telemetry({ battery: "79.50", seen: "9007199254740993" });
    expect((await store.get("doc"))?.equals(expected)).toBe(true);
    expect(receipt.sizeBytes).toBe(expected.length);
  });

  it("completes the digest after a full read", async () => {
    await using store = await openTestStore();
    await store.put("doc", telemetry());
    await store.patch("doc", '{"battery_level": 5}');
    const learnt = new Promise<string | null>((resolve) => {
      store.store.deps.metadata.watch(({ record }) => resolve(record.sha256));
    });
    const bytes = (await store.get("doc")) as Buffer;
    expect(await learnt).toBe(createHash("sha256").update(bytes).digest("hex"));
  });

  it("rewrites the document when a cold field is named, and leaves all other bytes alone", async () => {
    await using store = await openTestStore();
    await store.put("doc", telemetry());
    const receipt = await store.patch("doc", '{"__proto__": {"y": 1.0}, "note": null, "added": [1]}');
    expect(receipt.nodeBytesWritten).toBeGreaterThan(0);
    const text = (await store.get("doc"))?.toString() ?? "";
    const parsed = JSON.parse(text) as Record<string, unknown>;
    expect(Object.keys(parsed)).not.toContain("note");
    expect(text).toContain('"y":1.0');
    expect(text).toContain(`"v":[1e400,-0.50, 12345678901234567890]`);
    expect(await store.orphans().then((all) => all.length)).toBeGreaterThanOrEqual(0);
    await store.reopen();
    expect(await store.orphans()).toEqual([]);
  });

  it("never loses a field of concurrent patches", async () => {
    await using store = await openTestStore();
    await store.put("doc", telemetry());
    const names = ["status_code", "view_count", "like_count", "user_id", "is_active", "firmware_version"];
    await Promise.all(
      names.flatMap((name) => Array.from({ length: 20 }, (_, i) => store.patch("doc", `{"${name}": ${i}}`))),
    );
    await Promise.all([store.patch("doc", '{"cold_one": 1}'), store.patch("doc", '{"battery_level": 3}')]);
    const parsed = JSON.parse((await store.get("doc"))?.toString() ?? "") as Record<string, unknown>;
    for (const name of names) expect(parsed[name], name).toBe(19);
    expect(parsed).toMatchObject({ cold_one: 1, battery_level: 3 });
  });

  it("honours If-Match against the version that each patch meets", async () => {
    await using store = await openTestStore();
    const { etag } = await store.put("doc", telemetry());
    const patch = (value: number) =>
      store.patcher.patch({
        ...getRequest("doc"),
        patch: Buffer.from(`{"battery_level": ${value}}`),
        consistency: null,
        preconditions: { ...NO_PRECONDITIONS, ifMatch: [etag] },
      });
    const outcomes = await Promise.allSettled([patch(1), patch(2), patch(3)]);
    expect(outcomes.filter((outcome) => outcome.status === "fulfilled")).toHaveLength(1);
  });

  it("keeps a hot part that outgrows the record in replicated blobs", async () => {
    await using store = await openTestStore();
    await store.put("doc", telemetry());
    const long = (letter: string) => JSON.stringify(letter.repeat(10_000));
    await store.patch("doc", `{"device_id": ${long("a")}}`);
    const receipt = await store.patch("doc", `{"firmware_version": ${long("b")}}`);
    expect(receipt.nodeBytesWritten).toBeGreaterThan(60_000);
    await store.patch("doc", '{"battery_level": 1}');
    const parsed = JSON.parse((await store.get("doc"))?.toString() ?? "") as Record<string, unknown>;
    expect(parsed).toMatchObject({
      device_id: "a".repeat(10_000),
      firmware_version: "b".repeat(10_000),
      battery_level: 1,
    });
    await store.reopen();
    expect(await store.orphans()).toEqual([]);
  });

  it("says that there is nothing to patch", async () => {
    await using store = await openTestStore();
    await expect(store.patch("nothing", "{}")).rejects.toMatchObject({ code: "object_not_found" });
  });
});
