import { join } from "node:path";
import { jetstreamManager } from "@nats-io/jetstream";
import { Kvm } from "@nats-io/kv";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Lease, LeaseGrant } from "../../src/lease/lease.ts";
import { openNatsLease } from "../../src/lease/nats-lease.ts";
import type { Clock } from "../../src/lib/clock.ts";
import { systemClock } from "../../src/lib/clock.ts";
import type { NatsLink } from "../../src/nats/nats-link.ts";
import { startChild } from "../support/child-process.ts";
import type { Interceptor } from "../support/intercepted-link.ts";
import { interceptRequests } from "../support/intercepted-link.ts";
import type { NatsCluster } from "../support/nats.ts";
import { startNats } from "../support/nats.ts";
import { openTestLink } from "../support/test-link.ts";

const TTL_MS = 900;
const POLL_MS = 30;

type OpenLease = AsyncDisposable & { readonly lease: Lease; readonly link: NatsLink };

type LeaseTestOptions = { readonly ttlMs?: number; readonly clock?: Clock; readonly intercept?: Interceptor };

/** Subjects of writes to a bucket, and of reads. */
const WRITES = "$KV.";
const READS = "$JS.API.STREAM.MSG.GET.";

async function openLease(
  nats: NatsCluster,
  clusterName: string,
  { ttlMs = TTL_MS, clock = systemClock, intercept = (_, send) => send() }: LeaseTestOptions = {},
): Promise<OpenLease> {
  const link = await openTestLink(nats, { clusterName, clock });
  const lease = await openNatsLease(interceptRequests(link, intercept), { ttlMs });
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
    await using open = await openLease(nats, "unreleased", { ttlMs: 9_000 });
    const first = await open.lease.tryAcquire("healer", "a");
    await nats.servers[0]?.kill9();
    await first?.release();
    expect(first?.isHeld()).toBe(false);
    await nats.servers[0]?.restart();
    await using other = await openLease(nats, "unreleased");
    expect(await other.lease.tryAcquire("healer", "b")).toBeNull();
    await expect.poll(() => open.lease.holderOf("healer").catch(() => "unreachable")).toBeNull();
    const again = await open.lease.tryAcquire("healer", "a");
    expect(again?.token).toBeGreaterThan(first?.token ?? Infinity);
    expect(first?.isHeld()).toBe(false);
    expect(await other.lease.tryAcquire("healer", "b")).toBeNull();
  });

  test.each([
    ["written", WRITES],
    ["read", READS],
  ])("tryAcquire() asks again when no server knows of the bucket yet that is %s", async (how, subjects) => {
    let requests = 0;
    await using open = await openLease(nats, `new-${how}`, {
      async intercept(subject, send) {
        if (!subject.startsWith(subjects) || (requests += 1) > 1) return await send();
        const { streams } = await jetstreamManager(open.link.connection);
        const { config } = await streams.info(`KV_${open.link.names.leaseBucket}`);
        await streams.delete(config.name);
        try {
          return await send();
        } finally {
          await streams.add(config);
        }
      },
    });
    expect((await open.lease.tryAcquire("healer", "a"))?.isHeld()).toBe(true);
    expect(requests).toBeGreaterThan(1);
  });

  test("a grant stands from the moment when it was asked for, not from that of the answer", async () => {
    let passedMs = 0;
    const clock = { ...systemClock, monotonicMs: () => systemClock.monotonicMs() + passedMs };
    await using open = await openLease(nats, "sent", {
      ...{ ttlMs: 30_000, clock },
      async intercept(subject, send) {
        const answer = await send();
        if (subject.startsWith(WRITES)) passedMs += 25_000;
        return answer;
      },
    });
    const grant = await open.lease.tryAcquire("healer", "a");
    expect(passedMs).toBe(25_000);
    expect(grant?.isHeld()).toBe(false);
  });

  test("tryAcquire() answers null while an earlier call of the same process is being answered", async () => {
    const sent = Promise.withResolvers<void>();
    const gate = Promise.withResolvers<void>();
    await using open = await openLease(nats, "asked", {
      async intercept(subject, send) {
        const answer = await send();
        if (!subject.startsWith(WRITES)) return answer;
        sent.resolve();
        await gate.promise;
        return answer;
      },
    });
    const first = open.lease.tryAcquire("healer", "a");
    await sent.promise;
    const second = open.lease.tryAcquire("healer", "a");
    await open.lease.holderOf("healer");
    gate.resolve();
    expect([(await first) === null, (await second) === null]).toEqual([false, true]);
  });

  test("a renewal whose answer was lost does not end the lease", async () => {
    let writes = 0;
    await using open = await openLease(nats, "unanswered", {
      async intercept(subject, send) {
        const answer = await send();
        if (subject.startsWith(WRITES) && (writes += 1) % 3 === 2) throw new Error("the answer was lost");
        return answer;
      },
    });
    await using other = await openLease(nats, "unanswered");
    const grant = await open.lease.tryAcquire("healer", "a");
    await expect.poll(() => writes, { timeout: 20_000 }).toBeGreaterThan(12);
    expect(grant?.isHeld()).toBe(true);
    expect(await other.lease.tryAcquire("healer", "b")).toBeNull();
  });

  test("a lease whose taking was not answered is granted to the same process when it asks again", async () => {
    let writes = 0;
    await using open = await openLease(nats, "unknown", {
      ttlMs: 60_000,
      async intercept(subject, send) {
        const answer = await send();
        if (subject.startsWith(WRITES) && (writes += 1) === 1) throw new Error("the answer was lost");
        return answer;
      },
    });
    await expect(open.lease.tryAcquire("healer", "a")).rejects.toMatchObject({ code: "nats_unavailable" });
    const grant = await open.lease.tryAcquire("healer", "a");
    expect(grant?.isHeld()).toBe(true);
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
