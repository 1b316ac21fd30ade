import { describe, expect, test } from "vitest";
import type { Clock } from "../../../src/lib/clock.ts";
import { systemClock } from "../../../src/lib/clock.ts";
import { deadlineIn } from "../../../src/lib/deadline.ts";
import type { LmdbEnvironment } from "../../../src/lib/lmdb-environment.ts";
import { nextTurn } from "../../../src/lib/next-turn.ts";
import { openLmdbWal } from "../../../src/wal/lmdb-wal.ts";
import { makeLmdbDirectory } from "../../support/lmdb-directory.ts";
import { sampleIntent, sampleTxid } from "../../support/sample-records.ts";

describe("LMDB log", () => {
  test("settle() leaves the disk with the next append", async () => {
    await using directory = await makeLmdbDirectory();
    const environment = await directory.open();
    const wal = openLmdbWal({ environment, clock: idleClock });
    for (const n of [1, 2, 3]) await wal.append(sampleIntent(n), soon());
    await wal.settle([sampleTxid(1), sampleTxid(2)], soon());
    expect(countIntents(environment)).toBe(3);
    await wal.append(sampleIntent(4), soon());
    expect(countIntents(environment)).toBe(2);
    await wal.close();
  });

  test("settle() leaves the disk after a while when nothing is appended", async () => {
    await using directory = await makeLmdbDirectory();
    const environment = await directory.open();
    const timers: (() => void)[] = [];
    const clock = { ...systemClock, startTimer: (_: number, action: () => void) => collectTimer(timers, action) };
    const wal = openLmdbWal({ environment, clock });
    await wal.append(sampleIntent(1), soon());
    await wal.settle([sampleTxid(1)], soon());
    expect(countIntents(environment)).toBe(1);
    timers.at(-1)?.();
    while (countIntents(environment) > 0) await nextTurn();
    await wal.close();
  });

  test("settle() during an append closes it as soon as it is durable", async () => {
    await using directory = await makeLmdbDirectory();
    const wal = openLmdbWal({ environment: await directory.open(), clock: systemClock });
    const appending = wal.append(sampleIntent(1), soon());
    await wal.settle([sampleTxid(1)], soon());
    await appending;
    expect(await wal.readOpen(0, 10, soon())).toEqual([]);
    await wal.close();
  });

  test("a crash between an intent and the removal of the one it superseded leaves the later one open", async () => {
    await using directory = await makeLmdbDirectory();
    const wal = openLmdbWal({ environment: await directory.open(), clock: idleClock });
    await wal.append(sampleIntent(1, { startedAtMs: 1 }), soon());
    await wal.append(sampleIntent(1, { startedAtMs: 2 }), soon());
    // Opened without closing the log, so nothing that it still meant to remove is removed.
    const environment = await directory.open();
    expect(countIntents(environment)).toBe(2);
    const reopened = openLmdbWal({ environment, clock: idleClock });
    const open = await reopened.readOpen(0, 10, soon());
    expect(open.map(({ intent }) => intent.startedAtMs)).toEqual([2]);
    await reopened.append(sampleIntent(2), soon());
    expect(countIntents(environment)).toBe(2);
    await reopened.close();
  });

  test("append() whose deadline passed while it waited appends nothing", async () => {
    await using directory = await makeLmdbDirectory();
    const wal = openLmdbWal({ environment: await directory.open(), clock: systemClock });
    const late = wal.append(sampleIntent(1), { atMs: 0 });
    await expect(late).rejects.toMatchObject({ code: "wal_unavailable", retriable: true });
    expect(await wal.readOpen(0, 10, soon())).toEqual([]);
    await wal.close();
  });

  test("a refused write rejects as wal_unavailable, and settled intents stay removable", async () => {
    await using directory = await makeLmdbDirectory({ diskFreeBytesMin: Number.MAX_SAFE_INTEGER });
    const wal = openLmdbWal({ environment: await directory.open(), clock: systemClock });
    await expect(wal.append(sampleIntent(1), soon())).rejects.toMatchObject({
      code: "wal_unavailable",
      retriable: true,
    });
    expect(await wal.readOpen(0, 10, soon())).toEqual([]);
    await wal.close();
  });

  test("a storage error rejects as wal_unavailable, and everything after it", async () => {
    const impatient = { ...systemClock, startTimer: (_: number, action: () => void) => collectTimer([], action, true) };
    await using directory = await makeLmdbDirectory({ clock: impatient });
    const wal = openLmdbWal({ environment: await directory.open(), clock: systemClock });
    const unavailable = { code: "wal_unavailable", retriable: true };
    await expect(wal.append(sampleIntent(1), soon())).rejects.toMatchObject(unavailable);
    await expect(wal.append(sampleIntent(2), soon())).rejects.toMatchObject(unavailable);
    await expect(wal.readOpen(0, 10, soon())).rejects.toMatchObject(unavailable);
    await wal.close();
  });
});

/** No timer ever fires. */
const idleClock: Clock = { ...systemClock, startTimer: () => ({ cancel() {} }) };

function collectTimer(timers: (() => void)[], action: () => void, isDue = false) {
  timers.push(action);
  if (isDue) action();
  return { cancel() {} };
}

function countIntents(environment: LmdbEnvironment): number {
  return environment.read((db) => [...db.getKeys({ start: Buffer.of(0x10), end: Buffer.of(0x11) })].length);
}

function soon() {
  return deadlineIn(systemClock, 30_000);
}
