import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { describeOperation, type Action, type Operation } from "../../faults/checkers/register.ts";
import { searchOrder } from "../../faults/checkers/search-check.ts";
import { checkZones } from "../../faults/checkers/zone-check.ts";

type Line = readonly [startMs: number, endMs: number | null, action: Action];

const put = (value: string): Action => ({ kind: "put", value, condition: null });
const putIf = (held: string, value: string): Action => ({
  ...{ kind: "put", value },
  condition: { kind: "holds", value: held },
});
const create = (value: string): Action => ({ kind: "put", value, condition: { kind: "absent" } });
const read = (value: string | null): Action => ({ kind: "read", value });
const remove: Action = { kind: "delete", condition: null };
const patch = (fields: Record<string, string>): Action => ({ kind: "patch", fields, condition: null });
const refused = (held: string): Action => ({ kind: "refused", condition: { kind: "holds", value: held } });

/** Null for an end that nobody saw. */
function history(...lines: readonly Line[]): Operation[] {
  return lines.map(([startMs, endMs, action], id) => ({
    id,
    startMs,
    endMs: endMs ?? Number.POSITIVE_INFINITY,
    action,
  }));
}

const PLAIN_SOUND: Readonly<Record<string, Operation[]>> = {
  "reads that follow their puts": history([0, 1, put("a")], [2, 3, read("a")], [4, 5, put("b")], [6, 7, read("b")]),
  "a read during a put that sees the old value, and one that sees the new": history(
    [0, 1, put("a")],
    [2, 9, put("b")],
    [3, 4, read("a")],
    [5, 6, read("b")],
  ),
  "nothing, before there is something": history([0, 1, read(null)], [0, 2, put("a")], [3, 4, read("a")]),
  "a put that was never answered and is seen much later": history(
    [0, 1, put("a")],
    [2, null, put("b")],
    [3, 4, read("a")],
    [9, 10, read("b")],
  ),
  "a put that was never answered and never seen": history([0, 1, put("a")], [2, null, put("b")], [9, 10, read("a")]),
  "two puts at one time, in the order that readers tell": history(
    [0, 9, put("a")],
    [0, 9, put("b")],
    [10, 11, read("a")],
    [12, 13, read("a")],
  ),
};

const PLAIN_BROKEN: Readonly<Record<string, Operation[]>> = {
  "a stale read": history([0, 1, put("a")], [2, 3, put("b")], [4, 5, read("a")]),
  "a lost update": history([0, 1, put("a")], [2, 3, put("b")], [4, 5, read("b")], [6, 7, put("c")], [8, 9, read("b")]),
  "an acknowledged put that nobody finds": history([0, 1, put("a")], [2, 3, read(null)]),
  "a value that nobody wrote, such as the halves of two": history([0, 1, put("a")], [2, 3, read("a/b")]),
  "a value that is read before it is written": history([0, 1, read("a")], [2, 3, put("a")]),
  "readers that disagree about the order of two puts": history(
    [0, 9, put("a")],
    [0, 9, put("b")],
    [1, 2, read("a")],
    [3, 4, read("b")],
    [5, 6, read("a")],
  ),
  "a put that was never answered, seen and gone again": history(
    [0, 1, put("a")],
    [2, null, put("b")],
    [3, 4, read("b")],
    [5, 6, read("a")],
  ),
  "a put that goes by unseen within the time of another": history(
    [0, 1, put("a")],
    [2, 3, read("a")],
    [4, 5, put("b")],
    [6, 7, read("a")],
  ),
};

const SOUND: Readonly<Record<string, Operation[]>> = {
  ...PLAIN_SOUND,
  "a deletion and a new beginning": history([0, 1, put("a")], [2, 3, remove], [4, 5, read(null)], [6, 7, create("b")]),
  "two who create at one time, of whom one is refused": history(
    [0, 5, create("a")],
    [0, 5, { kind: "refused", condition: { kind: "absent" } }],
    [6, 7, read("a")],
  ),
  "a deletion that was never answered and happens late": history(
    [0, 1, put("a")],
    [2, null, remove],
    [3, 4, read("a")],
    [8, 9, read(null)],
  ),
  "a refusal that only a write explains which was never answered": history(
    [0, 1, put("a")],
    [2, null, put("b")],
    [3, 4, refused("a")],
    [5, 6, read("b")],
  ),
  "patches that meet": history(
    [0, 1, put("a;n=1;s=1")],
    [2, 9, patch({ n: "2" })],
    [2, 9, patch({ s: "2" })],
    [3, 4, { kind: "read_fields", fields: { n: "2" } }],
    [10, 11, read("a;n=2;s=2")],
  ),
};

const BROKEN: Readonly<Record<string, Operation[]>> = {
  ...PLAIN_BROKEN,
  "two writers who both replaced the same version": history(
    [0, 1, put("a")],
    [2, 5, putIf("a", "b")],
    [2, 5, putIf("a", "c")],
  ),
  "a conditional write that overwrote what it had not seen": history(
    [0, 1, put("a")],
    [2, 3, put("b")],
    [4, 5, putIf("a", "c")],
  ),
  "two who both created": history([0, 5, create("a")], [0, 5, create("b")]),
  "a refusal for no reason": history([0, 1, put("a")], [2, 3, refused("a")]),
  "a deletion that came back": history([0, 1, put("a")], [2, 3, remove], [4, 5, read(null)], [6, 7, read("a")]),
  "a deletion that never happened": history([0, 1, put("a")], [2, 3, remove], [4, 5, read("a")]),
  "a deletion of nothing that says it found something": history([0, 1, remove]),
  "a patch that was lost": history(
    [0, 1, put("a;n=1;s=1")],
    [2, 3, patch({ n: "2" })],
    [4, 5, patch({ s: "2" })],
    [6, 7, read("a;n=1;s=2")],
  ),
  "a field older than the document": history(
    [0, 1, put("a;n=1")],
    [2, 3, patch({ n: "2" })],
    [4, 5, { kind: "read_fields", fields: { n: "1" } }],
  ),
};

describe("checkZones()", () => {
  test.each(Object.entries(PLAIN_SOUND))("explains %s", (_, operations) => {
    expect(checkZones(operations)).toEqual({ ok: true });
  });

  test.each(Object.entries(PLAIN_BROKEN))("finds %s", (_, operations) => {
    expect(checkZones(operations)).toMatchObject({ ok: false });
  });

  test("refuses histories that it is not made for", () => {
    expect(() => checkZones(history([0, 1, remove]))).toThrow("Not a register of puts and reads alone");
    expect(() => checkZones(history([0, 1, put("a")], [2, 3, put("a")]))).toThrow("a is put twice");
  });

  test("judges a hundred thousand operations", () => {
    const lines = Array.from({ length: 50_000 }, (_, at): Line[] => [
      [at * 10, at * 10 + 15, put(`v${at}`)],
      [at * 10 + 16, at * 10 + 17, read(`v${at}`)],
    ]);
    expect(checkZones(history(...lines.flat()))).toEqual({ ok: true });
  });
});

describe("searchOrder()", () => {
  test.each(Object.entries(SOUND))("explains %s", (_, operations) => {
    expect(searchOrder(operations)).toEqual({ ok: true });
  });

  test.each(Object.entries(BROKEN))("finds %s", (_, operations) => {
    expect(searchOrder(operations)).toMatchObject({ ok: false });
  });

  test("names the operation that nothing explains, and what the key was before it", () => {
    const stale = history([0, 1, put("a")], [2, 3, put("b")], [4, 5, read("b")], [6, 7, read("a")]);
    expect(searchOrder(stale)).toMatchObject({
      reason: "#3 [6.000 … 7.000] read a cannot be explained: before it the key was b",
    });
  });

  test("gives no verdict when it would take too long", () => {
    const puts = Array.from({ length: 20 }, (_, at): Line => [0, 9, put(`v${at}`)]);
    const reads = Array.from({ length: 4 }, (_, at): Line => [10 + at, 10.5 + at, read(`v${at}`)]);
    const operations = history(...puts, ...reads);
    expect(() => searchOrder(operations, { configurationsMax: 1_000 })).toThrow("Undecided after 1000 configurations");
  });

  test("is not slowed down by writes of which nobody heard", () => {
    const lost = Array.from({ length: 400 }, (_, at): Line => [at, null, at % 3 === 0 ? remove : put(`lost${at}`)]);
    const seen = Array.from({ length: 400 }, (_, at): Line[] => [
      [1_000 + 4 * at, 1_001 + 4 * at, put(`v${at}`)],
      [1_002 + 4 * at, 1_003 + 4 * at, read(at % 40 === 0 ? `lost${at + 1}` : `v${at}`)],
    ]);
    const limits = { configurationsMax: 400_000 };
    const operations = history(...lost.filter((_, at) => at % 40 !== 2), ...seen.flat());
    expect(searchOrder(operations.filter(isPossible), limits)).toEqual({ ok: true });
  });
});

/** Reads of lost values that are no deletions. */
function isPossible({ action }: Operation): boolean {
  if (action.kind !== "read" || !action.value?.startsWith("lost")) return true;
  return Number(action.value.slice(4)) % 3 !== 0;
}

describe("both checkers", () => {
  test("agree on whatever was put and read, in any order", () => {
    const operation = fc.record({
      startMs: fc.integer({ min: 0, max: 12 }),
      tookMs: fc.integer({ min: 0, max: 6 }),
      isLost: fc.boolean(),
      put: fc.boolean(),
      seen: fc.nat({ max: 6 }),
    });
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 9 }), (drafts) => {
        const puts = drafts.filter((draft) => draft.put);
        const operations = drafts.map(({ startMs, tookMs, isLost, seen, ...draft }, id): Operation => {
          const value = draft.put ? `v${puts.indexOf(drafts[id] as (typeof drafts)[number])}` : `v${seen - 1}`;
          const endMs = draft.put && isLost ? Number.POSITIVE_INFINITY : startMs + tookMs;
          return { id, startMs, endMs, action: draft.put ? put(value) : read(seen === 0 ? null : value) };
        });
        const shown = operations.map(describeOperation).join("\n");
        expect(searchOrder(operations).ok, shown).toBe(checkZones(operations).ok);
      }),
      { numRuns: 4_000 },
    );
  });
});
