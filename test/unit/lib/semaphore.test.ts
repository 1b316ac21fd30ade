import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Permit } from "../../../src/lib/semaphore.ts";
import { Semaphore } from "../../../src/lib/semaphore.ts";
import { ManualClock, settle } from "../../support/manual-clock.ts";

describe("Semaphore", () => {
  it("tryAcquire() grants up to the limit and not one unit more", () => {
    const semaphore = new Semaphore(10, new ManualClock());
    const held = semaphore.tryAcquire(7);
    expect(semaphore.tryAcquire(4)).toBeNull();
    expect(semaphore.tryAcquire(3)).not.toBeNull();
    expect(semaphore.tryAcquire(1)).toBeNull();
    expect(semaphore.used).toBe(10);
    held?.release();
    expect(semaphore.used).toBe(3);
  });

  it("release() counts once however often it is called", () => {
    const semaphore = new Semaphore(10, new ManualClock());
    const [first] = [semaphore.tryAcquire(5), semaphore.tryAcquire(5)];
    first?.release();
    first?.release();
    expect(semaphore.used).toBe(5);
  });

  it("acquire() serves who waits in order, and a small request does not overtake a large one", async () => {
    const clock = new ManualClock();
    const semaphore = new Semaphore(10, clock);
    const held = semaphore.tryAcquire(8);
    const order: string[] = [];
    void semaphore.acquire(9, 1_000).then((permit) => {
      order.push("large");
      permit?.release();
    });
    void semaphore.acquire(1, 1_000).then(() => order.push("small"));
    expect(semaphore.tryAcquire(1), "2 units are free, yet somebody waits").toBeNull();
    await settle();
    expect(order).toEqual([]);
    held?.release();
    await settle();
    expect(order).toEqual(["large", "small"]);
    expect(clock.pendingTimers).toBe(0);
  });

  it("acquire() answers null when the time is up, and lets those behind pass", async () => {
    const clock = new ManualClock();
    const semaphore = new Semaphore(10, clock);
    semaphore.tryAcquire(8);
    const outcomes: (string | null)[] = [];
    void semaphore.acquire(9, 50).then((permit) => outcomes.push(permit && "large"));
    void semaphore.acquire(2, 100).then((permit) => outcomes.push(permit && "small"));
    clock.advance(49);
    await settle();
    expect(outcomes).toEqual([]);
    clock.advance(1);
    await settle();
    expect(outcomes).toEqual([null, "small"]);
    expect(semaphore.used).toBe(10);
  });

  it("acquire() answers null at once for more than there will ever be", async () => {
    const clock = new ManualClock();
    expect(await new Semaphore(10, clock).acquire(11, 1_000)).toBeNull();
    expect(clock.pendingTimers).toBe(0);
  });

  it("never has more in use than its limit, and all of it back in the end", async () => {
    const action = fc.oneof(
      fc.record({ kind: fc.constant("acquire"), units: fc.integer({ min: 1, max: 12 }), waitMs: fc.nat(50) }),
      fc.record({ kind: fc.constant("try"), units: fc.integer({ min: 1, max: 12 }), waitMs: fc.constant(0) }),
      fc.record({ kind: fc.constant("release"), units: fc.nat(100), waitMs: fc.constant(0) }),
      fc.record({ kind: fc.constant("advance"), units: fc.nat(30), waitMs: fc.constant(0) }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(action, { maxLength: 60, size: "max" }), async (actions) => {
        const clock = new ManualClock();
        const semaphore = new Semaphore(10, clock);
        const held: { permit: Permit; units: number }[] = [];
        let asked = 0;
        let answered = 0;
        const keep = (permit: Permit | null, units: number) => permit && held.push({ permit, units });
        for (const { kind, units, waitMs } of actions) {
          if (kind === "try") keep(semaphore.tryAcquire(units), units);
          if (kind === "release") held.splice(units % Math.max(1, held.length), 1)[0]?.permit.release();
          if (kind === "advance") clock.advance(units);
          if (kind === "acquire") {
            asked += 1;
            void semaphore.acquire(units, waitMs).then((permit) => {
              answered += 1;
              keep(permit, units);
            });
          }
          await settle();
          expect(held.reduce((sum, entry) => sum + entry.units, 0)).toBe(semaphore.used);
          expect(semaphore.used).toBeLessThanOrEqual(10);
        }
        clock.advance(1_000);
        await settle();
        expect(answered).toBe(asked);
        for (const { permit } of held) permit.release();
        expect(semaphore.used).toBe(0);
        expect(clock.pendingTimers).toBe(0);
      }),
      { numRuns: 100 },
    );
  });
});
