import { describe, expect, test } from "vitest";
import type { Intent } from "../../src/domain/intent.ts";
import { systemClock } from "../../src/lib/clock.ts";
import type { Deadline } from "../../src/lib/deadline.ts";
import { deadlineIn } from "../../src/lib/deadline.ts";
import type { Wal, WalEntry } from "../../src/wal/wal.ts";
import { sampleIntent, sampleTxid } from "../support/sample-records.ts";

/** An empty log that keeps its contents across `reopen`. Deadlines are measured on the system clock. */
export type WalHarness = AsyncDisposable & {
  /** The log as opened last. */
  readonly wal: Wal;
  /** Closes the log and opens it anew. */
  reopen(): Promise<void>;
};

type Open = () => Promise<WalHarness>;

/** What every `Wal` promises. Run by each adapter. */
export function describeWal(name: string, open: Open): void {
  describe(name, () => {
    describeAppend(open);
    describeSettle(open);
    describeReading(open);
    describeLifetime(open);
  });
}

function describeAppend(open: Open): void {
  test("append() makes an intent readable, every field of it", async () => {
    await using harness = await open();
    const intent = sampleIntent(1);
    const sequence = await harness.wal.append(intent, soon());
    expect(await harness.wal.readOpen(0, 10, soon())).toEqual([{ sequence, intent, ageMs: expect.any(Number) }]);
  });

  test("append() answers rising sequences", async () => {
    await using harness = await open();
    let last = 0;
    for (let n = 1; n <= 5; n += 1) {
      const sequence = await harness.wal.append(sampleIntent(n), soon());
      expect(sequence).toBeGreaterThan(last);
      last = sequence;
    }
  });

  test("append() keeps all of many concurrent intents apart", async () => {
    await using harness = await open();
    const sequences = await Promise.all([...Array(100).keys()].map((n) => harness.wal.append(sampleIntent(n), soon())));
    expect(new Set(sequences).size).toBe(100);
    const entries = await readAll(harness.wal, 1_000);
    for (const { sequence, intent } of entries) expect(intent).toEqual(sampleIntent(sequences.indexOf(sequence)));
    expect(entries).toHaveLength(100);
  });

  test("append() under the same txid supersedes the earlier intent", async () => {
    await using harness = await open();
    const first = await harness.wal.append(sampleIntent(1, { startedAtMs: 1 }), soon());
    await harness.wal.append(sampleIntent(2), soon());
    const again = await harness.wal.append(sampleIntent(1, { startedAtMs: 2 }), soon());
    expect(again).toBeGreaterThan(first);
    const expected = [sampleTxid(2), sampleTxid(1)];
    expect(txidsOf(await readAll(harness.wal, 10))).toEqual(expected);
    expect((await readAll(harness.wal, 10)).at(-1)?.intent.startedAtMs).toBe(2);

    await harness.reopen();
    expect(txidsOf(await readAll(harness.wal, 10))).toEqual(expected);
    await harness.wal.settle([sampleTxid(1)], soon());
    expect(txidsOf(await readAll(harness.wal, 10))).toEqual([sampleTxid(2)]);
  });

  test("append() under the same txid twice at once leaves one intent", async () => {
    await using harness = await open();
    await Promise.all([
      harness.wal.append(sampleIntent(1), soon()),
      harness.wal.append(sampleIntent(1), soon()),
      harness.wal.append(sampleIntent(1), soon()),
    ]);
    expect(txidsOf(await readAll(harness.wal, 10))).toEqual([sampleTxid(1)]);
  });

  test("append() encodes the intent before it first awaits", async () => {
    await using harness = await open();
    const intent: { -readonly [Name in keyof Intent]: Intent[Name] } = sampleIntent(1);
    const appending = harness.wal.append(intent, soon());
    intent.startedAtMs = -1;
    await appending;
    expect((await readAll(harness.wal, 10))[0]?.intent).toEqual(sampleIntent(1));
  });

  test("append() rejects with wal_unavailable after its deadline", async () => {
    await using harness = await open();
    const late = harness.wal.append(sampleIntent(1), { atMs: systemClock.monotonicMs() - 1 });
    await late.then(
      // A log that needs no wait may answer in time all the same.
      (sequence) => expect(sequence).toBeGreaterThan(0),
      (cause: unknown) => expect(cause).toMatchObject({ code: "wal_unavailable", retriable: true }),
    );
  });
}

function describeSettle(open: Open): void {
  test("settle() closes exactly the intents named", async () => {
    await using harness = await open();
    for (let n = 1; n <= 4; n += 1) await harness.wal.append(sampleIntent(n), soon());
    await harness.wal.settle([sampleTxid(1), sampleTxid(3)], soon());
    expect(txidsOf(await readAll(harness.wal, 10))).toEqual([sampleTxid(2), sampleTxid(4)]);
  });

  test("settle() ignores txids that it does not know or knows no more", async () => {
    await using harness = await open();
    await harness.wal.append(sampleIntent(1), soon());
    await harness.wal.settle([sampleTxid(7), sampleTxid(1), sampleTxid(1)], soon());
    await harness.wal.settle([sampleTxid(1)], soon());
    await harness.wal.settle([], soon());
    expect(await readAll(harness.wal, 10)).toEqual([]);
  });

  test("settle() does not close what is appended afterwards under the same txid", async () => {
    await using harness = await open();
    await harness.wal.append(sampleIntent(1), soon());
    await harness.wal.settle([sampleTxid(1)], soon());
    await harness.wal.append(sampleIntent(1), soon());
    expect(txidsOf(await readAll(harness.wal, 10))).toEqual([sampleTxid(1)]);
    await harness.reopen();
    expect(txidsOf(await readAll(harness.wal, 10))).toEqual([sampleTxid(1)]);
  });
}

function describeReading(open: Open): void {
  test.each([1, 3, 100])("readOpen() gives pages of %d in order of their sequences", async (limit) => {
    await using harness = await open();
    const order = [5, 1, 4, 2, 3, 9, 8];
    for (const n of order) await harness.wal.append(sampleIntent(n), soon());
    expect(txidsOf(await readAll(harness.wal, limit))).toEqual(order.map(sampleTxid));
  });

  test("readOpen() passes over many settled intents", async () => {
    await using harness = await open();
    await Promise.all([...Array(700).keys()].map((n) => harness.wal.append(sampleIntent(n), soon())));
    await harness.wal.settle([...Array(699).keys()].map(sampleTxid), soon());
    expect(txidsOf(await readAll(harness.wal, 1))).toEqual([sampleTxid(699)]);
  });

  test("readOpen() of an empty log is an empty page", async () => {
    await using harness = await open();
    expect(await harness.wal.readOpen(0, 10, soon())).toEqual([]);
    expect(await harness.wal.readOpen(1_000, 10, soon())).toEqual([]);
  });
}

function describeLifetime(open: Open): void {
  test("reopening keeps open intents with their sequences", async () => {
    await using harness = await open();
    await Promise.all([...Array(20).keys()].map((n) => harness.wal.append(sampleIntent(n), soon())));
    await harness.wal.settle([sampleTxid(0), sampleTxid(19)], soon());
    const before = await readAll(harness.wal, 100);
    await harness.reopen();
    const ageless = (entries: readonly WalEntry[]) => entries.map(({ sequence, intent }) => ({ sequence, intent }));
    expect(ageless(await readAll(harness.wal, 100))).toEqual(ageless(before));
  });

  test("reopening gives no sequence again, even when nothing is open", async () => {
    await using harness = await open();
    let last = 0;
    for (let n = 1; n <= 3; n += 1) {
      const sequence = await harness.wal.append(sampleIntent(n), soon());
      expect(sequence).toBeGreaterThan(last);
      last = sequence;
      await harness.wal.settle([sampleTxid(n)], soon());
      await harness.reopen();
    }
  });

  test("close() answers the appends that were called before it", async () => {
    await using harness = await open();
    const appending = harness.wal.append(sampleIntent(1), soon());
    const closing = harness.wal.close();
    await appending;
    await closing;
    await harness.reopen();
    expect(txidsOf(await readAll(harness.wal, 10))).toEqual([sampleTxid(1)]);
  });

  test("close() leaves a log that rejects with wal_unavailable", async () => {
    await using harness = await open();
    await harness.wal.close();
    const closed = { code: "wal_unavailable" };
    await expect(harness.wal.append(sampleIntent(1), soon())).rejects.toMatchObject(closed);
    await expect(harness.wal.readOpen(0, 1, soon())).rejects.toMatchObject(closed);
  });
}

function soon(): Deadline {
  return deadlineIn(systemClock, 30_000);
}

async function readAll(wal: Wal, limit: number): Promise<WalEntry[]> {
  const found: WalEntry[] = [];
  for (;;) {
    const page = await wal.readOpen(found.at(-1)?.sequence ?? 0, limit, soon());
    if (page.length === 0) return found;
    expect(page.length).toBeLessThanOrEqual(limit);
    found.push(...page);
  }
}

function txidsOf(entries: readonly WalEntry[]): string[] {
  return entries.map(({ intent }) => intent.txid);
}
