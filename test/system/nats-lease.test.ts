import { join } from "node:path";
import { Kvm } from "@nats-io/kv";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Lease, LeaseGrant } from "../../src/lease/lease.ts";
import { openNatsLease } from "../../src/lease/nats-lease.ts";
import type { Clock } from "../../src/lib/clock.ts";
import { systemClock } from "../../src/lib/clock.ts";
import type { NatsLink } from "../../src/nats/nats-link.ts";
import { startChild } from "../support/child-process.ts";
import type { NatsCluster } from "../support/nats.ts";
import { startNats } from "../support/nats.ts";
import { openTestLink } from "../support/test-link.ts";

const TTL_MS = 900;
const POLL_MS = 30;

type OpenLease = AsyncDisposable & { readonly lease: Lease; readonly link: NatsLink };

async function openLease(
  nats: NatsCluster,
  clusterName: string,
  { ttlMs = TTL_MS, clock = systemClock }: { ttlMs?: number; clock?: Clock } = {},
): Promise<OpenLease> {
  const link = await openTestLink(nats, { clusterName, clock });
  const lease = await openNatsLease(link, { ttlMs });
  return {
    lease,
    link,
    async [Symbol.asyncDispose]() {
      await lease.close();
      await link.close();
    },
  };
}

/** Asks until it is granted, also through an outage. */
async function acquireInTime(lease: Lease, holder: string): Promise<LeaseGrant> {
  for (;;) {
    const grant = await lease.tryAcquire("healer", holder).catch(() => null);
    if (grant !== null) return grant;
    await systemClock.sleep(POLL_MS);
  }
}

function startHolder(nats: NatsCluster, clusterName: string) {
  const child = join(import.meta.dirname, "../support/lease-child.ts");
  return startChild(process.execPath, [child, clusterName, `${TTL_MS}`, ...nats.urls]);
}

/** From the line that a holder prints. */
function heldBy(line: string | undefined): { pid: number; token: number } {
  const [, pid, token] = (line ?? "").split(" ");
  return { pid: Number(pid), token: Number(token) };
}

describe("NATS lease on one server", () => {
  let nats: NatsCluster;
  beforeAll(async () => void (nats = await startNats()));
  afterAll(() => nats[Symbol.asyncDispose]());

  test("a process that was stopped while another took over finds its lease lost at once", async () => {
    await using holder = startHolder(nats, "stopped");
    await holder.linesReach(1);
    const { pid, token } = heldBy(holder.lines[0]);
    await using other = await openLease(nats, "stopped");
    expect(await other.lease.tryAcquire("healer", "other")).toBeNull();
    process.kill(pid, "SIGSTOP");
    const grant = await acquireInTime(other.lease, "other");
    process.kill(pid, "SIGCONT");
    await holder.linesReach(2);
    expect(holder.lines[1]).toBe("resumed false");
    expect(grant.isHeld()).toBe(true);
    expect(grant.token).toBeGreaterThan(token);
  });

  test("tryAcquire() takes over from a process that was killed", async () => {
    await using holder = startHolder(nats, "killed");
    await holder.linesReach(1);
    await using other = await openLease(nats, "killed");
    expect(await other.lease.holderOf("healer")).toBe("child");
    await holder.kill();
    const grant = await acquireInTime(other.lease, "other");
    expect(grant.token).toBeGreaterThan(heldBy(holder.lines[0]).token);
  });

  test("isHeld() compares the clock at each call, and a grant that was lost stays lost", async () => {
    let passedMs = 0;
    const clock = { ...systemClock, monotonicMs: () => systemClock.monotonicMs() + passedMs };
    await using open = await openLease(nats, "clock", { ttlMs: 30_000, clock });
    const grant = await open.lease.tryAcquire("healer", "a");
    expect(grant?.isHeld()).toBe(true);
    passedMs = 20_000;
    expect(grant?.isHeld()).toBe(false);
    expect(grant?.signal.aborted).toBe(true);
    passedMs = 0;
    expect(grant?.isHeld()).toBe(false);
  });

  test("a challenger waits for the time to live that the holder has, not for its own", async () => {
    await using open = await openLease(nats, "ttl", { ttlMs: 60_000 });
    await using other = await openLease(nats, "ttl", { ttlMs: 60 });
    const grant = await open.lease.tryAcquire("healer", "a");
    expect(await other.lease.tryAcquire("healer", "b")).toBeNull();
    await systemClock.sleep(200);
    expect(await other.lease.tryAcquire("healer", "b")).toBeNull();
    expect(grant?.isHeld()).toBe(true);
  });

  test("a lease that is deleted by hand is lost to its holder and free for others", async () => {
    await using open = await openLease(nats, "deleted");
    await using other = await openLease(nats, "deleted");
    const grant = await open.lease.tryAcquire("healer", "a");
    const bucket = await new Kvm(open.link.connection).open(open.link.names.leaseBucket);
    await bucket.delete("healer");
    const next = await other.lease.tryAcquire("healer", "b");
    expect(next?.token).toBeGreaterThan(grant?.token ?? Infinity);
    await expect.poll(() => grant?.isHeld()).toBe(false);
    expect(next?.isHeld()).toBe(true);
  });

  test("close() lets the next holder in at once", async () => {
    await using other = await openLease(nats, "closed", { ttlMs: 60_000 });
    {
      await using open = await openLease(nats, "closed", { ttlMs: 60_000 });
      await open.lease.tryAcquire("healer", "a");
      expect(await other.lease.tryAcquire("healer", "b")).toBeNull();
    }
    expect(await other.lease.tryAcquire("healer", "b")).not.toBeNull();
  });

  test("a process whose release did not arrive may take the lease again at once, others have to wait", async () => {
    const ttlMs = 3_000;
    await using open = await openLease(nats, "unreleased", { ttlMs });
    const first = await open.lease.tryAcquire("healer", "a");
    await nats.servers[0]?.kill9();
    await first?.release();
    expect(first?.isHeld()).toBe(false);
    await nats.servers[0]?.restart();
    await using other = await openLease(nats, "unreleased", { ttlMs: 60_000 });
    expect(await other.lease.tryAcquire("healer", "b")).toBeNull();
    const again = await acquireInTime(open.lease, "a");
    expect(again.token).toBeGreaterThan(first?.token ?? Infinity);
    expect(await other.lease.tryAcquire("healer", "b")).toBeNull();
  });
});

test("a lease on three servers passes on after a kill -9 of the bucket's leader, and is never held twice", async () => {
  await using nats = await startNats({ servers: 3 });
  await using a = await openLease(nats, "leader");
  await using b = await openLease(nats, "leader");
  const first = (await a.lease.tryAcquire("healer", "a")) as LeaseGrant;
  expect(await b.lease.tryAcquire("healer", "b")).toBeNull();
  const leader = await nats.leaderOf(`KV_${a.link.names.leaseBucket}`);
  await leader.kill9();
  // Publishing pauses for longer than this lease stands, so its holder gives it up whoever comes next.
  const second = await acquireInTime(b.lease, "b");
  expect(first.isHeld()).toBe(false);
  expect(second.token).toBeGreaterThan(first.token);
  expect(await a.lease.tryAcquire("healer", "a")).toBeNull();
});
