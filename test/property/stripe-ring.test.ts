import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Stripe } from "../../src/coding/coder.ts";
import { StripePool } from "../../src/coding/stripe-pool.ts";
import type { StoreError } from "../../src/domain/errors.ts";
import type { Permit } from "../../src/lib/semaphore.ts";
import { Semaphore } from "../../src/lib/semaphore.ts";
import { StripeRing } from "../../src/object/stripe-ring.ts";
import { ManualClock, settle } from "../support/manual-clock.ts";

const STRIPE_BYTES = 4_096;
const MEMORY_MS = 1_000;

function memoryFor(stripes: number) {
  const clock = new ManualClock();
  const memory = new Semaphore(stripes * STRIPE_BYTES, clock);
  const pool = new StripePool({ keptBytesMax: 0 });
  return { clock, memory, deps: { stripes: pool, memory, timeouts: { memoryMs: MEMORY_MS } } };
}

describe("StripeRing", () => {
  test("open() waits for memory in line, and answers overloaded when none came free in time", async () => {
    const { clock, memory, deps } = memoryFor(1);
    const first = await StripeRing.open(deps, STRIPE_BYTES, 3);
    const second = StripeRing.open(deps, STRIPE_BYTES, 3);
    const third = StripeRing.open(deps, STRIPE_BYTES, 3).catch((cause: StoreError) => cause);
    clock.advance(MEMORY_MS - 1);
    first.close();
    const opened = await second;
    clock.advance(1);
    expect(await third).toMatchObject({ code: "overloaded", retriable: true });
    opened.close();
    expect(memory.used).toBe(0);
  });

  test("take() gives more stripes only while there is memory to spare, and at most as many as allowed", async () => {
    const { memory, deps } = memoryFor(10);
    const ring = await StripeRing.open(deps, STRIPE_BYTES, 3);
    const taken = [ring.tryTake(), ring.tryTake(), ring.tryTake(), ring.tryTake()];
    expect(taken.map((stripe) => stripe !== null)).toEqual([true, true, true, false]);
    expect(new Set(taken).size).toBe(4);
    expect(memory.used).toBe(3 * STRIPE_BYTES);
    ring.close();
    expect(memory.used).toBe(0);
  });

  test("take() goes on with its one stripe while others hold the rest of the memory", async () => {
    const { memory, deps } = memoryFor(1);
    const ring = await StripeRing.open(deps, STRIPE_BYTES, 3);
    for (let round = 0; round < 5; round += 1) {
      const stripe = await ring.take();
      expect(ring.tryTake()).toBeNull();
      const next = ring.take();
      ring.give(stripe);
      expect(await next).toBe(stripe);
      ring.give(stripe);
    }
    expect(memory.used).toBe(STRIPE_BYTES);
    ring.close();
  });

  test("park() lends another stripe while memory allows, and takes the parked one back when it is free", async () => {
    const { memory, deps } = memoryFor(2);
    const ring = await StripeRing.open(deps, STRIPE_BYTES, 1);
    const slow = await ring.take();
    const waiting = ring.take();
    const free = Promise.withResolvers<void>();
    ring.park(slow, free.promise);
    const other = await waiting;
    expect(other).not.toBe(slow);
    expect(ring.tryTake(), "only one is in rotation").toBeNull();

    // No memory is left for a third: the next one waits for either.
    const next = ring.take();
    ring.park(other, new Promise(() => {}));
    free.resolve();
    expect(await next).toBe(slow);
    expect(memory.used).toBe(2 * STRIPE_BYTES);
    ring.close();
    expect(memory.used).toBe(0);
  });

  test("park() gives nothing back to a ring that is closed", async () => {
    const { deps } = memoryFor(1);
    const ring = await StripeRing.open(deps, STRIPE_BYTES, 1);
    const slow = await ring.take();
    const free = Promise.withResolvers<void>();
    ring.park(slow, free.promise);
    ring.close();
    free.resolve();
    await settle();
    expect(ring.tryTake()).not.toBe(slow);
    ring.close();
  });

  test("fail() wakes who waits and refuses who comes later, always with the first cause", async () => {
    const { deps } = memoryFor(1);
    const ring = await StripeRing.open(deps, STRIPE_BYTES, 3);
    const stripe = await ring.take();
    const waiting = ring.take();
    const cause = new Error("a node failed");
    ring.fail(cause);
    ring.fail(new Error("as a consequence"));
    await expect(waiting).rejects.toBe(cause);
    await expect(ring.take()).rejects.toBe(cause);
    ring.give(stripe);
    await expect(ring.take()).rejects.toBe(cause);
    ring.close();
  });

  test("transfers side by side all come to their end, within the memory, and give all of it back", async () => {
    const transfer = fc.record({
      /** Stripes to send, and the most it may have in rotation. */
      stripes: fc.integer({ min: 1, max: 8 }),
      stripesMax: fc.integer({ min: 1, max: 3 }),
      failsAt: fc.option(fc.integer({ min: 0, max: 7 }), { nil: null }),
    });
    await fc.assert(
      fc.asyncProperty(
        fc.array(transfer, { minLength: 1, maxLength: 6 }),
        fc.integer({ min: 1, max: 5 }),
        fc.scheduler(),
        async (transfers, room, scheduler) => {
          const { memory, deps } = memoryFor(room);
          const runs = transfers.map((plan) => runTransfer(deps, memory, plan, scheduler));
          const all = Promise.all(runs);
          await scheduler.waitFor(all);
          for (const [index, sent] of (await all).entries()) {
            const { stripes, failsAt } = transfers[index] as (typeof transfers)[number];
            if (failsAt === null || failsAt >= stripes) expect(sent).toBe(stripes);
          }
          expect(memory.used).toBe(0);
        },
      ),
      { numRuns: 200 },
    );
  });
});

type Plan = { readonly stripes: number; readonly stripesMax: number; readonly failsAt: number | null };

/** As an upload does: fill one, send it behind its back, take the next. Answers how many were sent well. */
async function runTransfer(
  deps: Parameters<typeof StripeRing.open>[0],
  memory: Semaphore,
  plan: Plan,
  scheduler: fc.Scheduler,
): Promise<number> {
  const ring = await StripeRing.open(deps, STRIPE_BYTES, plan.stripesMax);
  const inUse = new Set<Stripe>();
  const sending: Promise<void>[] = [];
  let sent = 0;
  try {
    for (let index = 0; index < plan.stripes; index += 1) {
      const stripe = await ring.take();
      expect(inUse.has(stripe), "a stripe has one user").toBe(false);
      inUse.add(stripe);
      expect(inUse.size).toBeLessThanOrEqual(plan.stripesMax);
      expect(memory.used).toBeLessThanOrEqual(memory.limit);
      const send = async () => {
        await scheduler.schedule(Promise.resolve(), `stripe ${index}`);
        inUse.delete(stripe);
        if (index === plan.failsAt) return ring.fail(new Error("this stripe failed"));
        sent += 1;
        ring.give(stripe);
      };
      sending.push(send());
    }
  } catch (cause) {
    expect(cause).toMatchObject({ message: "this stripe failed" });
  }
  await Promise.all(sending);
  ring.close();
  return sent;
}

describe("Semaphore permits of rings", () => {
  test("a ring leaves room for who waits: its luxury stripes come behind the first stripe of others", async () => {
    const { memory, deps } = memoryFor(2);
    const ring = await StripeRing.open(deps, STRIPE_BYTES, 3);
    const other = memory.tryAcquire(STRIPE_BYTES) as Permit;
    const waiting = StripeRing.open(deps, STRIPE_BYTES, 3);
    await settle();
    other.release();
    const opened = await waiting;
    expect(ring.tryTake()).not.toBeNull();
    expect(ring.tryTake()).toBeNull();
    ring.close();
    opened.close();
    expect(memory.used).toBe(0);
  });
});
