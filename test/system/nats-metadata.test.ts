/** The metadata store of a cluster beyond its contract: refused batches, change events, several processes, its index. */
import { open as openFile, rm, truncate } from "node:fs/promises";
import { join } from "node:path";
import { jetstreamManager } from "@nats-io/jetstream";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { decodeOutbox, type ChangeEvent } from "../../src/domain/change-event.ts";
import type { ObjectKey, Revision } from "../../src/domain/ids.ts";
import { REVISION_NONE } from "../../src/domain/ids.ts";
import type { StoredRecord } from "../../src/domain/record.ts";
import { nextTurn } from "../../src/lib/next-turn.ts";
import type { CommitResult } from "../../src/metadata/metadata-store.ts";
import { ensureMetadataStreams, metadataStreamOf } from "../../src/metadata/nats-metadata-streams.ts";
import { commit, commitOk, keysOf, list, soon } from "../support/metadata-calls.ts";
import type { NatsCluster } from "../support/nats.ts";
import { startNats } from "../support/nats.ts";
import type { MetadataProcess } from "../support/nats-metadata.ts";
import { makeNatsMetadata } from "../support/nats-metadata.ts";
import { recordingLogger } from "../support/recording-logger.ts";
import { BUCKET, sampleRecord } from "../support/sample-records.ts";

let nats: NatsCluster;
beforeAll(async () => {
  nats = await startNats();
});
afterAll(async () => {
  await nats[Symbol.asyncDispose]();
});

const KEY = "a" as ObjectKey;
const BEGINS_ANEW = "the metadata index begins anew";

describe("commit()", () => {
  test.each([
    ["first", [0]],
    ["middle", [3]],
    ["last", [7]],
    ["first, middle and last", [0, 3, 7]],
    ["every", [0, 1, 2, 3, 4, 5, 6, 7]],
  ])("takes the others when the servers refuse a batch for its %s member", async (_, conflicting) => {
    await using metadata = await makeNatsMetadata(nats, 1);
    const { store } = await metadata.open();
    const keys = [...Array(8).keys()].map((n) => `key-${n}`);
    const revisions = await Promise.all(keys.map((key) => commitOk(store, sampleRecord(key), REVISION_NONE)));
    // Nothing here can tell that such a revision was never given, so the whole batch goes out.
    const future = 1_000_000 as Revision;
    const results = await Promise.all(
      keys.map((key, n) =>
        commit(
          store,
          sampleRecord(key, { etag: "new" }),
          conflicting.includes(n) ? future : (revisions[n] as Revision),
        ),
      ),
    );
    for (const [n, key] of keys.entries()) {
      const stored = await store.get(BUCKET, key as ObjectKey, soon());
      expect(stored?.record.etag, key).toBe(conflicting.includes(n) ? "e1" : "new");
      const expected = conflicting.includes(n)
        ? { ok: false, current: stored }
        : { ok: true, revision: stored?.revision };
      expect(results[n], key).toEqual(expected);
    }
  });

  test("stores one change event per change that has one, with the revision of its record", async () => {
    await using metadata = await makeNatsMetadata(nats, 1);
    const { store, link } = await metadata.open();
    const [put, silent, removed, lone] = await Promise.all([
      store.commit({ record: sampleRecord("put"), ifRevision: REVISION_NONE, op: "put" }, soon()),
      store.commit({ record: sampleRecord("silent"), ifRevision: REVISION_NONE }, soon()),
      store.commit(
        { record: sampleRecord("gone", { state: "tombstone" }), ifRevision: REVISION_NONE, op: "delete" },
        soon(),
      ),
      store
        .commit({ record: sampleRecord("lone"), ifRevision: REVISION_NONE, op: "patch" }, soon())
        .then((result) => result),
    ]);
    expect(silent.ok).toBe(true);
    const again = await store.commit({ record: sampleRecord("put"), ifRevision: revisionOf(put), op: "put" }, soon());
    const refused = await store.commit({ record: sampleRecord("put"), ifRevision: REVISION_NONE, op: "put" }, soon());
    expect(refused.ok).toBe(false);
    const events = await readOutbox(link, 0);
    expect(events.map(({ op, key, revision }) => [op, key, revision])).toEqual([
      ["put", "put", revisionOf(put)],
      ["delete", "gone", revisionOf(removed)],
      ["patch", "lone", revisionOf(lone)],
      ["put", "put", revisionOf(again)],
    ]);
  });

  test("keeps batches within what a server takes", async () => {
    await using metadata = await makeNatsMetadata(nats, 1);
    const { store } = await metadata.open();
    const bytes = Buffer.alloc(64 * 1_024, 7);
    const keys = [
      ...[...Array(40).keys()].map((n) => `large-${n}`),
      ...[...Array(1_500).keys()].map((n) => `${"k".repeat(500)}-${n}`),
    ];
    const results = await Promise.all(
      keys.map((key) =>
        store.commit(
          {
            record: sampleRecord(key, key.startsWith("large") ? { manifest: { strategy: "inline", bytes } } : {}),
            ifRevision: REVISION_NONE,
            op: "put",
          },
          soon(),
        ),
      ),
    );
    expect(results.every(({ ok }) => ok)).toBe(true);
    expect((await store.summarize(soon()))[0]?.objectCount).toBe(keys.length);
  });

  test("refuses a stale revision that only another process knows to be stale, and answers its record", async () => {
    await using metadata = await makeNatsMetadata(nats, 1);
    const [a, b] = [await metadata.open(), await metadata.open()];
    const first = await commitOk(a.store, sampleRecord("a"), REVISION_NONE);
    const [mine, theirs] = await Promise.all([
      commit(a.store, sampleRecord("a", { etag: "mine" }), first),
      commit(b.store, sampleRecord("a", { etag: "theirs" }), first),
    ]);
    expect([mine.ok, theirs.ok].toSorted()).toEqual([false, true]);
    const [winner, loser] = mine.ok ? [mine, theirs] : [theirs, mine];
    expect(loser).toMatchObject({ ok: false, current: { revision: revisionOf(winner) } });
  });
});

describe("two processes", () => {
  test("lose no update when they race on the same keys, and agree on every history", async () => {
    await using metadata = await makeNatsMetadata(nats, 2);
    const processes = [await metadata.open(), await metadata.open()];
    const told = processes.map(({ store }) => {
      const list: StoredRecord[] = [];
      store.watch((stored) => list.push(stored));
      return list;
    });
    const client = async (n: number) => {
      const { store } = processes[n % 2] as MetadataProcess;
      for (let round = 0; round < 12; round += 1) await increment(store, `counter-${(n + round) % 3}`);
    };
    await Promise.all([...Array(12).keys()].map(client));
    const counters = await Promise.all(
      processes.map(({ store }) =>
        Promise.all([0, 1, 2].map((n) => store.get(BUCKET, `counter-${n}` as ObjectKey, soon()))),
      ),
    );
    expect(counters[0]).toEqual(counters[1]);
    expect(counters[0]?.reduce((sum, stored) => sum + (stored?.record.sizeBytes ?? 0), 0)).toBe(12 * 12);
    for (const list of told) {
      for (const n of [0, 1, 2]) {
        const revisions = list.filter(({ record }) => record.key === `counter-${n}`).map(({ revision }) => revision);
        expect(revisions).toEqual([...new Set(revisions)].toSorted((x, y) => x - y));
        expect(revisions.at(-1)).toBe(counters[0]?.[n]?.revision);
      }
    }
  });

  test("each read what the other had acknowledged, also in listings, under load and of keys overwritten at once", async () => {
    await using metadata = await makeNatsMetadata(nats, 2);
    const processes = [await metadata.open(), await metadata.open()];
    const acknowledged = new Map<string, Revision>();
    let isOver = false;
    const reader = async (n: number) => {
      for (let round = 0; !isOver; round += 1) {
        // A store that answers at once must not keep the writers from their turn.
        await nextTurn();
        const { store } = processes[n % 2] as MetadataProcess;
        const floor = new Map(acknowledged);
        const key = `key-${(n + round) % 4}`;
        if (n % 3 > 0) {
          const stored = await store.get(BUCKET, key as ObjectKey, soon());
          expect(stored?.revision ?? REVISION_NONE).toBeGreaterThanOrEqual(floor.get(key) ?? REVISION_NONE);
        } else {
          const page = await list(store, {});
          const found = new Map(page.entries.map(({ record, revision }) => [record.key as string, revision]));
          for (const [each, revision] of floor) expect(found.get(each) ?? 0).toBeGreaterThanOrEqual(revision);
        }
      }
    };
    const readers = Promise.all([...Array(12).keys()].map(reader));
    const writer = async (n: number) => {
      const { store } = processes[n % 2] as MetadataProcess;
      let revision = REVISION_NONE;
      for (let round = 0; round < 150; round += 1) {
        revision = await commitOk(store, sampleRecord(`key-${n}`), revision);
        acknowledged.set(`key-${n}`, revision);
      }
    };
    await Promise.all([0, 1, 2, 3].map(writer)).finally(() => (isOver = true));
    await readers;
  });

  test("peek() never shows less than what the same process committed", async () => {
    await using metadata = await makeNatsMetadata(nats, 1);
    const [a, b] = [await metadata.open(), await metadata.open()];
    const noise = (async () => {
      for (let n = 0; n < 200; n += 1) await commitOk(b.store, sampleRecord(`noise-${n}`), REVISION_NONE);
    })();
    let revision = REVISION_NONE;
    for (let n = 0; n < 100; n += 1) {
      revision = await commitOk(a.store, sampleRecord("a"), revision);
      expect((await a.store.peek(BUCKET, KEY, soon()))?.revision).toBe(revision);
    }
    await noise;
  });
});

describe("a store that follows on demand", () => {
  test("leaves the stream when nobody asks, and then reads what it missed, overwritten or not", async () => {
    await using metadata = await makeNatsMetadata(nats, 1);
    const writer = await metadata.open();
    const before = await commitOk(writer.store, sampleRecord("a"), REVISION_NONE);
    const seldom = await metadata.open({ following: "on-demand" });
    expect((await seldom.store.get(BUCKET, KEY, soon()))?.revision).toBe(before);
    await untilFollowedBy(writer, 1);

    let revision = before;
    for (let n = 0; n < 20; n += 1) revision = await commitOk(writer.store, sampleRecord("a"), revision);
    await commitOk(writer.store, sampleRecord("b"), REVISION_NONE);
    expect((await seldom.store.peek(BUCKET, KEY, soon()))?.revision).toBe(before);
    expect((await seldom.store.get(BUCKET, KEY, soon()))?.revision).toBe(revision);
    expect(keysOf(await list(seldom.store, {}))).toEqual(["a", "b"]);

    await untilFollowedBy(writer, 1);
    const refused = await commit(seldom.store, sampleRecord("a"), before);
    expect(refused).toMatchObject({ ok: false, current: { revision } });
    const own = await commitOk(seldom.store, sampleRecord("a"), revision);
    expect((await writer.store.get(BUCKET, KEY, soon()))?.revision).toBe(own);
  });
});

/** Consumers are the processes that follow just now. */
async function untilFollowedBy({ link }: MetadataProcess, count: number): Promise<void> {
  const manager = await jetstreamManager(link.connection, { checkAPI: false });
  for (;;) {
    const { state } = await manager.streams.info(link.names.metadataStream(0));
    if (state.consumer_count === count) return;
    await link.clock.sleep(50);
  }
}

describe("the index", () => {
  test("goes on where it was, without being told again what it holds", async () => {
    await using metadata = await makeNatsMetadata(nats, 1);
    const log = recordingLogger();
    const opened = await metadata.open({ logger: log.logger });
    await commitOk(opened.store, sampleRecord("a"), REVISION_NONE);
    await opened.close();
    await using other = await makeOther(metadata);
    await commitOk(other.store, sampleRecord("b"), REVISION_NONE);
    log.clear();
    await opened.reopen();
    const told: string[] = [];
    opened.store.watch(({ record }) => told.push(record.key));
    expect(keysOf(await list(opened.store, {}))).toEqual(["a", "b"]);
    expect(told).toEqual(["b"]);
    expect(log.messages()).not.toContain(BEGINS_ANEW);
  });

  test.each<[string, (opened: MetadataProcess) => Promise<void>]>([
    ["was deleted", ({ indexDir }) => rm(indexDir, { recursive: true })],
    ["lost its marker", ({ indexDir }) => rm(join(indexDir, "index.json"))],
    ["was cut off", ({ indexDir }) => truncate(join(indexDir, "records", "data.mdb"), 8_192)],
    ["begins with rubbish", ({ indexDir }) => overwrite(indexDir, 0, 8_192)],
    ["holds rubbish", ({ indexDir }) => overwrite(indexDir, 8_192, 40 * 4_096)],
  ])("is made anew when it %s", async (_, damage) => {
    await using metadata = await makeNatsMetadata(nats, 2);
    const opened = await metadata.open();
    const keys = [...Array(50).keys()].map((n) => `key-${n}`);
    await Promise.all(keys.map((key) => commitOk(opened.store, sampleRecord(key), REVISION_NONE)));
    const before = await list(opened.store, {});
    await opened.close();
    await damage(opened);
    await opened.reopen();
    expect(await list(opened.store, {})).toEqual(before);
    expect((await opened.store.summarize(soon()))[0]?.objectCount).toBe(50);
  });

  test("is made anew when a stream was, while it was closed and while it is open", async () => {
    await using metadata = await makeNatsMetadata(nats, 2);
    const opened = await metadata.open();
    for (const key of ["a", "b", "c", "d"]) await commitOk(opened.store, sampleRecord(key), REVISION_NONE);
    await opened.close();
    await recreateStreams(opened);
    await opened.reopen();
    expect(keysOf(await list(opened.store, {}))).toEqual([]);
    await commitOk(opened.store, sampleRecord("a"), REVISION_NONE);

    await recreateStreams(opened);
    expect(keysOf(await list(opened.store, {}))).toEqual([]);
    expect(await opened.store.get(BUCKET, KEY, soon())).toBeNull();
    await commitOk(opened.store, sampleRecord("a"), REVISION_NONE);
    expect(await opened.store.summarize(soon())).toMatchObject([{ objectCount: 1 }]);
  });

  test("is made anew when a stream was, though the new one is already longer", async () => {
    await using metadata = await makeNatsMetadata(nats, 2);
    const opened = await metadata.open();
    for (const key of ["a", "b", "c", "d"]) await commitOk(opened.store, sampleRecord(key), REVISION_NONE);
    await recreateStreams(opened);
    const { connection, names } = opened.link;
    for (const stream of [0, 1]) {
      for (let n = 0; n < 20; n += 1) await connection.request(names.barrierSubject(stream));
    }
    expect(keysOf(await list(opened.store, {}))).toEqual([]);
  });

  test("is refused to a second process", async () => {
    await using metadata = await makeNatsMetadata(nats, 1);
    const { indexDir } = await metadata.open();
    await expect(metadata.open({ indexDir })).rejects.toMatchObject({ code: "data_dir_locked" });
  });
});

describe("ensureMetadataStreams()", () => {
  test("takes streams that are there, and refuses one that loses records", async () => {
    await using metadata = await makeNatsMetadata(nats, 1);
    const { link } = await metadata.open();
    await ensureMetadataStreams(link, 1, "test");
    const manager = await jetstreamManager(link.connection);
    await manager.streams.update(link.names.metadataStream(0), { max_age: 3_600_000_000_000 });
    await expect(ensureMetadataStreams(link, 1, "test")).rejects.toMatchObject({ code: "cluster_mismatch" });
  });

  test("refuses fewer replicas than this process was told to use", async () => {
    await using metadata = await makeNatsMetadata(nats, 1);
    const { link } = await metadata.open();
    const strict = { ...link, streamReplicas: 3 };
    await expect(ensureMetadataStreams(strict, 1, "test")).rejects.toMatchObject({ code: "cluster_mismatch" });
  });

  test("metadataStreamOf() gives a key the same stream for ever", () => {
    const keys = ["a", "温度/1", "\u{1f600}", "devices/7/state"];
    expect(keys.map((key) => metadataStreamOf(BUCKET, key as ObjectKey, 4))).toEqual([1, 2, 3, 3]);
  });
});

async function increment(store: MetadataProcess["store"], key: string): Promise<void> {
  let current = await store.peek(BUCKET, key as ObjectKey, soon());
  for (;;) {
    const record = sampleRecord(key, { sizeBytes: (current?.record.sizeBytes ?? 0) + 1 });
    const result = await commit(store, record, current?.revision ?? REVISION_NONE);
    if (result.ok) return;
    current = result.current;
  }
}

function revisionOf(result: CommitResult): Revision {
  if (!result.ok) throw new Error("This commit was to succeed");
  return result.revision;
}

async function readOutbox(link: MetadataProcess["link"], stream: number): Promise<ChangeEvent[]> {
  const manager = await jetstreamManager(link.connection);
  const { state } = await manager.streams.info(link.names.metadataStream(stream));
  const events: ChangeEvent[] = [];
  for (let seq = state.first_seq; seq <= state.last_seq; seq += 1) {
    const message = await manager.streams.getMessage(link.names.metadataStream(stream), { seq });
    if (message?.subject.includes(".outbox.")) events.push(...decodeOutbox(message.data, message.seq));
  }
  return events;
}

/** One more process, which is closed with the block. */
async function makeOther(metadata: Awaited<ReturnType<typeof makeNatsMetadata>>) {
  const opened = await metadata.open();
  return { store: opened.store, [Symbol.asyncDispose]: () => opened.close() };
}

async function overwrite(indexDir: string, from: number, to: number): Promise<void> {
  const file = await openFile(join(indexDir, "records", "data.mdb"), "r+");
  await file.write(Buffer.alloc(to - from, 0x5a), 0, to - from, from);
  await file.close();
}

async function recreateStreams({ link }: MetadataProcess): Promise<void> {
  const manager = await jetstreamManager(link.connection);
  for (const stream of [0, 1]) await manager.streams.delete(link.names.metadataStream(stream));
  await ensureMetadataStreams(link, 2, "test");
}
