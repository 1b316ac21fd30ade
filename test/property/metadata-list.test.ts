import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { ObjectKey } from "../../src/domain/ids.ts";
import { REVISION_NONE } from "../../src/domain/ids.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { deadlineIn } from "../../src/lib/deadline.ts";
import { openLmdbMetadataStore } from "../../src/metadata/lmdb-metadata-store.ts";
import { createMemoryMetadataStore } from "../../src/metadata/memory-metadata-store.ts";
import type { ListOptions, MetadataStore } from "../../src/metadata/metadata-store.ts";
import { makeLmdbDirectory } from "../support/lmdb-directory.ts";
import { BUCKET, OTHER_BUCKET, sampleRecord } from "../support/sample-records.ts";

/** Characters of one to four bytes, among them those whose order differs between UTF-8 and UTF-16. */
const text = (maxLength: number, minLength = 0) =>
  fc
    .array(fc.constantFrom("a", "b", "/", "/", "-", "é", "温", "\ue000", "\uffff", "\u{10000}", "\u{1f600}"), {
      minLength,
      maxLength,
    })
    .map((parts) => parts.join(""));

const scenario = fc.record({
  keys: fc.uniqueArray(fc.record({ key: text(5, 1), isReadable: fc.constantFrom(true, true, false) }), {
    selector: ({ key }) => key,
    maxLength: 40,
  }),
  queries: fc.array(
    fc.record({
      prefix: text(3),
      delimiter: fc.oneof(fc.constantFrom("", "/", "a/", "é", "\u{1f600}"), text(2)),
      after: text(4),
      limit: fc.integer({ min: 1, max: 6 }),
    }),
    { minLength: 1, maxLength: 10 },
  ),
});

describe("list()", () => {
  test("equals a naive listing, in the memory store", async () => {
    await fc.assert(
      fc.asyncProperty(scenario, async ({ keys, queries }) => {
        const store = createMemoryMetadataStore();
        await fill(store, keys);
        await compareWithOracle(store, keys, queries);
      }),
      { numRuns: 400 },
    );
  });

  test("equals a naive listing, in the LMDB store", async () => {
    await fc.assert(
      fc.asyncProperty(scenario, async ({ keys, queries }) => {
        await using directory = await makeLmdbDirectory();
        const store = openLmdbMetadataStore({ environment: await directory.open(), clock: systemClock });
        await fill(store, keys);
        await compareWithOracle(store, keys, queries);
        await store.close();
      }),
      { numRuns: 60 },
    );
  });
});

type Key = { readonly key: string; readonly isReadable: boolean };

async function fill(store: MetadataStore, keys: readonly Key[]): Promise<void> {
  const records = keys.flatMap(({ key, isReadable }) => [
    sampleRecord(key, { state: isReadable ? "object" : "tombstone" }),
    sampleRecord(`${key}elsewhere`, { bucket: OTHER_BUCKET }),
  ]);
  await Promise.all(records.map((record) => store.commit({ record, ifRevision: REVISION_NONE }, soon())));
}

async function compareWithOracle(store: MetadataStore, keys: readonly Key[], queries: readonly ListOptions[]) {
  const readable = keys.filter(({ isReadable }) => isReadable).map(({ key }) => key);
  for (const query of queries) {
    const expected = listNaively(readable, query);
    const found: string[] = [];
    // Each page is checked by itself, and then that `next` leads through all of them.
    for (let after: string | null = query.after; after !== null;) {
      const page = await store.list(BUCKET, { ...query, after }, soon());
      const items = [...page.entries.map(({ record }) => record.key as string), ...page.commonPrefixes].toSorted(
        byBytes,
      );
      expect(items).toEqual(expected.slice(found.length, found.length + query.limit));
      found.push(...items);
      expect(page.next).toBe(found.length < expected.length ? items.at(-1) : null);
      after = page.next;
    }
    for (const key of found) {
      if (readable.includes(key)) expect(await store.get(BUCKET, key as ObjectKey, soon())).not.toBeNull();
    }
  }
}

/** Filters, groups and sorts all keys: slow, and as short as the definition. */
function listNaively(keys: readonly string[], { prefix, delimiter, after }: ListOptions): string[] {
  const items = keys
    .filter((key) => key.startsWith(prefix) && byBytes(key, after) > 0)
    .map((key) => {
      const at = delimiter === "" ? -1 : key.indexOf(delimiter, prefix.length);
      return { isGroup: at !== -1, item: at === -1 ? key : key.slice(0, at + delimiter.length) };
    })
    .filter(({ isGroup, item }) => !(isGroup && item === after))
    .map(({ item }) => item);
  return [...new Set(items)].toSorted(byBytes);
}

function byBytes(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}

function soon() {
  return deadlineIn(systemClock, 30_000);
}
