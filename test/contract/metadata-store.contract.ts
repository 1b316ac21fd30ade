import { describe, expect, test } from "vitest";
import type { BucketName, ObjectKey, Revision } from "../../src/domain/ids.ts";
import { REVISION_NONE } from "../../src/domain/ids.ts";
import type { ObjectRecord, StoredRecord } from "../../src/domain/record.ts";
import { systemClock } from "../../src/lib/clock.ts";
import type { Deadline } from "../../src/lib/deadline.ts";
import type { CommitResult, MetadataStore } from "../../src/metadata/metadata-store.ts";
import { commit, commitOk, keysOf, list, soon } from "../support/metadata-calls.ts";
import { BUCKET, OTHER_BUCKET, sampleRecord, sampleTxid } from "../support/sample-records.ts";
import { describeList } from "./metadata-list.contract.ts";

/** An empty store that keeps its contents across `reopen`. Deadlines are measured on the system clock. */
export type MetadataStoreHarness = AsyncDisposable & {
  /** The store as opened last. */
  readonly store: MetadataStore;
  /** Closes the store and opens it anew. */
  reopen(): Promise<void>;
};

export type OpenMetadataStore = () => Promise<MetadataStoreHarness>;

/** What every `MetadataStore` promises. Run by each adapter. */
export function describeMetadataStore(name: string, open: OpenMetadataStore): void {
  describe(name, () => {
    describeCommit(open);
    describeBatches(open);
    describeDurability(open);
    describeList(open);
    describeScanAndSummary(open);
    describeWatch(open);
  });
}

function describeCommit(open: OpenMetadataStore): void {
  test("get() answers null for a key without a record", async () => {
    await using harness = await open();
    expect(await harness.store.get(BUCKET, "a" as ObjectKey, soon())).toBeNull();
  });

  test("get() gives back the committed record, every field and byte of it", async () => {
    await using harness = await open();
    const record = sampleRecord("ключ/😀", {
      userMetadata: Object.assign(Object.create(null), { constructor: "1", größe: "2" }),
      manifest: { strategy: "inline", bytes: Buffer.from([0, 255, 10, 13]) },
      fencedTxids: [sampleTxid(9)],
      sha256: "0".repeat(64),
    });
    const revision = await commitOk(harness.store, record, REVISION_NONE);
    const stored = await harness.store.get(BUCKET, record.key, soon());
    expect(stored?.revision).toBe(revision);
    expect(plain(stored?.record)).toEqual(plain(record));
  });

  test("get() gives every reader a record of its own", async () => {
    await using harness = await open();
    await commitOk(harness.store, sampleRecord("a"), REVISION_NONE);
    const mine = await harness.store.get(BUCKET, "a" as ObjectKey, soon());
    const manifest = mine?.record.manifest;
    if (manifest?.strategy === "inline") manifest.bytes.fill(0);
    expect(textOf(await harness.store.get(BUCKET, "a" as ObjectKey, soon()))).toBe("abc");
  });

  test("commit() is done with the caller's memory when it returns its promise", async () => {
    await using harness = await open();
    const bytes = Buffer.from("abc");
    const committing = commitOk(
      harness.store,
      sampleRecord("a", { manifest: { strategy: "inline", bytes } }),
      REVISION_NONE,
    );
    bytes.fill(0);
    await committing;
    expect(textOf(await harness.store.get(BUCKET, "a" as ObjectKey, soon()))).toBe("abc");
  });

  test("commit() gives a key rising revisions", async () => {
    await using harness = await open();
    let revision = REVISION_NONE;
    for (let n = 0; n < 5; n += 1) {
      const next = await commitOk(harness.store, sampleRecord("a", { etag: `e${n}` }), revision);
      expect(next).toBeGreaterThan(revision);
      revision = next;
    }
  });

  test("commit() of a stale revision changes nothing and answers the record met", async () => {
    await using harness = await open();
    const first = await commitOk(harness.store, sampleRecord("a", { etag: "e1" }), REVISION_NONE);
    const second = await commitOk(harness.store, sampleRecord("a", { etag: "e2" }), first);
    for (const stale of [REVISION_NONE, first, (second + 1) as Revision]) {
      const conflict = await commit(harness.store, sampleRecord("a", { etag: "e3" }), stale);
      expect(conflict).toMatchObject({ ok: false, current: { revision: second, record: { etag: "e2" } } });
    }
    expect((await harness.store.get(BUCKET, "a" as ObjectKey, soon()))?.record.etag).toBe("e2");
  });

  test("commit() of a revision where there is no record conflicts with nothing", async () => {
    await using harness = await open();
    const conflict = await commit(harness.store, sampleRecord("a"), 7 as Revision);
    expect(conflict).toEqual({ ok: false, current: null });
    expect(await harness.store.get(BUCKET, "a" as ObjectKey, soon())).toBeNull();
  });

  test.each(["tombstone", "fence"] as const)("commit() with REVISION_NONE conflicts with a %s", async (state) => {
    await using harness = await open();
    const revision = await commitOk(harness.store, sampleRecord("a", { state }), REVISION_NONE);
    const conflict = await commit(harness.store, sampleRecord("a"), REVISION_NONE);
    expect(conflict).toMatchObject({ ok: false, current: { revision, record: { state } } });
    await commitOk(harness.store, sampleRecord("a"), revision);
    expect((await harness.store.get(BUCKET, "a" as ObjectKey, soon()))?.record.state).toBe("object");
  });

  test("commit() keeps apart keys that are alike", async () => {
    await using harness = await open();
    const keys = [
      "a",
      "A",
      "a/",
      "/a",
      "a//b",
      "a/../b",
      "%61",
      "\u00e9",
      "e\u0301",
      " ",
      "\n",
      "\u{ffff}",
      "\u{10000}",
    ];
    for (const key of keys) await commitOk(harness.store, sampleRecord(key, { etag: `of ${key}` }), REVISION_NONE);
    await commitOk(harness.store, sampleRecord("a", { bucket: OTHER_BUCKET, etag: "elsewhere" }), REVISION_NONE);
    for (const key of keys) {
      expect((await harness.store.get(BUCKET, key as ObjectKey, soon()))?.record.etag).toBe(`of ${key}`);
    }
    expect((await harness.store.get(OTHER_BUCKET, "a" as ObjectKey, soon()))?.record.etag).toBe("elsewhere");
  });

  test("commit() takes the longest bucket with the longest key", async () => {
    await using harness = await open();
    const bucket = "b".repeat(63) as BucketName;
    const key = "\u{1f600}".repeat(256);
    await commitOk(harness.store, sampleRecord(key, { bucket }), REVISION_NONE);
    expect((await harness.store.get(bucket, key as ObjectKey, soon()))?.record.key).toBe(key);
    const page = await list(harness.store, { prefix: key, after: "" }, bucket);
    expect(keysOf(page)).toEqual([key]);
    expect(keysOf(await list(harness.store, { after: key }, bucket))).toEqual([]);
  });

  test("commit() takes a record that holds a large inline body", async () => {
    await using harness = await open();
    const bytes = Buffer.alloc(100_000, 7);
    await commitOk(harness.store, sampleRecord("a", { manifest: { strategy: "inline", bytes } }), REVISION_NONE);
    await commitOk(harness.store, sampleRecord("b"), REVISION_NONE);
    const manifest = (await harness.store.get(BUCKET, "a" as ObjectKey, soon()))?.record.manifest;
    expect(manifest?.strategy === "inline" && Buffer.compare(manifest.bytes, bytes)).toBe(0);
  });

  test("commit() rejects with metadata_unavailable after its deadline", async () => {
    await using harness = await open();
    const late = harness.store.commit({ record: sampleRecord("a"), ifRevision: REVISION_NONE }, past());
    await late.then(
      // A store that needs no wait may answer in time all the same.
      (result) => expect(result.ok).toBe(true),
      (cause: unknown) => expect(cause).toMatchObject({ code: "metadata_unavailable", retriable: true }),
    );
  });
}

function describeBatches(open: OpenMetadataStore): void {
  test.each([
    ["first", [0]],
    ["middle", [3]],
    ["last", [7]],
    ["first, middle and last", [0, 3, 4, 7]],
    ["every", [0, 1, 2, 3, 4, 5, 6, 7]],
  ])("commit() answers a conflicting %s member by itself and takes the others", async (_, conflicting) => {
    await using harness = await open();
    const keys = [...Array(8).keys()].map((n) => `key-${n}`);
    const revisions: Revision[] = [];
    for (const key of keys) revisions.push(await commitOk(harness.store, sampleRecord(key), REVISION_NONE));

    const results = await Promise.all(
      keys.map((key, n) => {
        const ifRevision = conflicting.includes(n) ? REVISION_NONE : (revisions[n] as Revision);
        return commit(harness.store, sampleRecord(key, { etag: "new" }), ifRevision);
      }),
    );
    for (const [n, key] of keys.entries()) {
      const stored = await harness.store.get(BUCKET, key as ObjectKey, soon());
      const isConflict = conflicting.includes(n);
      expect(results[n]?.ok, key).toBe(!isConflict);
      expect(stored?.record.etag, key).toBe(isConflict ? "e1" : "new");
      const result = results[n] as CommitResult;
      expect(stored?.revision).toBe(result.ok ? result.revision : result.current?.revision);
    }
  });

  test("commit() lets exactly one of many racing creations win", async () => {
    await using harness = await open();
    const results = await Promise.all(
      [...Array(40).keys()].map((n) => commit(harness.store, sampleRecord("a", { etag: `e${n}` }), REVISION_NONE)),
    );
    const winners = results.flatMap((result, n) => (result.ok ? [n] : []));
    expect(winners).toHaveLength(1);
    const stored = await harness.store.get(BUCKET, "a" as ObjectKey, soon());
    expect(stored?.record.etag).toBe(`e${winners[0]}`);
    for (const result of results) {
      if (!result.ok) expect(result.current).toMatchObject({ revision: stored?.revision });
    }
  });

  test("commit() loses no increment of clients that retry with the revision they were answered", async () => {
    await using harness = await open();
    const increment = async () => {
      let current: StoredRecord | null = null;
      for (;;) {
        const record = sampleRecord("counter", { sizeBytes: (current?.record.sizeBytes ?? 0) + 1 });
        const result = await commit(harness.store, record, current?.revision ?? REVISION_NONE);
        if (result.ok) return;
        current = result.current;
      }
    };
    await Promise.all(
      [...Array(8).keys()].map(async () => {
        for (let n = 0; n < 10; n += 1) await increment();
      }),
    );
    expect((await harness.store.get(BUCKET, "counter" as ObjectKey, soon()))?.record.sizeBytes).toBe(80);
  });

  test("get() and list() see a commit as soon as it was acknowledged", async () => {
    await using harness = await open();
    await Promise.all(
      [...Array(20).keys()].map(async (n) => {
        const key = `key-${n}`;
        const revision = await commitOk(harness.store, sampleRecord(key), REVISION_NONE);
        expect((await harness.store.get(BUCKET, key as ObjectKey, soon()))?.revision).toBe(revision);
        expect(keysOf(await list(harness.store, {}))).toContain(key);
      }),
    );
  });
}

function describeDurability(open: OpenMetadataStore): void {
  test("reopening keeps all records with their revisions", async () => {
    await using harness = await open();
    const revisions = new Map<string, Revision>();
    for (const key of ["a", "b", "ü", "\u{1f600}"]) {
      revisions.set(key, await commitOk(harness.store, sampleRecord(key), REVISION_NONE));
    }
    revisions.set("b", await commitOk(harness.store, sampleRecord("b", { state: "tombstone" }), revisions.get("b")!));
    const before = await harness.store.summarize(soon());

    await harness.reopen();
    for (const [key, revision] of revisions) {
      expect((await harness.store.get(BUCKET, key as ObjectKey, soon()))?.revision, key).toBe(revision);
    }
    expect(keysOf(await list(harness.store, {}))).toEqual(["a", "ü", "\u{1f600}"]);
    expect(await harness.store.summarize(soon())).toEqual(before);
  });

  test("reopening gives no revision of a key again", async () => {
    await using harness = await open();
    let revision = REVISION_NONE;
    for (let n = 0; n < 4; n += 1) {
      const next = await commitOk(harness.store, sampleRecord("a"), revision);
      expect(next).toBeGreaterThan(revision);
      revision = next;
      await harness.reopen();
    }
  });

  test("close() answers the commits that were called before it", async () => {
    await using harness = await open();
    const committing = commitOk(harness.store, sampleRecord("a"), REVISION_NONE);
    const closing = harness.store.close();
    const revision = await committing;
    await closing;
    await harness.reopen();
    expect((await harness.store.get(BUCKET, "a" as ObjectKey, soon()))?.revision).toBe(revision);
  });

  test("close() leaves a store that rejects with metadata_unavailable", async () => {
    await using harness = await open();
    await harness.store.close();
    const closed = { code: "metadata_unavailable" };
    await expect(harness.store.get(BUCKET, "a" as ObjectKey, soon())).rejects.toMatchObject(closed);
    await expect(commit(harness.store, sampleRecord("a"), REVISION_NONE)).rejects.toMatchObject(closed);
    await expect(list(harness.store, {})).rejects.toMatchObject(closed);
  });
}

function describeScanAndSummary(open: OpenMetadataStore): void {
  test("scan() gives all records of all states and buckets once, in one order", async () => {
    await using harness = await open();
    const states = ["object", "tombstone", "fence"] as const;
    const expected = new Set<string>();
    for (const bucket of [BUCKET, OTHER_BUCKET]) {
      for (const [n, key] of ["a", "a/b", "é", "\u{1f600}", "\uffff"].entries()) {
        await commitOk(harness.store, sampleRecord(key, { bucket, state: states[n % 3]! }), REVISION_NONE);
        expected.add(`${bucket} ${key}`);
      }
    }
    for (const limit of [1, 3, 100]) {
      const found = await scanAll(harness.store, limit);
      expect(found.map(({ record }) => `${record.bucket} ${record.key}`)).toHaveLength(expected.size);
      expect(new Set(found.map(({ record }) => `${record.bucket} ${record.key}`))).toEqual(expected);
    }
    expect((await scanAll(harness.store, 1)).map(nameOf)).toEqual((await scanAll(harness.store, 100)).map(nameOf));
  });

  test("summarize() counts readable objects and their bytes per bucket", async () => {
    await using harness = await open();
    expect(await harness.store.summarize(soon())).toEqual([]);
    const a = await commitOk(harness.store, sampleRecord("a", { sizeBytes: 10 }), REVISION_NONE);
    const b = await commitOk(harness.store, sampleRecord("b", { sizeBytes: 2 ** 42 }), REVISION_NONE);
    await commitOk(harness.store, sampleRecord("c", { sizeBytes: 7, state: "fence" }), REVISION_NONE);
    await commitOk(harness.store, sampleRecord("a", { bucket: OTHER_BUCKET, sizeBytes: 1 }), REVISION_NONE);
    await commitOk(harness.store, sampleRecord("a", { sizeBytes: 30 }), a);
    await commit(harness.store, sampleRecord("a", { sizeBytes: 999 }), a);
    const other = { bucket: OTHER_BUCKET, objectCount: 1, objectBytes: 1 };
    expect(await harness.store.summarize(soon())).toEqual([
      { bucket: BUCKET, objectCount: 2, objectBytes: 30 + 2 ** 42 },
      other,
    ]);
    await commitOk(harness.store, sampleRecord("b", { sizeBytes: 2 ** 42, state: "tombstone" }), b);
    expect(await harness.store.summarize(soon())).toEqual([{ bucket: BUCKET, objectCount: 1, objectBytes: 30 }, other]);
  });

  test("summarize() leaves out a bucket whose last object was deleted", async () => {
    await using harness = await open();
    const revision = await commitOk(harness.store, sampleRecord("a"), REVISION_NONE);
    await commitOk(harness.store, sampleRecord("a", { state: "tombstone" }), revision);
    expect(await harness.store.summarize(soon())).toEqual([]);
  });
}

function describeWatch(open: OpenMetadataStore): void {
  test("watch() tells of every commit, in order per key, and of no conflict", async () => {
    await using harness = await open();
    const told = watchUntil(harness.store, 6);
    for (const key of ["a", "b"]) {
      let revision = REVISION_NONE;
      for (const etag of ["1", "2", "3"]) {
        revision = await commitOk(harness.store, sampleRecord(key, { etag }), revision);
        await commit(harness.store, sampleRecord(key, { etag: "never" }), REVISION_NONE);
      }
    }
    const stored = await told;
    for (const key of ["a", "b"]) {
      const ofKey = stored.filter(({ record }) => record.key === key);
      expect(ofKey.map(({ record }) => record.etag)).toEqual(["1", "2", "3"]);
      const last = await harness.store.get(BUCKET, key as ObjectKey, soon());
      expect(ofKey.at(-1)?.revision).toBe(last?.revision);
    }
  });

  test("watch() ends when its function is called", async () => {
    await using harness = await open();
    let isToldCount = 0;
    const stop = harness.store.watch(() => (isToldCount += 1));
    stop();
    const toldAfter = watchUntil(harness.store, 1);
    await commitOk(harness.store, sampleRecord("a"), REVISION_NONE);
    await toldAfter;
    expect(isToldCount).toBe(0);
  });
}

function past(): Deadline {
  return { atMs: systemClock.monotonicMs() - 1 };
}

async function scanAll(store: MetadataStore, limit: number): Promise<StoredRecord[]> {
  const found: StoredRecord[] = [];
  for (;;) {
    const last = found.at(-1)?.record;
    const page = await store.scan(last === undefined ? null : { bucket: last.bucket, key: last.key }, limit, soon());
    if (page.length === 0) return found;
    expect(page.length).toBeLessThanOrEqual(limit);
    found.push(...page);
  }
}

function watchUntil(store: MetadataStore, count: number): Promise<StoredRecord[]> {
  return new Promise((resolve) => {
    const told: StoredRecord[] = [];
    const stop = store.watch((stored) => {
      told.push(stored);
      if (told.length < count) return;
      stop();
      resolve(told);
    });
  });
}

function nameOf({ record }: StoredRecord): string {
  return `${record.bucket} ${record.key}`;
}

function textOf(stored: StoredRecord | null): string | null {
  const manifest = stored?.record.manifest;
  return manifest?.strategy === "inline" ? Buffer.from(manifest.bytes).toString() : null;
}

/** Without the differences that do not matter: kinds of byte arrays and prototypes. */
function plain(record: ObjectRecord | undefined): unknown {
  if (record?.manifest.strategy !== "inline") return record;
  const manifest = { ...record.manifest, bytes: [...record.manifest.bytes] };
  return { ...record, userMetadata: Object.entries(record.userMetadata), manifest };
}
