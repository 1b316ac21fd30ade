import { describe, expect, it } from "vitest";
import { StoreError } from "../../../src/domain/errors.ts";
import type { Duty } from "../../../src/healer/leadership.ts";
import { leadWhileHeld } from "../../../src/healer/leadership.ts";
import { createInProcessLease } from "../../../src/lease/in-process-lease.ts";
import type { Lease, LeaseGrant } from "../../../src/lease/lease.ts";
import { silentLogger } from "../../../src/lib/logger.ts";
import { ManualClock, settle } from "../../support/manual-clock.ts";
import { override } from "../../support/memory-store.ts";

const RETRY_MS = 1_000;

/** Healers that compete for one lease under one clock, and a journal of what they do. */
function openHealers(lease: Lease = createInProcessLease()) {
  const clock = new ManualClock();
  const events: string[] = [];
  const grants: LeaseGrant[] = [];
  const dutyOf =
    (holder: string): Duty =>
    (grant) => {
      grants.push(grant);
      events.push(`${holder} begins`);
      return {
        async [Symbol.asyncDispose]() {
          await settle();
          events.push(`${holder} ends`);
        },
      };
    };
  const join = (holder: string, duty = dutyOf(holder)) =>
    leadWhileHeld(lease, { name: "healer", holder, clock, logger: silentLogger, retryMs: RETRY_MS }, duty);
  const pass = async (ms: number) => {
    clock.advance(ms);
    for (let turn = 0; turn < 5; turn += 1) await settle();
  };
  return { clock, events, grants, join, pass, lease };
}

describe("leadWhileHeld()", () => {
  it("runs the duty of one healer, and of the next when the first has gone", async () => {
    const { events, join, pass } = openHealers();
    const a = join("a");
    await pass(0);
    const b = join("b");
    await pass(RETRY_MS);
    expect(events).toEqual(["a begins"]);
    expect([a.isLeading(), b.isLeading()]).toEqual([true, false]);
    expect([a.holder(), b.holder()]).toEqual(["a", "a"]);
    await a[Symbol.asyncDispose]();
    await pass(RETRY_MS);
    expect(events).toEqual(["a begins", "a ends", "b begins"]);
    expect([a.isLeading(), b.isLeading(), b.holder()]).toEqual([false, true, "b"]);
    await b[Symbol.asyncDispose]();
    expect(events.at(-1)).toBe("b ends");
  });

  it("lets the lease go only when its duty has ended", async () => {
    const { events, join, pass, lease } = openHealers();
    const a = join("a");
    await pass(0);
    const disposed = a[Symbol.asyncDispose]();
    expect(await lease.holderOf("healer")).toBe("a");
    await disposed;
    expect(events).toEqual(["a begins", "a ends"]);
    expect(await lease.holderOf("healer")).toBeNull();
  });

  it("ends the duty when the lease is lost, leads no more from that moment, and competes again", async () => {
    const { clock, events, grants, join, pass } = openHealers();
    await using a = join("a");
    await pass(0);
    expect(a.sinceMs()).toBe(clock.wallMs());
    await (grants[0] as LeaseGrant).release();
    expect([a.isLeading(), a.sinceMs()]).toEqual([false, null]);
    await pass(0);
    expect(events).toEqual(["a begins", "a ends"]);
    await pass(RETRY_MS);
    expect(events).toEqual(["a begins", "a ends", "a begins"]);
    expect(grants.map((grant) => grant.token)).toEqual([1, 2]);
    expect(a.isLeading()).toBe(true);
  });

  it("never runs two duties of one process, however long the first takes to end", async () => {
    const { grants, join, pass } = openHealers();
    const ending = Promise.withResolvers<void>();
    let running = 0;
    await using a = join("a", (grant) => {
      grants.push(grant);
      running += 1;
      return {
        async [Symbol.asyncDispose]() {
          if (grants.length === 1) await ending.promise;
          running -= 1;
        },
      };
    });
    await pass(0);
    await (grants[0] as LeaseGrant).release();
    await pass(5 * RETRY_MS);
    expect([running, grants.length, a.isLeading()]).toEqual([1, 1, false]);
    ending.resolve();
    await pass(0);
    await pass(RETRY_MS);
    expect([running, grants.length, a.isLeading()]).toEqual([1, 2, true]);
  });

  it("gives the lease back when its duty cannot begin, and tries again", async () => {
    const { join, pass, lease } = openHealers();
    let attempts = 0;
    await using a = join("a", () => {
      attempts += 1;
      throw new StoreError("metadata_unavailable", "No answer", { retriable: true });
    });
    await pass(0);
    expect([attempts, a.isLeading(), await lease.holderOf("healer")]).toEqual([1, false, null]);
    await pass(RETRY_MS);
    expect(attempts).toBe(2);
  });

  it("goes on trying while the lease cannot be reached, and says that it does not know who leads", async () => {
    let reachable = false;
    const real = createInProcessLease();
    const lease = override(real, {
      tryAcquire: (name, holder) =>
        reachable ? real.tryAcquire(name, holder) : Promise.reject(new StoreError("nats_unavailable", "away")),
    });
    const { events, join, pass } = openHealers(lease);
    await using a = join("a");
    await pass(RETRY_MS);
    expect([events, a.holder()]).toEqual([[], null]);
    reachable = true;
    await pass(RETRY_MS);
    expect([events, a.holder(), a.isLeading()]).toEqual([["a begins"], "a", true]);
  });
});
