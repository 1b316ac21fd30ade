import { describe, expect, test } from "vitest";
import type { BucketName, Revision } from "../../../src/domain/ids.ts";
import type { PendingChange } from "../../../src/metadata/plan-commits.ts";
import { planCommits } from "../../../src/metadata/plan-commits.ts";
import type { StoredValue } from "../../../src/metadata/stored-value.ts";
import { encodeStoredValue, revisionOf, withRevision } from "../../../src/metadata/stored-value.ts";
import { BUCKET, sampleRecord } from "../../support/sample-records.ts";

/** The store holds `old` at revision 4 with 10 bytes; the last revision given is 9. */
const old = withRevision(valueOf("old", 10), 4 as Revision);

describe("planCommits()", () => {
  test("gives the next revisions in the order of the changes", () => {
    const { outcomes, revisionLast } = plan([change("a", 0), change("b", 0), change("old", 4)]);
    expect(outcomes).toEqual([
      { ok: true, revision: 10 },
      { ok: true, revision: 11 },
      { ok: true, revision: 12 },
    ]);
    expect(revisionLast).toBe(12);
  });

  test("spends no revision on a conflict and answers it with what the store holds", () => {
    const { outcomes, writes, revisionLast } = plan([change("old", 0), change("gone", 4), change("a", 0)]);
    expect(outcomes).toEqual([
      { ok: false, current: old },
      { ok: false, current: null },
      { ok: true, revision: 10 },
    ]);
    expect([...writes.keys()]).toEqual(["a"]);
    expect(revisionLast).toBe(10);
  });

  test("lets later changes of a key see earlier ones, and writes only the last with what the store held", () => {
    const [first, second, third] = [change("old", 4), change("old", 4), change("old", 10)];
    const { outcomes, writes } = plan([first, second, third]);
    expect(outcomes).toEqual([
      { ok: true, revision: 10 },
      { ok: false, current: first.value },
      { ok: true, revision: 11 },
    ]);
    expect(writes.get("old")).toEqual({ value: third.value, previous: old });
    expect([revisionOf(first.value), revisionOf(third.value)]).toEqual([10, 11]);
  });

  test("writes nothing for a batch of conflicts", () => {
    const { writes, summaries, revisionLast } = plan([change("old", 3), change("a", 1)]);
    expect([writes.size, summaries.size, revisionLast]).toEqual([0, 0, 9]);
  });

  test("sums up a bucket over all changes of the batch", () => {
    const changes = [
      change("a", 0, 100),
      change("old", 4, 7),
      change("b", 0, 5, "tombstone"),
      change("a", 10, 3, "tombstone"),
    ];
    expect(plan(changes).summaries.get(BUCKET)).toEqual({ bucket: BUCKET, objectCount: 1, objectBytes: 7 });
  });

  test("leaves the summary alone when nothing countable changed", () => {
    expect(plan([change("old", 4, 10), change("f", 0, 9, "fence")]).summaries.size).toBe(0);
  });
});

function plan(changes: readonly PendingChange[]) {
  const summary = { bucket: BUCKET, objectCount: 1, objectBytes: 10 };
  return planCommits(
    {
      revisionLast: 9 as Revision,
      readValue: (slot) => (slot === "old" ? old : null),
      readSummary: (bucket: BucketName) => (bucket === BUCKET ? summary : null),
    },
    changes,
  );
}

function change(slot: string, ifRevision: number, sizeBytes = 1, state: "object" | "tombstone" | "fence" = "object") {
  return { bucket: BUCKET, slot, value: valueOf(slot, sizeBytes, state), ifRevision: ifRevision as Revision };
}

function valueOf(key: string, sizeBytes: number, state: "object" | "tombstone" | "fence" = "object"): StoredValue {
  return encodeStoredValue(sampleRecord(key, { sizeBytes, state }));
}
