import { describe, expect, test } from "vitest";
import type { Lease, LeaseGrant } from "../../src/lease/lease.ts";

/** Leases nobody holds. Two views of them stand for two processes; they may be the same one. */
export type LeaseHarness = AsyncDisposable & {
  readonly lease: Lease;
  /** Another process's view. */
  readonly other: Lease;
  /** Closes `lease` and opens it anew; `other` lives on. */
  reopen(): Promise<void>;
  /** The process of `lease` dies without a word. Absent where holders do not die alone. */
  crash?(): Promise<void>;
};

export type LeaseTraits = {
  /** Whether leases outlive their holders' processes, so that they have to expire. */
  readonly expires: boolean;
};

/** What every `Lease` promises. Run by each adapter. */
export function describeLease(name: string, open: () => Promise<LeaseHarness>, { expires }: LeaseTraits): void {
  describe(name, () => {
    if (expires) describeExpiry(open);

    test("tryAcquire() grants a free lease", async () => {
      await using harness = await open();
      const grant = await harness.lease.tryAcquire("healer", "a");
      expect(grant?.isHeld()).toBe(true);
      expect(grant?.signal.aborted).toBe(false);
      expect(await harness.other.holderOf("healer")).toBe("a");
    });

    test("tryAcquire() answers null while it is held, by whomever", async () => {
      await using harness = await open();
      const grant = await harness.lease.tryAcquire("healer", "a");
      expect(await harness.other.tryAcquire("healer", "b")).toBeNull();
      expect(await harness.lease.tryAcquire("healer", "a")).toBeNull();
      expect(grant?.isHeld()).toBe(true);
      expect(await harness.lease.holderOf("healer")).toBe("a");
    });

    test("tryAcquire() grants one of many that ask at once", async () => {
      await using harness = await open();
      const asked = [...Array(10).keys()].map((n) =>
        (n % 2 === 0 ? harness.lease : harness.other).tryAcquire("healer", `holder-${n}`),
      );
      const granted = (await Promise.all(asked)).map((grant) => grant !== null);
      expect(granted.filter(Boolean)).toHaveLength(1);
      expect(await harness.lease.holderOf("healer")).toBe(`holder-${granted.indexOf(true)}`);
    });

    test("tryAcquire() grants one of many that ask while others are being answered", async () => {
      await using harness = await open();
      const asked: Promise<LeaseGrant | null>[] = [];
      for (let n = 0; n < 100; n += 1) {
        asked.push(harness.lease.tryAcquire("healer", "a"));
        await new Promise((resolve) => setImmediate(resolve));
      }
      expect((await Promise.all(asked)).filter((grant) => grant !== null)).toHaveLength(1);
    });

    test("tryAcquire() gives rising tokens", async () => {
      await using harness = await open();
      let last = 0;
      for (let n = 0; n < 5; n += 1) {
        const grant = await (n % 2 === 0 ? harness.lease : harness.other).tryAcquire("healer", `holder-${n}`);
        expect(grant?.token).toBeGreaterThan(last);
        last = grant?.token ?? Infinity;
        await grant?.release();
      }
    });

    test("tryAcquire() keeps names apart", async () => {
      await using harness = await open();
      const healer = await harness.lease.tryAcquire("healer", "a");
      const other = await harness.other.tryAcquire("balancer", "b");
      await healer?.release();
      expect(other?.isHeld()).toBe(true);
      expect(await harness.lease.holderOf("healer")).toBeNull();
      expect(await harness.lease.holderOf("balancer")).toBe("b");
    });

    test("release() ends the grant for good and lets the next one in", async () => {
      await using harness = await open();
      const first = await harness.lease.tryAcquire("healer", "a");
      await first?.release();
      expect(first?.isHeld()).toBe(false);
      expect(first?.signal.aborted).toBe(true);
      expect(await harness.lease.holderOf("healer")).toBeNull();
      const second = await harness.other.tryAcquire("healer", "b");
      expect(second?.isHeld()).toBe(true);
      expect(first?.isHeld()).toBe(false);
    });

    test("release() a second time does not end the successor's grant", async () => {
      await using harness = await open();
      const first = await harness.lease.tryAcquire("healer", "a");
      await first?.release();
      const second = await harness.other.tryAcquire("healer", "b");
      await first?.release();
      expect(second?.isHeld()).toBe(true);
      expect(await harness.lease.holderOf("healer")).toBe("b");
    });

    test("close() ends its grants", async () => {
      await using harness = await open();
      const grant = await harness.lease.tryAcquire("healer", "a");
      await harness.reopen();
      expect(grant?.isHeld()).toBe(false);
      expect(grant?.signal.aborted).toBe(true);
    });

    test("holderOf() answers null for a lease that nobody ever took", async () => {
      await using harness = await open();
      expect(await harness.lease.holderOf("healer")).toBeNull();
    });
  });
}

function describeExpiry(open: () => Promise<LeaseHarness>): void {
  test("tryAcquire() takes over from a holder that died, whose grant has ended before, under a higher token", async () => {
    await using harness = await open();
    const dead = await harness.lease.tryAcquire("healer", "a");
    expect(await harness.other.tryAcquire("healer", "b")).toBeNull();
    await harness.crash?.();
    const next = await acquireInTime(harness.other, "b");
    expect(dead?.isHeld()).toBe(false);
    expect(dead?.signal.aborted).toBe(true);
    expect(next.isHeld()).toBe(true);
    expect(next.token).toBeGreaterThan(dead?.token ?? Infinity);
    expect(await harness.other.holderOf("healer")).toBe("b");
  });

  test("a grant is renewed for as long as its holder lives", async () => {
    await using harness = await open();
    const grant = await harness.lease.tryAcquire("healer", "a");
    for (let asked = 0; asked < 40; asked += 1) {
      expect(await harness.other.tryAcquire("healer", "b")).toBeNull();
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    expect(grant?.isHeld()).toBe(true);
    expect(await harness.other.holderOf("healer")).toBe("a");
  });

  test("holderOf() names nobody once a lease has expired that nobody takes", async () => {
    await using harness = await open();
    await harness.lease.tryAcquire("healer", "a");
    expect(await harness.other.holderOf("healer")).toBe("a");
    await harness.crash?.();
    await expect.poll(() => harness.other.holderOf("healer"), { timeout: 30_000 }).toBeNull();
  });
}

async function acquireInTime(lease: Lease, holder: string): Promise<LeaseGrant> {
  for (;;) {
    const grant = await lease.tryAcquire("healer", holder);
    if (grant !== null) return grant;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
