import { describe, expect, test } from "vitest";
import { ABSENT, bytesState, KeyJournal } from "../../support/load/journal.ts";

const one = Buffer.from("one");
const two = Buffer.from("two");

describe("KeyJournal", () => {
  test("takes what was acknowledged last, and nothing else", () => {
    const journal = new KeyJournal("k");
    journal.acknowledge(bytesState(one));
    journal.settle(one, "check");
    expect(() => journal.settle(two, "check")).toThrow("expected 3 bytes");
    expect(() => journal.settle(null, "check")).toThrow("k is absent");
    journal.acknowledge(ABSENT);
    expect(() => journal.settle(one, "check")).toThrow("expected absent");
  });

  test("a write whose answer never came may come later, while recovery goes on", () => {
    const journal = new KeyJournal("k");
    journal.doubt(bytesState(one));
    journal.observe(null, "check");
    journal.observe(null, "a delete that was answered 404");
    journal.observe(one, "check");
    expect(() => journal.observe(null, "check")).toThrow("expected 3 bytes");
  });

  test("a write that is not there when all is settled never comes, nor one before another that is there", () => {
    const settled = new KeyJournal("k");
    settled.doubt(bytesState(one));
    settled.settle(null, "check");
    expect(() => settled.settle(one, "check")).toThrow("expected absent");
    const passed = new KeyJournal("k");
    passed.doubt(bytesState(one));
    passed.doubt(bytesState(two));
    passed.observe(two, "check");
    expect(() => passed.observe(one, "check")).toThrow("expected 3 bytes");
  });

  test("a write behind one that came may still come", () => {
    const journal = new KeyJournal("k");
    journal.doubt(bytesState(one));
    journal.doubt(bytesState(two));
    journal.observe(one, "check");
    expect(journal.certain).toBeNull();
    journal.observe(two, "check");
    expect(journal.certain).toEqual(bytesState(two));
  });

  test("tells what led there", () => {
    const journal = new KeyJournal("k");
    journal.doubt(bytesState(one));
    journal.observe(null, "round 1");
    expect(() => journal.settle(two, "round 2")).toThrow(/after unknown 3 bytes \w+; seen in round 1: absent/);
  });
});
