/** Writers begin with what their process happens to know, which another process may have changed long ago. */
import { describe, expect, it } from "vitest";
import type { StoredRecord } from "../../../src/domain/record.ts";
import { deleteObject } from "../../../src/object/delete.ts";
import { ObjectPatcher } from "../../../src/object/patch.ts";
import { putObject } from "../../../src/object/put.ts";
import type { Preconditions } from "../../../src/object/requests.ts";
import { NO_PRECONDITIONS } from "../../../src/object/requests.ts";
import { settle } from "../../support/manual-clock.ts";
import type { MemoryStore } from "../../support/memory-store.ts";
import { ANY_TIME, RELEASE_DELAY_MS, openMemoryStore } from "../../support/memory-store.ts";
import { BUCKET, keyOf, noise, putRequest } from "../../support/store.ts";

/** A store whose process has not heard of anything since `forget`. */
function openForgetful() {
  const looks: string[] = [];
  const memory: { known: StoredRecord | null | undefined } = { known: undefined };
  const store = openMemoryStore({
    metadata: (real) => ({
      async peek(bucket, key, deadline) {
        looks.push("peek");
        return memory.known === undefined ? await real.peek(bucket, key, deadline) : memory.known;
      },
      async get(bucket, key, deadline) {
        looks.push("get");
        return await real.get(bucket, key, deadline);
      },
    }),
  });
  const forget = async () => {
    memory.known = await store.realMetadata.get(BUCKET, keyOf("k"), ANY_TIME);
    looks.length = 0;
  };
  const hear = () => {
    memory.known = undefined;
    looks.length = 0;
  };
  return { store, looks, forget, hear };
}

const given = (preconditions: Partial<Preconditions>) => ({ ...NO_PRECONDITIONS, ...preconditions });
const document = (battery: number, cold: number) =>
  Buffer.from(`{"battery": ${battery}, "pad": "${"x".repeat(300_000)}", "cold": ${cold}}`);

function put(store: MemoryStore, bytes: Buffer, preconditions = NO_PRECONDITIONS) {
  const strategy = bytes[0] === 0x7b ? ("field_hybrid" as const) : ("replication" as const);
  return putObject(store.deps, putRequest("k", bytes, { strategy, preconditions }));
}

function remove(store: MemoryStore, preconditions = NO_PRECONDITIONS) {
  return deleteObject(store.deps, { bucket: BUCKET, key: keyOf("k"), preconditions });
}

function patch(store: MemoryStore, text: string, preconditions = NO_PRECONDITIONS) {
  const address = { bucket: BUCKET, key: keyOf("k") };
  return new ObjectPatcher(store.deps).patch({
    ...address,
    patch: Buffer.from(text),
    consistency: null,
    preconditions,
  });
}

async function quiet(store: MemoryStore): Promise<void> {
  for (let round = 0; round < 3; round += 1) {
    store.clock.advance(RELEASE_DELAY_MS);
    for (let turn = 0; turn < 3; turn += 1) await settle();
  }
  expect(await store.openIntents()).toEqual([]);
}

async function expectNoOrphans(store: MemoryStore): Promise<void> {
  await quiet(store);
  expect(await store.blobs()).toEqual(await store.namedBlobs());
}

describe("a writer that knows the current version", () => {
  it("asks nobody whether it is", async () => {
    const { store, looks } = openForgetful();
    const { etag } = await put(store, document(1, 1), given({ ifNoneMatch: ["*"] }));
    await put(store, document(2, 1), given({ ifMatch: [etag] }));
    await patch(store, '{"battery": 3}');
    expect(await remove(store)).toEqual({ existed: true });
    expect(looks).toEqual(["peek", "peek", "peek", "peek"]);
  });
});

describe("putObject() over a version that was replaced meanwhile", () => {
  it("finds that out at its commit, and frees the blobs of the version that it did replace", async () => {
    const { store, looks, forget } = openForgetful();
    await put(store, noise(5_000, 1));
    await forget();
    await put(store, noise(5_000, 2));
    looks.length = 0;
    await put(store, noise(5_000, 3));
    expect(looks).toEqual(["peek"]);
    expect((await store.read("k"))?.equals(noise(5_000, 3))).toBe(true);
    await expectNoOrphans(store);
  });

  it("is not refused for a precondition that holds by now", async () => {
    const { store, forget } = openForgetful();
    await forget();
    const { etag } = await put(store, noise(5_000, 1));
    await put(store, noise(5_000, 2), given({ ifMatch: [etag] }));
    await forget();
    await remove(store);
    await put(store, noise(5_000, 3), given({ ifNoneMatch: ["*"] }));
    expect((await store.read("k"))?.equals(noise(5_000, 3))).toBe(true);
  });

  it("is refused for one that does not hold any more, and leaves nothing", async () => {
    const { store, forget } = openForgetful();
    await forget();
    await put(store, noise(5_000, 1));
    const refusal = { code: "precondition_failed" };
    await expect(put(store, noise(5_000, 2), given({ ifNoneMatch: ["*"] }))).rejects.toMatchObject(refusal);
    await expect(put(store, noise(5_000, 2), given({ ifMatch: ["other"] }))).rejects.toMatchObject(refusal);
    expect((await store.read("k"))?.equals(noise(5_000, 1))).toBe(true);
    await expectNoOrphans(store);
  });

  it("shares no cold blobs with a document that is gone", async () => {
    const { store, forget } = openForgetful();
    await put(store, document(1, 1));
    await forget();
    await put(store, document(1, 2));
    await quiet(store);
    await put(store, document(3, 1));
    expect(JSON.parse(String(await store.read("k")))).toMatchObject({ battery: 3, cold: 1 });
    await expectNoOrphans(store);
  });
});

describe("deleteObject()", () => {
  it("deletes what it had not heard of, and does not report what is gone as deleted", async () => {
    const { store, forget } = openForgetful();
    await forget();
    await put(store, noise(5_000, 1));
    expect(await remove(store)).toEqual({ existed: true });
    await put(store, noise(5_000, 2));
    await forget();
    await remove(store);
    expect(await remove(store)).toEqual({ existed: false });
    expect(await store.read("k")).toBeNull();
  });

  it("evaluates its preconditions against what is there", async () => {
    const { store, forget } = openForgetful();
    const old = await put(store, noise(5_000, 1));
    await forget();
    const { etag } = await put(store, noise(5_000, 2));
    const refusal = { code: "precondition_failed" };
    await expect(remove(store, given({ ifMatch: [old.etag] }))).rejects.toMatchObject(refusal);
    expect(await remove(store, given({ ifMatch: [etag] }))).toEqual({ existed: true });
  });
});

describe("patch()", () => {
  it("finds a document that it had not heard of, and refuses one that is gone", async () => {
    const { store, forget } = openForgetful();
    await forget();
    await put(store, document(1, 1));
    await patch(store, '{"battery": 2}');
    expect(JSON.parse(String(await store.read("k")))).toMatchObject({ battery: 2 });
    await forget();
    await remove(store);
    await expect(patch(store, '{"battery": 3}')).rejects.toMatchObject({ code: "object_not_found" });
  });

  it("evaluates its preconditions against what is there", async () => {
    const { store, forget } = openForgetful();
    const old = await put(store, document(1, 1));
    await forget();
    const { etag } = await put(store, document(2, 1));
    await expect(patch(store, '{"battery": 9}', given({ ifMatch: [old.etag] }))).rejects.toMatchObject({
      code: "precondition_failed",
    });
    await patch(store, '{"battery": 3}', given({ ifMatch: [etag] }));
    expect(JSON.parse(String(await store.read("k")))).toMatchObject({ battery: 3 });
  });

  it("of cold fields starts over when the version it read is gone, blobs and all", async () => {
    const { store, forget } = openForgetful();
    await put(store, document(1, 1));
    await forget();
    await put(store, document(1, 2));
    await quiet(store);
    await patch(store, '{"new": 3}');
    expect(JSON.parse(String(await store.read("k")))).toMatchObject({ cold: 2, new: 3 });
    await expectNoOrphans(store);
  });

  it("is not refused because there was no document before", async () => {
    const { store, forget } = openForgetful();
    await put(store, noise(5_000, 1));
    await forget();
    await put(store, document(1, 1));
    await patch(store, '{"battery": 2}');
    expect(JSON.parse(String(await store.read("k")))).toMatchObject({ battery: 2, cold: 1 });
  });

  it("is refused once where there is none, by its contents or by its size", async () => {
    const { store, looks, hear } = openForgetful();
    await put(store, Buffer.from("[1, 2]".padEnd(5_000)));
    hear();
    await expect(patch(store, '{"battery": 2}')).rejects.toMatchObject({ code: "json_not_object" });
    expect(looks).toEqual(["peek", "get"]);
  });
});
