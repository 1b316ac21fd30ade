import { describe, expect, test } from "vitest";
import type { Revision } from "../../../src/domain/ids.ts";
import { CommitQueue, type QueuedCommit } from "../../../src/metadata/commit-queue.ts";

const NO_LIMIT = { countMax: 100, bytesMax: 1_000_000 };
const nothingKnown = () => 0 as Revision;

describe("CommitQueue", () => {
  test("take() gives one commit of each key and keeps the later ones until the key is released", () => {
    const queue = new CommitQueue<QueuedCommit>();
    for (const [order, slot] of ["a", "b", "a", "c", "a"].entries()) queue.add(commit(order, slot));
    expect(ordersOf(queue.take(NO_LIMIT, nothingKnown).ready)).toEqual([0, 1, 3]);
    expect(ordersOf(queue.take(NO_LIMIT, nothingKnown).ready)).toEqual([]);
    queue.release("a");
    expect(ordersOf(queue.take(NO_LIMIT, nothingKnown).ready)).toEqual([2]);
  });

  test("take() keeps what comes back from a round before what was called later", () => {
    const queue = new CommitQueue<QueuedCommit>();
    const first = commit(0, "a");
    queue.add(first);
    queue.take(NO_LIMIT, nothingKnown);
    queue.add(commit(1, "a"));
    queue.release("a");
    queue.add(first);
    expect(ordersOf(queue.take(NO_LIMIT, nothingKnown).ready)).toEqual([0]);
  });

  test("take() sets apart what expects less than is known, several of a key at once", () => {
    const queue = new CommitQueue<QueuedCommit>();
    for (const [order, ifRevision] of [3, 7, 9, 3].entries()) queue.add(commit(order, "a", ifRevision));
    const { ready, outdated } = queue.take(NO_LIMIT, () => 7 as Revision);
    expect(ordersOf(outdated)).toEqual([0]);
    expect(ordersOf(ready)).toEqual([1]);
    queue.release("a");
    const later = queue.take(NO_LIMIT, () => 9 as Revision);
    expect([ordersOf(later.outdated), ordersOf(later.ready)]).toEqual([[], [2]]);
    queue.release("a");
    expect(ordersOf(queue.take(NO_LIMIT, () => 10 as Revision).outdated)).toEqual([3]);
  });

  test("take() stops at the limits, but gives at least one", () => {
    const queue = new CommitQueue<QueuedCommit>();
    for (let order = 0; order < 5; order += 1) queue.add(commit(order, `${order}`));
    expect(ordersOf(queue.take({ ...NO_LIMIT, countMax: 2 }, nothingKnown).ready)).toEqual([0, 1]);
    expect(ordersOf(queue.take({ ...NO_LIMIT, bytesMax: 1 }, nothingKnown).ready)).toEqual([2]);
    expect(ordersOf(queue.take({ ...NO_LIMIT, bytesMax: 1_500 }, nothingKnown).ready)).toEqual([3]);
  });

  test("take() forgets what nobody waits for", () => {
    const queue = new CommitQueue<QueuedCommit>();
    queue.add({ ...commit(0, "a"), isOver: () => true });
    queue.add(commit(1, "a"));
    expect(ordersOf(queue.take(NO_LIMIT, nothingKnown).ready)).toEqual([1]);
  });
});

function commit(order: number, slot: string, ifRevision = 0): QueuedCommit {
  const value = Buffer.alloc(1_000);
  return { order, slot, subject: slot, value, ifRevision: ifRevision as Revision, event: null, isOver: () => false };
}

function ordersOf(commits: readonly QueuedCommit[]): number[] {
  return commits.map(({ order }) => order);
}
