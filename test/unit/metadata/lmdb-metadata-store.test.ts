import { describe, expect, test } from "vitest";
import type { ObjectKey, Revision } from "../../../src/domain/ids.ts";
import { REVISION_NONE } from "../../../src/domain/ids.ts";
import type { Clock } from "../../../src/lib/clock.ts";
import { systemClock } from "../../../src/lib/clock.ts";
import { deadlineIn } from "../../../src/lib/deadline.ts";
import { nextTurn } from "../../../src/lib/next-turn.ts";
import { openLmdbMetadataStore } from "../../../src/metadata/lmdb-metadata-store.ts";
import { makeLmdbDirectory } from "../../support/lmdb-directory.ts";
import { BUCKET, sampleRecord } from "../../support/sample-records.ts";

const KEY = "a" as ObjectKey;
const LIST_ALL = { prefix: "", delimiter: "", after: "", limit: 1_000 };

describe("LMDB metadata store", () => {
  test("get(), list() and scan() show no commit before it is flushed", async () => {
    await using directory = await makeLmdbDirectory();
    const environment = await directory.open();
    const store = openLmdbMetadataStore({ environment, clock: systemClock });
    let revision = REVISION_NONE;
    let readsBeforeAnswerCount = 0;
    for (let n = 0; n < 60; n += 1) {
      let answered: Revision | null = null;
      const committing = store.commit({ record: sampleRecord(KEY), ifRevision: revision }, soon()).then((result) => {
        answered = result.ok ? result.revision : REVISION_NONE;
      });
      while (answered === null) {
        readsBeforeAnswerCount += 1;
        // These read before they first await, so what is known now is what they may show.
        const [stored, page, scanned] = [
          store.get(BUCKET, KEY, soon()),
          store.list(BUCKET, LIST_ALL, soon()),
          store.scan(null, 10, soon()),
        ];
        const expected = revision === REVISION_NONE ? [] : [revision];
        expect((await stored)?.revision ?? REVISION_NONE).toBe(revision);
        expect((await page).entries.map((entry) => entry.revision)).toEqual(expected);
        expect((await scanned).map((entry) => entry.revision).slice(0, expected.length)).toEqual(expected);
        await nextTurn();
      }
      await committing;
      revision = answered;
      expect((await store.get(BUCKET, KEY, soon()))?.revision).toBe(revision);
    }
    expect(readsBeforeAnswerCount).toBeGreaterThan(60);
    await store.close();
  });

  test("commit() writes all that waits as one transaction", async () => {
    await using directory = await makeLmdbDirectory();
    const environment = await directory.open();
    let writeCount = 0;
    const counted = Object.assign(Object.create(environment), {
      read: environment.read.bind(environment),
      write: (...given: Parameters<typeof environment.write>) => {
        writeCount += 1;
        return environment.write(...given);
      },
    });
    const store = openLmdbMetadataStore({ environment: counted, clock: systemClock });
    await Promise.all(
      [...Array(200).keys()].map((n) =>
        store.commit({ record: sampleRecord(`key-${n}`), ifRevision: REVISION_NONE }, soon()),
      ),
    );
    expect(writeCount).toBe(1);
    await store.close();
  });

  test("commit() whose deadline passed while it waited changes nothing", async () => {
    await using directory = await makeLmdbDirectory();
    const store = openLmdbMetadataStore({ environment: await directory.open(), clock: systemClock });
    const late = store.commit({ record: sampleRecord(KEY), ifRevision: REVISION_NONE }, { atMs: 0 });
    await expect(late).rejects.toMatchObject({ code: "metadata_unavailable", retriable: true });
    expect(await store.get(BUCKET, KEY, soon())).toBeNull();
    await store.close();
  });

  test("a storage error rejects as metadata_unavailable, and everything after it", async () => {
    await using directory = await makeLmdbDirectory({ clock: impatientClock });
    const store = openLmdbMetadataStore({ environment: await directory.open(), clock: systemClock });
    const unavailable = { code: "metadata_unavailable", retriable: true };
    const change = { record: sampleRecord(KEY), ifRevision: REVISION_NONE };
    await expect(store.commit(change, soon())).rejects.toMatchObject(unavailable);
    await expect(store.commit(change, soon())).rejects.toMatchObject(unavailable);
    await expect(store.get(BUCKET, KEY, soon())).rejects.toMatchObject(unavailable);
    await expect(store.list(BUCKET, LIST_ALL, soon())).rejects.toMatchObject(unavailable);
    await expect(store.scan(null, 1, soon())).rejects.toMatchObject(unavailable);
    expect(directory.fences).toHaveLength(1);
    await store.close();
  });

  test("a refused write rejects as metadata_unavailable and changes nothing", async () => {
    await using directory = await makeLmdbDirectory({ diskFreeBytesMin: Number.MAX_SAFE_INTEGER });
    const store = openLmdbMetadataStore({ environment: await directory.open(), clock: systemClock });
    const change = { record: sampleRecord(KEY), ifRevision: REVISION_NONE };
    await expect(store.commit(change, soon())).rejects.toMatchObject({ code: "metadata_unavailable", retriable: true });
    expect(await store.get(BUCKET, KEY, soon())).toBeNull();
    expect(await store.summarize(soon())).toEqual([]);
    await store.close();
  });

  test("list() lets other work run while it passes over tombstones", async () => {
    await using directory = await makeLmdbDirectory();
    const store = openLmdbMetadataStore({ environment: await directory.open(), clock: systemClock });
    await Promise.all(
      [...Array(2_000).keys()].map((n) =>
        store.commit({ record: sampleRecord(`key-${n}`, { state: "tombstone" }), ifRevision: REVISION_NONE }, soon()),
      ),
    );
    let turnCount = 0;
    let isListing = true;
    const listing = store.list(BUCKET, LIST_ALL, soon()).finally(() => (isListing = false));
    for (; isListing; turnCount += 1) await nextTurn();
    expect((await listing).entries).toEqual([]);
    expect(turnCount).toBeGreaterThanOrEqual(2_000 / 256 - 1);
    await store.close();
  });

  test("list() reads a large group once, not key by key", async () => {
    await using directory = await makeLmdbDirectory();
    const store = openLmdbMetadataStore({ environment: await directory.open(), clock: systemClock });
    await Promise.all(
      [...Array(3_000).keys()].map((n) =>
        store.commit({ record: sampleRecord(`group/${n}`), ifRevision: REVISION_NONE }, soon()),
      ),
    );
    let turnCount = 0;
    let isListing = true;
    const listing = store.list(BUCKET, { ...LIST_ALL, delimiter: "/" }, soon()).finally(() => (isListing = false));
    for (; isListing; turnCount += 1) await nextTurn();
    expect((await listing).commonPrefixes).toEqual(["group/"]);
    // One chunk of a listing reads far fewer keys than the group has.
    expect(turnCount).toBeLessThanOrEqual(1);
    await store.close();
  });
});

/** Every wait is over before it begins. */
const impatientClock: Clock = {
  ...systemClock,
  startTimer(_, action) {
    action();
    return { cancel() {} };
  },
};

function soon() {
  return deadlineIn(systemClock, 30_000);
}
