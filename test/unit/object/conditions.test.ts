import { describe, expect, it } from "vitest";
import type { Revision } from "../../../src/domain/ids.ts";
import type { ObjectRecord, StoredRecord } from "../../../src/domain/record.ts";
import type { ConditionOutcome } from "../../../src/object/conditions.ts";
import { evaluateConditions, readable, requireConditions } from "../../../src/object/conditions.ts";
import type { Preconditions } from "../../../src/object/requests.ts";
import { NO_PRECONDITIONS } from "../../../src/object/requests.ts";
import { sampleRecord } from "../../support/sample-records.ts";

/** HTTP dates have whole seconds; the record was modified a little later than one. */
const SECOND = 1_750_000_000_000;
const MODIFIED = SECOND + 400;

const stored = (changes: Partial<ObjectRecord> = {}): StoredRecord => ({
  record: sampleRecord("k", { etag: "e1", modifiedAtMs: MODIFIED, ...changes }),
  revision: 3 as Revision,
});

type Case = readonly [
  given: Partial<Preconditions>,
  read: ConditionOutcome,
  write: ConditionOutcome,
  /** Where nothing is stored. */
  absent: ConditionOutcome,
];

/** RFC 9110 §13.2.2, step by step. */
const CASES: readonly Case[] = [
  [{}, "proceed", "proceed", "proceed"],
  // 1: If-Match
  [{ ifMatch: ["e1"] }, "proceed", "proceed", "failed"],
  [{ ifMatch: ["e0", "e1"] }, "proceed", "proceed", "failed"],
  [{ ifMatch: ["e0"] }, "failed", "failed", "failed"],
  [{ ifMatch: ["E1"] }, "failed", "failed", "failed"],
  [{ ifMatch: [] }, "failed", "failed", "failed"],
  [{ ifMatch: ["*"] }, "proceed", "proceed", "failed"],
  // 2: If-Unmodified-Since, only without If-Match; a resource without a date has nothing to compare
  [{ ifUnmodifiedSinceMs: SECOND }, "proceed", "proceed", "proceed"],
  [{ ifUnmodifiedSinceMs: SECOND + 1_000 }, "proceed", "proceed", "proceed"],
  [{ ifUnmodifiedSinceMs: SECOND - 1_000 }, "failed", "failed", "proceed"],
  [{ ifMatch: ["e1"], ifUnmodifiedSinceMs: SECOND - 1_000 }, "proceed", "proceed", "failed"],
  [{ ifMatch: ["e0"], ifUnmodifiedSinceMs: SECOND }, "failed", "failed", "failed"],
  // 3: If-None-Match
  [{ ifNoneMatch: ["e1"] }, "not_modified", "failed", "proceed"],
  [{ ifNoneMatch: ["e0", "e1"] }, "not_modified", "failed", "proceed"],
  [{ ifNoneMatch: ["e0"] }, "proceed", "proceed", "proceed"],
  [{ ifNoneMatch: [] }, "proceed", "proceed", "proceed"],
  [{ ifNoneMatch: ["*"] }, "not_modified", "failed", "proceed"],
  // 4: If-Modified-Since, only of reads and only without If-None-Match
  [{ ifModifiedSinceMs: SECOND }, "not_modified", "proceed", "proceed"],
  [{ ifModifiedSinceMs: SECOND + 1_000 }, "not_modified", "proceed", "proceed"],
  [{ ifModifiedSinceMs: SECOND - 1_000 }, "proceed", "proceed", "proceed"],
  [{ ifNoneMatch: ["e0"], ifModifiedSinceMs: SECOND }, "proceed", "proceed", "proceed"],
  [{ ifNoneMatch: ["e1"], ifModifiedSinceMs: SECOND - 1_000 }, "not_modified", "failed", "proceed"],
  // Both kinds: the first that fails decides, and failing outweighs being unmodified
  [{ ifMatch: ["e0"], ifNoneMatch: ["e1"] }, "failed", "failed", "failed"],
  [{ ifMatch: ["e1"], ifNoneMatch: ["e1"] }, "not_modified", "failed", "failed"],
  [{ ifMatch: ["e1"], ifModifiedSinceMs: SECOND }, "not_modified", "proceed", "failed"],
  [{ ifUnmodifiedSinceMs: SECOND - 1_000, ifNoneMatch: ["e1"] }, "failed", "failed", "proceed"],
  [{ ifUnmodifiedSinceMs: SECOND, ifModifiedSinceMs: SECOND }, "not_modified", "proceed", "proceed"],
];

describe("evaluateConditions()", () => {
  it.each(CASES)("decides %j: read %s, write %s, absent %s", (given, read, write, absent) => {
    const conditions = { ...NO_PRECONDITIONS, ...given };
    expect(evaluateConditions(conditions, stored(), "read")).toBe(read);
    expect(evaluateConditions(conditions, stored(), "write")).toBe(write);
    expect(evaluateConditions(conditions, null, "write")).toBe(absent);
    expect(evaluateConditions(conditions, null, "read")).toBe(absent);
  });
});

describe("readable()", () => {
  it("shows objects and neither tombstones nor fences", () => {
    expect(readable(stored())).not.toBeNull();
    expect(readable(stored({ state: "tombstone" }))).toBeNull();
    expect(readable(stored({ state: "fence" }))).toBeNull();
    expect(readable(null)).toBeNull();
  });
});

describe("requireConditions()", () => {
  it("treats what a client cannot see as absent", () => {
    for (const state of ["tombstone", "fence"] as const) {
      const hidden = stored({ state });
      expect(() => requireConditions({ ...NO_PRECONDITIONS, ifNoneMatch: ["*"] }, hidden)).not.toThrow();
      expect(() => requireConditions({ ...NO_PRECONDITIONS, ifMatch: ["e1"] }, hidden)).toThrow("does not exist");
    }
  });

  it("names the entity tag that it met", () => {
    const call = () => requireConditions({ ...NO_PRECONDITIONS, ifMatch: ["e0"] }, stored());
    expect(call).toThrowError(expect.objectContaining({ code: "precondition_failed" }));
    expect(call).toThrow('entity tag is "e1"');
  });
});
