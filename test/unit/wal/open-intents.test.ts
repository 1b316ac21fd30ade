import { describe, expect, test } from "vitest";
import { encodeIntent } from "../../../src/domain/intent.ts";
import { OpenIntents, planTrim, walSequenceOf } from "../../../src/wal/open-intents.ts";
import { sampleIntent, sampleTxid } from "../../support/sample-records.ts";

const HOUR_MS = 3_600_000;

function append(n: number, startedAtMs = 0) {
  return { txid: sampleTxid(n), encoded: encodeIntent(sampleIntent(n, { startedAtMs })) };
}

/** One message with one intent each, all seen at 0. */
function openAt(streamSequences: readonly number[]): OpenIntents {
  const open = new OpenIntents();
  for (const sequence of streamSequences) open.apply(sequence, { settled: [], appends: [append(sequence)] }, 0);
  return open;
}

function txidsOf(open: OpenIntents) {
  return open.page(0, 1_000, 0).map(({ intent }) => intent.txid);
}

describe("OpenIntents", () => {
  test("apply() closes what a message settles before it opens what it appends", () => {
    const open = openAt([1, 2]);
    open.apply(3, { settled: [sampleTxid(1), sampleTxid(2)], appends: [append(1)] }, 0);
    expect(txidsOf(open)).toEqual([sampleTxid(1)]);
  });

  test("apply() ignores a settlement that comes before its intent, and opens a repetition behind it", () => {
    const open = new OpenIntents();
    open.apply(1, { settled: [sampleTxid(1)], appends: [] }, 0);
    open.apply(2, { settled: [], appends: [append(1)] }, 0);
    expect(txidsOf(open)).toEqual([sampleTxid(1)]);
  });

  test("apply() keeps nothing of the message's memory", () => {
    const open = new OpenIntents();
    const given = append(1, 5);
    open.apply(1, { settled: [], appends: [given] }, 0);
    given.encoded.fill(0);
    expect(open.page(0, 1, 0)[0]?.intent).toEqual(sampleIntent(1, { startedAtMs: 5 }));
  });

  test("page() tells apart intents of one message, and goes on behind each", () => {
    const open = new OpenIntents();
    open.apply(7, { settled: [], appends: [append(1), append(2), append(3)] }, 0);
    const sequences = open.page(0, 10, 0).map(({ sequence }) => sequence);
    expect(sequences).toEqual([0, 1, 2].map((index) => walSequenceOf(7, index)));
    expect(open.page(walSequenceOf(7, 0), 1, 0).map(({ intent }) => intent.txid)).toEqual([sampleTxid(2)]);
  });

  test("page() tells ages since a txid was first seen open, whatever its intent claims", () => {
    const open = new OpenIntents();
    open.apply(1, { settled: [], appends: [append(1, -HOUR_MS), append(2, 1e15)] }, 100);
    open.apply(2, { settled: [], appends: [append(1)] }, 150);
    const ages = open.page(0, 10, 180).map(({ intent, ageMs }) => [intent.txid, ageMs]);
    expect(ages).toEqual([
      [sampleTxid(2), 80],
      [sampleTxid(1), 80],
    ]);
    open.apply(3, { settled: [sampleTxid(1)], appends: [append(1)] }, 200);
    expect(open.page(walSequenceOf(2, 0), 10, 210)[0]?.ageMs).toBe(10);
  });

  test("dropBefore() forgets what stands before a message", () => {
    const open = openAt([3, 4, 5, 9]);
    open.apply(10, { settled: [], appends: [append(3)] }, 0);
    open.dropBefore(5);
    expect(txidsOf(open)).toEqual([5, 9, 3].map(sampleTxid));
  });
});

describe("planTrim()", () => {
  test("gives up what lies before the first open intent", () => {
    expect(openAt([400, 500]).planTrim(9_000, 1_000)).toEqual({ again: [], purgeBefore: 400 });
  });

  test("gives up all but the newest messages when nothing is open", () => {
    expect(planTrim([], 9_000, 0)).toEqual({ again: [], purgeBefore: 8_937 });
    expect(planTrim([], 10, 0).purgeBefore).toBeLessThan(1);
  });

  test("moves intents that are stuck and hold back many messages, up to the first that is not", () => {
    const open = openAt([10, 20]);
    open.apply(30, { settled: [], appends: [append(30)] }, 70_000);
    open.apply(40, { settled: [], appends: [append(40)] }, 0);
    const plan = open.planTrim(5_000, 80_000);
    expect(plan.again.map(({ txid }) => txid)).toEqual([10, 20].map(sampleTxid));
    expect(plan.purgeBefore).toBe(30);
  });

  test("leaves stuck intents where they are while they hold back little", () => {
    expect(openAt([10]).planTrim(900, 2 * HOUR_MS)).toEqual({ again: [], purgeBefore: 10 });
  });

  test("moves what has stood in its message for so long that the age limit comes near", () => {
    const plan = openAt([10]).planTrim(100, 13 * HOUR_MS);
    expect(plan.again.map(({ txid }) => txid)).toEqual([sampleTxid(10)]);
    expect(plan.purgeBefore).toBe(37);
    const moved = openAt([10]);
    moved.apply(100, { settled: [], appends: [append(10)] }, 13 * HOUR_MS);
    expect(moved.planTrim(200, 14 * HOUR_MS).again).toEqual([]);
  });

  test("moves no more than a bounded number at once, and gives up nothing behind them", () => {
    const open = openAt([...Array(1_000).keys()].map((n) => n + 1));
    const plan = open.planTrim(9_000, HOUR_MS);
    expect(plan.again.at(-1)?.txid).toBe(sampleTxid(plan.again.length));
    expect(plan.again.length).toBeLessThan(1_000);
    expect(plan.purgeBefore).toBe(plan.again.length + 1);
  });
});
