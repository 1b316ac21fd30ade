/**
 * The metadata store of a cluster while the server that leads its stream dies or stops. Writers count up, each its own
 * key and all of them one shared key; readers know what was acknowledged before they ask.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { jetstreamManager } from "@nats-io/jetstream";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { isStoreError } from "../../src/domain/errors.ts";
import type { ObjectKey, Revision } from "../../src/domain/ids.ts";
import { REVISION_NONE } from "../../src/domain/ids.ts";
import type { StoredRecord } from "../../src/domain/record.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { deadlineIn } from "../../src/lib/deadline.ts";
import { nextTurn } from "../../src/lib/next-turn.ts";
import type { MetadataStore } from "../../src/metadata/metadata-store.ts";
import { keysOf, list, soon } from "../support/metadata-calls.ts";
import type { NatsCluster, NatsServer } from "../support/nats.ts";
import { startNats } from "../support/nats.ts";
import type { MetadataProcess } from "../support/nats-metadata.ts";
import { makeNatsMetadata } from "../support/nats-metadata.ts";
import { BUCKET, sampleRecord } from "../support/sample-records.ts";

let nats: NatsCluster;
beforeAll(async () => {
  nats = await startNats({ servers: 3 });
});
afterAll(async () => {
  await nats[Symbol.asyncDispose]();
});

const WRITERS_PER_PROCESS = 6;
/** Acknowledged commits that each writer makes before a fault and after it. */
const COMMITS = 25;
/** As long as operations may take by default. */
const OPERATION_MS_MAX = 10_000;

describe("the leader of the stream", () => {
  test("killed under load: nothing acknowledged is lost, nothing is applied twice, no read is stale", async () => {
    await using metadata = await makeNatsMetadata(nats, 1);
    await using load = new Load([await metadata.open(), await metadata.open()]);
    await load.commits(COMMITS);
    const leader = await leaderOf(load.processes[0]);
    await leader.kill9();
    await load.commits(COMMITS);
    await leader.restart();
    await load.commits(COMMITS);
    await load.check();
  });

  test("stopped under load and resumed: unknown outcomes become old or new and stay so", async () => {
    await using metadata = await makeNatsMetadata(nats, 1);
    await using load = new Load([await metadata.open(), await metadata.open()]);
    await load.commits(COMMITS);
    const leader = await leaderOf(load.processes[0]);
    leader.pause();
    try {
      await load.commits(COMMITS);
    } finally {
      leader.resume();
    }
    await load.commits(COMMITS);
    await load.check();
  });

  test("every server gone: reads and commits end with metadata_unavailable, and all goes on when they return", async () => {
    await using metadata = await makeNatsMetadata(nats, 1);
    const { store } = await metadata.open();
    const committed = await store.commit({ record: sampleRecord("a"), ifRevision: REVISION_NONE }, soon());
    await Promise.all(nats.servers.map((server) => server.kill9()));
    const brief = () => deadlineIn(systemClock, 500);
    const unavailable = { code: "metadata_unavailable", retriable: true };
    await expect(store.get(BUCKET, "a" as ObjectKey, brief())).rejects.toMatchObject(unavailable);
    await expect(store.list(BUCKET, { prefix: "", delimiter: "", after: "", limit: 1 }, brief())).rejects.toMatchObject(
      unavailable,
    );
    const change = { record: sampleRecord("b"), ifRevision: REVISION_NONE };
    await expect(store.commit(change, brief())).rejects.toMatchObject(unavailable);
    expect((await store.peek(BUCKET, "a" as ObjectKey, brief()))?.revision).toBe(committed.ok ? committed.revision : 0);

    await Promise.all(nats.servers.map((server) => server.restart()));
    expect((await store.get(BUCKET, "a" as ObjectKey, soon()))?.record.etag).toBe("e1");
    expect(keysOf(await list(store, {}))).toContain("a");
  });
});

/** Writers and readers of several processes, until it is disposed. */
class Load implements AsyncDisposable {
  readonly processes: readonly [MetadataProcess, ...MetadataProcess[]];
  readonly #writers: { key: string; acknowledged: number }[] = [];
  /** Newest acknowledged revision by key. */
  readonly #floor = new Map<string, Revision>();
  readonly #told: StoredRecord[][];
  readonly #work: Promise<void>[] = [];
  #sharedCount = 0;
  #sharedUnknownCount = 0;
  #isOver = false;
  #failure: unknown = null;

  constructor(processes: readonly [MetadataProcess, ...MetadataProcess[]]) {
    this.processes = processes;
    this.#told = processes.map(({ store }) => {
      const told: StoredRecord[] = [];
      store.watch((stored) => told.push(stored));
      return told;
    });
    for (const [n, { store }] of processes.entries()) {
      for (let w = 0; w < WRITERS_PER_PROCESS; w += 1) this.#run(() => this.#write(store, `own-${n}-${w}`));
      this.#run(() => this.#writeShared(store));
      for (let r = 0; r < 3; r += 1) this.#run(() => this.#read(store, r));
    }
  }

  /** Resolves when every writer has made this many more acknowledged commits. */
  async commits(count: number): Promise<void> {
    const wanted = this.#writers.map(({ acknowledged }) => acknowledged + count);
    const isDone = () =>
      this.#writers.every(({ acknowledged }, index) => acknowledged >= (wanted[index] ?? count)) &&
      this.#writers.length === this.processes.length * WRITERS_PER_PROCESS;
    while (!isDone()) {
      if (this.#failure !== null) throw this.#failure;
      await sleep(20);
    }
  }

  async check(): Promise<void> {
    await this.#end();
    for (const { store } of this.processes) {
      for (const { key, acknowledged } of this.#writers) {
        const stored = await store.get(BUCKET, key as ObjectKey, soon());
        expect(stored?.record.sizeBytes, key).toBe(acknowledged);
      }
      const shared = (await store.get(BUCKET, "shared" as ObjectKey, soon()))?.record.sizeBytes ?? 0;
      expect(shared).toBeGreaterThanOrEqual(this.#sharedCount);
      expect(shared).toBeLessThanOrEqual(this.#sharedCount + this.#sharedUnknownCount);
    }
    for (const told of this.#told) {
      const etags = told.map(({ record }) => record.etag);
      expect(new Set(etags).size).toBe(etags.length);
      for (const key of new Set(told.map(({ record }) => record.key))) {
        const ofKey = told.filter(({ record }) => record.key === key);
        const sizes = ofKey.map(({ record }) => record.sizeBytes);
        expect(sizes, key).toEqual(sizes.toSorted((a, b) => a - b));
        const revisions = ofKey.map(({ revision }) => revision);
        expect(revisions, key).toEqual(revisions.toSorted((a, b) => a - b));
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isOver = true;
    await Promise.all(this.#work);
  }

  async #end(): Promise<void> {
    this.#isOver = true;
    await Promise.all(this.#work);
    if (this.#failure !== null) throw this.#failure;
  }

  #run(work: () => Promise<void>): void {
    this.#work.push(work().catch((cause: unknown) => void (this.#failure ??= cause)));
  }

  /** The only writer of its key: a conflict is a bug, and an unknown outcome is found out by reading. */
  async #write(store: MetadataStore, key: string): Promise<void> {
    const writer = { key, acknowledged: 0 };
    this.#writers.push(writer);
    let revision = REVISION_NONE;
    const unknown = new Set<string>();
    for (let attempt = 0; !this.#isOver; attempt += 1) {
      const record = sampleRecord(key, { sizeBytes: writer.acknowledged + 1, etag: `${key}.${attempt}` });
      const result = await known(() => store.commit({ record, ifRevision: revision, op: "put" }, inTime()));
      if (result === "unknown") {
        const found: StoredRecord | null = await untilKnown(() => store.get(BUCKET, record.key, inTime()));
        if (found?.record.etag !== record.etag) {
          expect(found?.revision ?? REVISION_NONE, "an unknown commit is there or not").toBe(revision);
          unknown.add(record.etag);
          continue;
        }
        revision = found.revision;
      } else if (result.ok) {
        revision = result.revision;
      } else {
        // A server that was stopped may have kept it until now.
        expect(unknown, `${key} has one writer`).toContain(result.current?.record.etag);
        revision = result.current?.revision ?? REVISION_NONE;
      }
      writer.acknowledged += 1;
      this.#floor.set(key, revision);
    }
  }

  async #writeShared(store: MetadataStore): Promise<void> {
    for (let attempt = 0; !this.#isOver; attempt += 1) {
      const current = await untilKnown(() => store.get(BUCKET, "shared" as ObjectKey, inTime()));
      const record = sampleRecord("shared", {
        sizeBytes: (current?.record.sizeBytes ?? 0) + 1,
        etag: `shared.${this.processes.findIndex((each) => each.store === store)}.${attempt}`,
      });
      const ifRevision = current?.revision ?? REVISION_NONE;
      const result = await known(() => store.commit({ record, ifRevision }, inTime()));
      if (result === "unknown") this.#sharedUnknownCount += 1;
      else if (result.ok) this.#sharedCount += 1;
      else expect(result.current?.revision).toBeGreaterThan(ifRevision);
    }
  }

  async #read(store: MetadataStore, n: number): Promise<void> {
    for (let round = n; !this.#isOver; round += 1) {
      // A store that answers at once must not keep the writers from their turn.
      await nextTurn();
      const floor = new Map(this.#floor);
      const key = [...floor.keys()][round % Math.max(1, floor.size)] ?? "own-0-0";
      if (n > 0) {
        const stored = await untilKnown(() => store.get(BUCKET, key as ObjectKey, inTime()));
        expect(stored?.revision ?? REVISION_NONE, key).toBeGreaterThanOrEqual(floor.get(key) ?? REVISION_NONE);
      } else {
        const page = await untilKnown(() => store.list(BUCKET, LIST_ALL, inTime()));
        const found = new Map(page.entries.map(({ record, revision }) => [record.key as string, revision]));
        for (const [each, revision] of floor) expect(found.get(each) ?? 0, each).toBeGreaterThanOrEqual(revision);
      }
    }
  }
}

const LIST_ALL = { prefix: "", delimiter: "", after: "", limit: 100 };

function inTime() {
  return deadlineIn(systemClock, OPERATION_MS_MAX);
}

async function known<T>(call: () => Promise<T>): Promise<T | "unknown"> {
  try {
    return await call();
  } catch (cause) {
    if (isStoreError(cause, "metadata_unavailable")) return "unknown";
    throw cause;
  }
}

async function untilKnown<T>(call: () => Promise<T>): Promise<T> {
  for (;;) {
    const result = await known(call);
    if (result !== "unknown") return result;
  }
}

async function leaderOf({ link }: MetadataProcess): Promise<NatsServer> {
  const manager = await jetstreamManager(link.connection);
  const { cluster } = await manager.streams.info(link.names.metadataStream(0));
  const server = nats.servers.find(({ name }) => name === cluster?.leader);
  if (server === undefined) throw new Error("The stream has no leader");
  return server;
}
