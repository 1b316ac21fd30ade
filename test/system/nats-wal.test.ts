import { join } from "node:path";
import { jetstreamManager } from "@nats-io/jetstream";
import { Registry } from "prom-client";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { BlobId, NodeName } from "../../src/domain/ids.ts";
import { encodeIntent } from "../../src/domain/intent.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { deadlineIn } from "../../src/lib/deadline.ts";
import type { NatsLink } from "../../src/nats/nats-link.ts";
import { encodeWalMessage } from "../../src/wal/wal-message.ts";
import type { NatsWal } from "../../src/wal/nats-wal.ts";
import { ensureWalStream, openNatsWal } from "../../src/wal/nats-wal.ts";
import { startChild } from "../support/child-process.ts";
import type { Interceptor } from "../support/intercepted-link.ts";
import { interceptRequests } from "../support/intercepted-link.ts";
import type { NatsCluster } from "../support/nats.ts";
import { startNats } from "../support/nats.ts";
import { sampleIntent, sampleTxid } from "../support/sample-records.ts";
import { openTestLink } from "../support/test-link.ts";

const HOUR_MS = 3_600_000;

type OpenWal = AsyncDisposable & { readonly link: NatsLink; readonly wal: NatsWal; passMs(ms: number): void };

/** A process's log. Its clock can be moved on. */
async function openWal(
  nats: NatsCluster,
  clusterName: string,
  { registry = null, intercept = (_, send) => send() }: { registry?: Registry | null; intercept?: Interceptor } = {},
): Promise<OpenWal> {
  let passedMs = 0;
  const clock = { ...systemClock, monotonicMs: () => systemClock.monotonicMs() + passedMs };
  const link = await openTestLink(nats, { clusterName, clock });
  const wal = await openNatsWal(interceptRequests(link, intercept), { registry });
  return {
    link,
    wal,
    passMs: (ms) => void (passedMs += ms),
    async [Symbol.asyncDispose]() {
      await wal.close();
      await link.close();
    },
  };
}

function soon({ link }: OpenWal) {
  return deadlineIn(link.clock, 30_000);
}

async function openTxids(open: OpenWal): Promise<string[]> {
  return (await open.wal.readOpen(0, 10_000, soon(open))).map(({ intent }) => intent.txid);
}

async function streamState({ link }: OpenWal) {
  const manager = await jetstreamManager(link.connection);
  return (await manager.streams.info(link.names.walStream)).state;
}

/** One message each. */
async function appendOneByOne(open: OpenWal, first: number, last: number): Promise<void> {
  for (let n = first; n <= last; n += 1) await open.wal.append(sampleIntent(n), soon(open));
}

describe("NATS log on one server", () => {
  let nats: NatsCluster;
  beforeAll(async () => void (nats = await startNats()));
  afterAll(() => nats[Symbol.asyncDispose]());

  test("readOpen() tells one process what others appended and settled", async () => {
    await using writer = await openWal(nats, "two");
    await using other = await openWal(nats, "two");
    await using reader = await openWal(nats, "two");
    await writer.wal.append(sampleIntent(1), soon(writer));
    await other.wal.append(sampleIntent(2), soon(other));
    expect(await openTxids(reader)).toEqual([1, 2].map(sampleTxid));
    await other.wal.settle([sampleTxid(1)], soon(other));
    await other.wal.append(sampleIntent(3), soon(other));
    expect(await openTxids(reader)).toEqual([2, 3].map(sampleTxid));
    expect(await openTxids(writer)).toEqual([2, 3].map(sampleTxid));
  });

  test("readOpen() tells ages by its own monotonic clock", async () => {
    await using open = await openWal(nats, "ages");
    await open.wal.append(sampleIntent(1, { startedAtMs: systemClock.wallMs() - HOUR_MS }), soon(open));
    const young = (await open.wal.readOpen(0, 1, soon(open)))[0]?.ageMs ?? Infinity;
    expect(young).toBeLessThan(HOUR_MS / 2);
    open.passMs(HOUR_MS);
    const old = (await open.wal.readOpen(0, 1, soon(open)))[0]?.ageMs ?? 0;
    expect(old).toBeGreaterThanOrEqual(HOUR_MS);
  });

  test("append() shares a message with what waited, and takes settlements along", async () => {
    await using open = await openWal(nats, "shared");
    await Promise.all([...Array(100).keys()].map((n) => open.wal.append(sampleIntent(n), soon(open))));
    const { messages } = await streamState(open);
    expect(messages).toBeLessThan(10);
    await open.wal.settle([...Array(99).keys()].map(sampleTxid), soon(open));
    await open.wal.append(sampleIntent(100), soon(open));
    expect((await streamState(open)).messages).toBe(messages + 1);
    await using reader = await openWal(nats, "shared");
    expect(await openTxids(reader)).toEqual([99, 100].map(sampleTxid));
  });

  test("settle() reaches the log by itself when nothing is appended", async () => {
    await using open = await openWal(nats, "settle");
    await open.wal.append(sampleIntent(1), soon(open));
    await open.wal.settle([sampleTxid(1)], soon(open));
    await expect.poll(async () => (await streamState(open)).messages).toBe(2);
    await using reader = await openWal(nats, "settle");
    expect(await openTxids(reader)).toEqual([]);
  });

  test("settle() during an append closes it as soon as it is durable", async () => {
    await using open = await openWal(nats, "during");
    const appending = open.wal.append(sampleIntent(1), soon(open));
    await open.wal.settle([sampleTxid(1)], soon(open));
    await appending;
    expect(await openTxids(open)).toEqual([]);
  });

  test("settle() during an append does not close what is appended afterwards", async () => {
    await using open = await openWal(nats, "afterwards");
    const first = open.wal.append(sampleIntent(1), soon(open));
    await open.wal.settle([sampleTxid(1)], soon(open));
    await Promise.all([first, open.wal.append(sampleIntent(1), soon(open))]);
    expect(await openTxids(open)).toEqual([sampleTxid(1)]);
  });

  test("settle() of more than a message holds is read whole", async () => {
    await using open = await openWal(nats, "many");
    await open.wal.append(sampleIntent(9_000), soon(open));
    await open.wal.settle([...Array(10_000).keys()].map(sampleTxid), soon(open));
    expect(await openTxids(open)).toEqual([]);
  });

  test("append() splits what waits by bytes", async () => {
    const sent: string[] = [];
    await using open = await openWal(nats, "bytes", {
      async intercept(subject, send) {
        sent.push(subject);
        return await send();
      },
    });
    const replaces = Array.from({ length: 5_000 }, (_, index) => ({
      id: `${sampleTxid(index)}.body.0` as BlobId,
      node: "n1" as NodeName,
    }));
    const intents = [1, 2, 3, 4, 5, 6].map((n) => sampleIntent(n, { replaces }));
    sent.length = 0;
    const bytesEach = encodeIntent(intents[0] as (typeof intents)[0]).length;
    await Promise.all(intents.map((intent) => open.wal.append(intent, soon(open))));
    // Two of them stay below half a MiB, three do not.
    expect(bytesEach).toBeGreaterThan(180 * 1_024);
    expect(bytesEach).toBeLessThan(250 * 1_024);
    expect(sent).toEqual(Array(3).fill(open.link.names.walSubject));
    await using reader = await openWal(nats, "bytes");
    expect((await reader.wal.readOpen(0, 10, soon(reader))).map(({ intent }) => intent)).toEqual(intents);
  });

  test("append() refuses an intent that no message could hold", async () => {
    await using open = await openWal(nats, "huge");
    const replaces = Array.from({ length: 30_000 }, () => ({
      id: `${sampleTxid(1)}.body.0` as BlobId,
      node: "n1" as NodeName,
    }));
    const appending = open.wal.append(sampleIntent(1, { replaces }), soon(open));
    await expect(appending).rejects.toMatchObject({ code: "wal_unavailable", retriable: false });
    expect(await openTxids(open)).toEqual([]);
  });

  test("append() and settle() repeat what was lost on its way, and what only seems to be", async () => {
    let sent = 0;
    await using open = await openWal(nats, "lossy", {
      async intercept(subject, send) {
        if (!subject.endsWith(".wal")) return await send();
        sent += 1;
        if (sent % 3 === 1) throw new Error("the message was lost");
        const answer = await send();
        if (sent % 3 === 2) throw new Error("the answer was lost");
        return answer;
      },
    });
    for (let n = 1; n <= 10; n += 1) {
      await open.wal.append(sampleIntent(n), soon(open));
      await open.wal.settle([sampleTxid(n - 1)], soon(open));
    }
    expect(sent).toBeGreaterThan(20);
    expect(await openTxids(open)).toEqual([sampleTxid(10)]);
    await using reader = await openWal(nats, "lossy");
    expect(await openTxids(reader)).toEqual([sampleTxid(10)]);
  });

  test("close() waits for an append whose first message was lost", async () => {
    let sent = 0;
    await using open = await openWal(nats, "closing", {
      async intercept(subject, send) {
        if (subject.endsWith(".wal") && (sent += 1) < 3) throw new Error("the message was lost");
        return await send();
      },
    });
    const appending = open.wal.append(sampleIntent(1), soon(open));
    await open.wal.close();
    await appending;
    await using reader = await openWal(nats, "closing");
    expect(await openTxids(reader)).toEqual([sampleTxid(1)]);
  });

  test("a repetition that arrives behind the settlement opens the intent again until it is settled once more", async () => {
    await using open = await openWal(nats, "late");
    await open.wal.append(sampleIntent(1), soon(open));
    await open.wal.settle([sampleTxid(1)], soon(open));
    expect(await openTxids(open)).toEqual([]);
    const late = { settled: [], appends: [{ txid: sampleTxid(1), encoded: encodeIntent(sampleIntent(1)) }] };
    await open.link.connection.request(open.link.names.walSubject, encodeWalMessage(late));
    expect(await openTxids(open)).toEqual([sampleTxid(1)]);
    await open.wal.settle([sampleTxid(1)], soon(open));
    expect(await openTxids(open)).toEqual([]);
  });

  test("readOpen() rejects with format_unknown once it meets a message of a newer program", async () => {
    await using open = await openWal(nats, "newer");
    await open.link.connection.request(open.link.names.walSubject, Buffer.of(2));
    await expect(open.wal.readOpen(0, 1, soon(open))).rejects.toMatchObject({ code: "format_unknown" });
    await expect(open.wal.readOpen(0, 1, soon(open))).rejects.toMatchObject({ code: "format_unknown" });
  });

  test("readOpen() begins anew when the stream was replaced", async () => {
    await using open = await openWal(nats, "replaced");
    await appendOneByOne(open, 1, 5);
    expect(await openTxids(open)).toHaveLength(5);
    const manager = await jetstreamManager(open.link.connection);
    await manager.streams.delete(open.link.names.walStream);
    await ensureWalStream(open.link);
    await open.wal.append(sampleIntent(6), soon(open));
    expect(await openTxids(open)).toEqual([sampleTxid(6)]);
  });

  test("trim() gives up what lies before the first open intent and nothing behind it", async () => {
    await using open = await openWal(nats, "trim");
    await appendOneByOne(open, 1, 200);
    await open.wal.settle([...Array(201).keys()].filter((n) => n !== 100 && n !== 150).map(sampleTxid), soon(open));
    await open.wal.trim(soon(open));
    expect((await streamState(open)).first_seq).toBe(100);
    await using reader = await openWal(nats, "trim");
    expect(await openTxids(reader)).toEqual([100, 150].map(sampleTxid));

    await reader.wal.settle([sampleTxid(100), sampleTxid(150)], soon(reader));
    await appendOneByOne(reader, 201, 300);
    await reader.wal.settle([...Array(301).keys()].map(sampleTxid), soon(reader));
    expect(await openTxids(reader)).toEqual([]);
    await open.wal.trim(soon(open));
    expect((await streamState(open)).first_seq).toBeGreaterThan(220);
    expect(await openTxids(open)).toEqual([]);
    expect(await openTxids(reader)).toEqual([]);
  });

  test("trim() appends a stuck intent again, so that it holds up nothing and does not get too old", async () => {
    await using open = await openWal(nats, "stuck");
    await appendOneByOne(open, 1, 200);
    await open.wal.settle([...Array(201).keys()].filter((n) => n !== 1 && n !== 200).map(sampleTxid), soon(open));
    await open.wal.trim(soon(open));
    expect((await streamState(open)).first_seq).toBe(1);
    open.passMs(13 * HOUR_MS);
    await open.wal.trim(soon(open));
    expect((await streamState(open)).first_seq).toBeGreaterThan(130);
    const [first, second] = await open.wal.readOpen(0, 10, soon(open));
    expect([first?.intent, second?.intent]).toEqual([sampleIntent(1), sampleIntent(200)]);
    expect(first?.ageMs).toBeGreaterThan(13 * HOUR_MS);
    await using reader = await openWal(nats, "stuck");
    expect(await openTxids(reader)).toEqual([1, 200].map(sampleTxid));
  });

  test("the log tells how it does", async () => {
    const registry = new Registry();
    await using open = await openWal(nats, "metrics", { registry });
    await Promise.all([1, 2, 3].map((n) => open.wal.append(sampleIntent(n), soon(open))));
    await open.wal.readOpen(0, 10, soon(open));
    const text = await registry.metrics();
    expect(text).toContain("kintsugi_wal_append_seconds_count 3");
    expect(text).toContain("kintsugi_wal_batch_intents_sum 3");
    expect(text).toContain("kintsugi_wal_open_intents 3");
  });

  test("the log goes on after its server was killed and restarted: nothing acknowledged is missing", async () => {
    await using open = await openWal(nats, "restart");
    await using reader = await openWal(nats, "restart");
    await appendOneByOne(open, 1, 20);
    expect(await openTxids(reader)).toHaveLength(20);
    const [server] = nats.servers;
    await server?.kill9();
    const during = open.wal.append(sampleIntent(21), soon(open));
    await server?.restart();
    await during;
    await open.wal.append(sampleIntent(22), soon(open));
    const expected = [...Array(22).keys()].map((n) => sampleTxid(n + 1));
    expect(await openTxids(reader)).toEqual(expected);
    expect(await openTxids(open)).toEqual(expected);
  });
});

test("append() on three servers: what was acknowledged before, during and after a kill -9 of the stream's leader is read by another process", async () => {
  await using nats = await startNats({ servers: 3 });
  await using reader = await openWal(nats, "kill");
  await using child = startChild(process.execPath, [
    join(import.meta.dirname, "../support/wal-child.ts"),
    ...["kill", "3", ...nats.urls],
  ]);
  await child.linesReach(50);
  expect(await openTxids(reader)).toEqual(expect.arrayContaining(child.lines.slice(0, 50).map(txidOfLine)));
  const leader = await nats.leaderOf(reader.link.names.walStream);
  await leader.kill9();
  await child.linesReach(child.lines.length + 100);
  await child.kill();
  const acknowledged = child.lines.map(txidOfLine);
  expect(await openTxids(reader)).toEqual(expect.arrayContaining(acknowledged));
  await using another = await openWal(nats, "kill");
  expect(await openTxids(another)).toEqual(expect.arrayContaining(acknowledged));
});

function txidOfLine(line: string) {
  return sampleTxid(Number(line));
}
