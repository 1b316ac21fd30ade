import { describe, expect, test } from "vitest";
import type { StreamEntry } from "../../../src/metadata/stream-progress.ts";
import { StreamProgress } from "../../../src/metadata/stream-progress.ts";

describe("StreamProgress", () => {
  test("whenExact() waits at first for a sequence given out since this process follows", async () => {
    const progress = new StreamProgress(0);
    const exact = watched(progress.whenExact(2));
    progress.advance([message(1), message(2), message(3)]);
    progress.release();
    expect(await exact.isOver()).toBe(false);
    expect(progress.needsSequence).toBe(true);

    progress.closeGaps(progress.gapCount, 5);
    progress.advance([message(4)]);
    progress.release();
    expect(await exact.isOver()).toBe(false);
    progress.advance([message(5)]);
    progress.release();
    expect(await exact.isOver()).toBe(true);
  });

  test("whenExact() waits behind a gap for a sequence given out after the gap was seen", async () => {
    const progress = exactAt(4);
    const gapCount = progress.gapCount;
    progress.advance([message(7)]);
    const exact = watched(progress.whenExact(6));
    // Asked for before the gap was seen: what the gap left out may stand behind it.
    progress.closeGaps(gapCount, 8);
    progress.advance([message(8)]);
    progress.release();
    expect(await exact.isOver()).toBe(false);

    progress.closeGaps(progress.gapCount, 9);
    progress.advance([message(9)]);
    progress.release();
    expect(await exact.isOver()).toBe(true);
  });

  test("whenExact() is answered by what was exact before a gap, though both came together", async () => {
    const progress = exactAt(4);
    const exact = watched(progress.whenExact(5));
    progress.advance([message(5), message(9)]);
    progress.release();
    expect(await exact.isOver()).toBe(true);
  });

  test("advance() fills in own values that the stream no longer delivers, in order, without a gap", async () => {
    const progress = exactAt(4);
    progress.addOwn([own(6, "a"), own(7, "b"), { sequence: 8, slot: null, value: null }]);
    expect(sequencesOf(progress.advance([]))).toEqual([]);
    expect(progress.ownValueOf("b")).toEqual(Buffer.from("b7"));
    expect(sequencesOf(progress.advance([message(5), message(9)]))).toEqual([5, 6, 7, 8, 9]);
    expect(progress.ownValueOf("b")).toBeNull();
    expect(await progress.whenExact(9)).toBe(true);
  });

  test("advance() takes own values that follow on without waiting for the stream, and leaves out their repetition", () => {
    const progress = exactAt(4);
    progress.addOwn([own(5, "a"), own(6, "b")]);
    expect(sequencesOf(progress.advance([]))).toEqual([5, 6]);
    expect(sequencesOf(progress.advance([message(5), message(6), message(7)]))).toEqual([7]);
    progress.addOwn([own(7, "a")]);
    expect(progress.ownCount).toBe(0);
  });

  test("lag counts sequences known and not applied", () => {
    const progress = exactAt(4);
    progress.learn(9);
    expect(progress.lag).toBe(5);
    progress.advance([message(9)]);
    expect(progress.lag).toBe(0);
  });

  test("abandon() answers false to whoever waits", async () => {
    const progress = exactAt(4);
    const waiting = progress.whenExact(8);
    progress.abandon();
    expect(await waiting).toBe(false);
  });
});

function exactAt(sequence: number): StreamProgress {
  const progress = new StreamProgress(sequence);
  progress.closeGaps(progress.gapCount, sequence);
  return progress;
}

function message(sequence: number): StreamEntry {
  return { sequence, slot: `slot ${sequence}`, value: Buffer.from(String(sequence)) };
}

function own(sequence: number, slot: string): StreamEntry {
  return { sequence, slot, value: Buffer.from(`${slot}${sequence}`) };
}

function sequencesOf(entries: readonly StreamEntry[]): number[] {
  return entries.map(({ sequence }) => sequence);
}

function watched(promise: Promise<boolean>) {
  let isOver = false;
  void promise.then(() => (isOver = true));
  return {
    isOver: async () => {
      await Promise.resolve();
      await Promise.resolve();
      return isOver;
    },
  };
}
