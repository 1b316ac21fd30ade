import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { BucketName, ObjectKey, Revision } from "../../src/domain/ids.ts";
import { REVISION_NONE } from "../../src/domain/ids.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { deadlineIn } from "../../src/lib/deadline.ts";
import { openLmdbMetadataStore } from "../../src/metadata/lmdb-metadata-store.ts";
import type { CommitResult, MetadataStore } from "../../src/metadata/metadata-store.ts";
import { makeLmdbDirectory } from "../support/lmdb-directory.ts";
import { BUCKET, OTHER_BUCKET, sampleRecord } from "../support/sample-records.ts";

type Write = {
  readonly bucket: BucketName;
  readonly key: string;
  readonly state: "object" | "tombstone" | "fence";
  readonly sizeBytes: number;
  /** Which revision the writer believes in. */
  readonly belief: "right" | "none" | "stale" | "future";
};
type Step = { readonly kind: "commit"; readonly writes: readonly Write[] } | { readonly kind: "reopen" };
type Known = { readonly write: Write; readonly revision: Revision; readonly replaced: Revision };

const write: fc.Arbitrary<Write> = fc.record({
  bucket: fc.constantFrom(BUCKET, BUCKET, OTHER_BUCKET),
  key: fc.constantFrom("a", "b", "b/c", "温", "\u{1f600}"),
  state: fc.constantFrom("object", "object", "tombstone", "fence"),
  sizeBytes: fc.nat({ max: 2 ** 40 }),
  belief: fc.constantFrom("right", "right", "right", "none", "stale", "future"),
});
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({ kind: fc.constant("commit"), writes: fc.array(write, { minLength: 1, maxLength: 12 }) }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("reopen") }) },
);

describe("LMDB metadata store", () => {
  test("behaves as a map with revisions under random batches, conflicts and reopenings", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 15 }), async (steps) => {
        await using directory = await makeLmdbDirectory();
        const open = async () => openLmdbMetadataStore({ environment: await directory.open(), clock: systemClock });
        let store = await open();
        const model = new Model();
        for (const current of steps) {
          if (current.kind === "commit") await commitTogether(store, model, current.writes);
          else {
            await store.close();
            store = await open();
          }
          await model.compare(store);
        }
        await store.close();
      }),
      { numRuns: 60 },
    );
  });
});

/** Starts all writes in one go, so that they meet in a batch; each must be decided after those before it. */
async function commitTogether(store: MetadataStore, model: Model, writes: readonly Write[]): Promise<void> {
  const beliefs = writes.map((current) => model.revisionOf(current));
  const results = await Promise.all(
    writes.map((current, index) =>
      store.commit({ record: recordOf(current), ifRevision: beliefs[index] as Revision }, soon()),
    ),
  );
  writes.forEach((current, index) => model.apply(current, beliefs[index] as Revision, results[index] as CommitResult));
}

class Model {
  readonly #known = new Map<string, Known>();
  #revisionLast = REVISION_NONE;

  revisionOf({ bucket, key, belief }: Write): Revision {
    const known = this.#known.get(`${bucket} ${key}`);
    if (belief === "future") return (this.#revisionLast + 1_000) as Revision;
    if (known === undefined || belief === "none") return REVISION_NONE;
    return belief === "right" ? known.revision : known.replaced;
  }

  apply(current: Write, ifRevision: Revision, result: CommitResult): void {
    const name = `${current.bucket} ${current.key}`;
    const known = this.#known.get(name);
    const isRight = (known?.revision ?? REVISION_NONE) === ifRevision;
    expect(result.ok).toBe(isRight);
    if (result.ok) {
      expect(result.revision).toBeGreaterThan(this.#revisionLast);
      this.#revisionLast = result.revision;
      this.#known.set(name, { write: current, revision: result.revision, replaced: known?.revision ?? REVISION_NONE });
    } else {
      expect(result.current?.revision).toBe(known?.revision);
      if (known !== undefined) expect(result.current?.record).toMatchObject(fieldsOf(known.write));
    }
  }

  async compare(store: MetadataStore): Promise<void> {
    const found = await store.scan(null, 100, soon());
    expect(found.map(({ record, revision }) => `${record.bucket} ${record.key} ${revision}`).toSorted()).toEqual(
      [...this.#known].map(([name, { revision }]) => `${name} ${revision}`).toSorted(),
    );
    for (const bucket of [BUCKET, OTHER_BUCKET]) {
      const readable = [...this.#known.values()].filter(({ write: w }) => w.bucket === bucket && w.state === "object");
      const page = await store.list(bucket, { prefix: "", delimiter: "", after: "", limit: 100 }, soon());
      expect(page.entries.map(({ revision }) => revision).toSorted()).toEqual(
        readable.map(({ revision }) => revision).toSorted(),
      );
      const summary = (await store.summarize(soon())).find((each) => each.bucket === bucket);
      expect(summary?.objectCount ?? 0).toBe(readable.length);
      expect(summary?.objectBytes ?? 0).toBe(readable.reduce((sum, { write: w }) => sum + w.sizeBytes, 0));
    }
    for (const { write: current, revision } of this.#known.values()) {
      const stored = await store.get(current.bucket, current.key as ObjectKey, soon());
      expect(stored).toMatchObject({ revision, record: fieldsOf(current) });
    }
  }
}

function fieldsOf({ bucket, key, state, sizeBytes }: Write) {
  return { bucket, key: key as ObjectKey, state, sizeBytes };
}

function recordOf(current: Write) {
  return sampleRecord(current.key, fieldsOf(current));
}

function soon() {
  return deadlineIn(systemClock, 30_000);
}
