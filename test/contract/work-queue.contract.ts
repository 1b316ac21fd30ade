import { describe, expect, test } from "vitest";
import type { BucketName, NodeName, ObjectKey } from "../../src/domain/ids.ts";
import { blobIdOf, type Txid } from "../../src/domain/ids.ts";
import type { Urgency, Work, WorkOf } from "../../src/domain/work.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { deadlineIn } from "../../src/lib/deadline.ts";
import type { Delivery, WorkQueue } from "../../src/work/work-queue.ts";

/** An empty queue whose pieces come back `LEASE_MS` after they were given out, and of which `WAITING_MAX` may wait per urgency. */
export type WorkQueueHarness = AsyncDisposable & {
  readonly queue: WorkQueue;
  /** Of another process, where there can be one. */
  readonly other: WorkQueue;
  /** What gives out the work may be a moment behind what takes it in: they are replicas on different servers. */
  readonly lags?: boolean;
};

export const CONTRACT_LEASE_MS = 1_000;
export const CONTRACT_WAITING_MAX = 8;
const WAIT_MS = 10_000;
/** Long enough for whatever is there, short enough to find that nothing is. */
const SHORT_MS = 300;
const never = new AbortController().signal;
const soon = () => deadlineIn(systemClock, WAIT_MS);

function mend(key: string, urgency: Urgency = 1, node = "n1"): WorkOf<"mend"> {
  const blob = { id: blobIdOf("01JZ0000000000000000000000" as Txid, "body", 0), node: node as NodeName };
  return {
    ...{ kind: "mend", urgency, reason: "damaged", suspects: [blob] },
    ...{ bucket: "default" as BucketName, key: key as ObjectKey },
  };
}

async function taken(queue: WorkQueue, waitMs = WAIT_MS): Promise<Delivery> {
  const delivery = await queue.take(waitMs, never);
  if (delivery === null) throw new Error("there is no work");
  return delivery;
}

function keyOf(work: Work): string {
  return (work as WorkOf<"mend">).key;
}

export function describeWorkQueue(name: string, open: () => Promise<WorkQueueHarness>): void {
  describe(`WorkQueue on ${name}`, () => {
    test("take() gives what was added, byte for byte, and once", async () => {
      await using harness = await open();
      const { queue, other } = harness;
      const work = mend("größe/ключ 😀");
      await queue.add(work, soon());
      const delivery = await taken(other);
      expect(delivery).toMatchObject({ work, attempt: 1 });
      expect(await queue.take(SHORT_MS, never)).toBeNull();
      await delivery.done();
      await expect.poll(async () => (await queue.depth(soon())).byUrgency).toEqual([0, 0, 0]);
    });

    test("take() gives the most urgent first, and of those the oldest", async () => {
      await using harness = await open();
      const { queue } = harness;
      for (const [key, urgency] of [
        ["c1", 2],
        ["b1", 1],
        ["a1", 0],
        ["a2", 0],
        ["b2", 1],
      ] as const) {
        await queue.add(mend(key, urgency), soon());
      }
      await expect.poll(async () => (await queue.depth(soon())).byUrgency).toEqual([2, 2, 1]);
      const keys: string[] = [];
      for (let count = 0; count < 5; count += 1) {
        const delivery = await taken(queue);
        keys.push(keyOf(delivery.work));
        await delivery.done();
      }
      // Pieces of several urgencies may be on their way at once; those of one are in order.
      expect(keys.filter((key) => key.startsWith("a"))).toEqual(["a1", "a2"]);
      expect(keys.filter((key) => key.startsWith("b"))).toEqual(["b1", "b2"]);
      expect(keys.indexOf("a1")).toBeLessThanOrEqual(2);
    });

    test("take() waits for work that comes later, and no longer than it was told to", async () => {
      await using harness = await open();
      const { queue, other } = harness;
      const waiting = taken(queue);
      await other.add(mend("late"), soon());
      const delivery = await waiting;
      expect(keyOf(delivery.work)).toBe("late");
      await delivery.done();
      expect(await queue.take(SHORT_MS, never)).toBeNull();
      const stop = new AbortController();
      const stopped = queue.take(WAIT_MS * 10, stop.signal);
      stop.abort();
      expect(await stopped).toBeNull();
    });

    test("add() of the same name replaces what waits", async () => {
      await using harness = await open();
      const { queue } = harness;
      await queue.add(mend("k", 1, "n1"), soon());
      await queue.add(mend("k", 1, "n2"), soon());
      let delivery = await taken(queue);
      if (harness.lags === true && delivery.work.kind === "mend" && delivery.work.suspects[0]?.node === "n1") {
        // Given out in the very moment of the replacement, as if just before it.
        await delivery.done();
        delivery = await taken(queue);
      }
      expect(delivery.work).toMatchObject({ suspects: [{ node: "n2" }] });
      await delivery.done();
      expect(await queue.take(SHORT_MS, never)).toBeNull();
    });

    test("add() of the same name behind one that was given out is given out too", async () => {
      await using harness = await open();
      const { queue } = harness;
      await queue.add(mend("k", 1, "n1"), soon());
      const first = await taken(queue);
      await queue.add(mend("k", 1, "n2"), soon());
      await first.done();
      const second = await taken(queue);
      expect(second.work).toMatchObject({ suspects: [{ node: "n2" }] });
      await second.done();
      await expect.poll(async () => (await queue.depth(soon())).byUrgency).toEqual([0, 0, 0]);
    });

    test("a piece that nobody settles is given out again, one that is extended is not", async () => {
      await using harness = await open();
      const { queue, other } = harness;
      await queue.add(mend("lost"), soon());
      await taken(queue);
      const again = await taken(other, CONTRACT_LEASE_MS * 5);
      expect(again).toMatchObject({ attempt: 2 });
      const extending = setInterval(() => again.extend(), CONTRACT_LEASE_MS / 4);
      try {
        expect(await queue.take(CONTRACT_LEASE_MS * 2, never)).toBeNull();
      } finally {
        clearInterval(extending);
      }
      await again.done();
      expect(await queue.take(CONTRACT_LEASE_MS * 2, never)).toBeNull();
    });

    test("later() gives a piece out again, not before its time", async () => {
      await using harness = await open();
      const { queue } = harness;
      await queue.add(mend("k"), soon());
      const first = await taken(queue);
      const askedAt = performance.now();
      await first.later(500);
      const second = await taken(queue);
      expect(performance.now() - askedAt).toBeGreaterThanOrEqual(490);
      expect(second).toMatchObject({ attempt: 2, work: { key: "k" } });
      await second.done();
    });

    test("a queue that is full for one urgency takes others", async () => {
      await using harness = await open();
      const { queue } = harness;
      for (let count = 0; count < CONTRACT_WAITING_MAX; count += 1) await queue.add(mend(`k${count}`, 2), soon());
      await expect.poll(async () => (await queue.depth(soon())).byUrgency).toEqual([0, 0, CONTRACT_WAITING_MAX]);
      await expect(queue.add(mend("one more", 2), soon())).rejects.toMatchObject({
        code: "overloaded",
        retriable: true,
      });
      await queue.add(mend("urgent", 0), soon());
      await expect.poll(async () => (await queue.depth(soon())).byUrgency).toEqual([1, 0, CONTRACT_WAITING_MAX]);
    });

    test("a closed queue refuses, and lets go of those who wait", async () => {
      await using harness = await open();
      const { queue } = harness;
      const waiting = queue.take(WAIT_MS * 10, never).catch(() => null);
      await queue.close();
      expect(await waiting).toBeNull();
      await expect(queue.add(mend("k"), soon())).rejects.toMatchObject({ code: "work_unavailable" });
    });
  });
}
