/** What is lost or late between a process and the servers: answers, requests, halves of batches, deliveries. */
import { headers, type Msg, type NatsConnection, type SubscriptionOptions } from "@nats-io/transport-node";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { ObjectKey, Revision } from "../../src/domain/ids.ts";
import { REVISION_NONE } from "../../src/domain/ids.ts";
import type { StoredRecord } from "../../src/domain/record.ts";
import { assert } from "../../src/lib/assert.ts";
import type { NatsLink } from "../../src/nats/nats-link.ts";
import { commit, commitOk, soon } from "../support/metadata-calls.ts";
import type { NatsCluster } from "../support/nats.ts";
import { startNats } from "../support/nats.ts";
import { makeNatsMetadata } from "../support/nats-metadata.ts";
import { BUCKET, sampleRecord } from "../support/sample-records.ts";

let nats: NatsCluster;
beforeAll(async () => {
  nats = await startNats();
});
afterAll(async () => {
  await nats[Symbol.asyncDispose]();
});

const KEY = "a" as ObjectKey;

describe("commit()", () => {
  test("succeeds once when only the answer was lost", async () => {
    await using metadata = await makeNatsMetadata(nats, 1);
    const wire = new Wire();
    const { store } = await metadata.open({ through: wire.through });
    const told: StoredRecord[] = [];
    store.watch((stored) => told.push(stored));
    wire.onCommit = async (send) => {
      await send();
      throw new Error("the answer is lost");
    };
    const [a, b] = await Promise.all([
      commit(store, sampleRecord("a"), REVISION_NONE),
      commit(store, sampleRecord("b"), REVISION_NONE),
    ]);
    const stored = await store.get(BUCKET, KEY, soon());
    expect(a).toEqual({ ok: true, revision: stored?.revision });
    expect(b.ok).toBe(true);
    expect(told.map(({ record }) => record.key)).toEqual(["a", "b"]);
    expect(wire.commitCount).toBe(1);
  });

  test("is sent again when it did not arrive, also the half of a batch that did", async () => {
    await using metadata = await makeNatsMetadata(nats, 1);
    const wire = new Wire();
    const { store } = await metadata.open({ through: wire.through });
    // The last member of the batch never leaves; those before it wait at the server for the rest of their batch.
    wire.onCommit = async () => {
      throw new Error("it is lost");
    };
    const results = await Promise.all(
      ["a", "b", "c"].map((key) => commit(store, sampleRecord(key, { etag: "once" }), REVISION_NONE)),
    );
    expect(results.map(({ ok }) => ok)).toEqual([true, true, true]);
    expect(wire.commitCount).toBe(2);
    expect((await store.get(BUCKET, KEY, soon()))?.record.etag).toBe("once");
  });

  test("never claims a conflict when another process's record is met after an answer was lost", async () => {
    await using metadata = await makeNatsMetadata(nats, 1);
    const wire = new Wire();
    const { store } = await metadata.open({ through: wire.through });
    const other = (await metadata.open()).store;
    const first = await commitOk(other, sampleRecord("a"), REVISION_NONE);
    let theirs = REVISION_NONE as Revision;
    wire.onCommit = async () => {
      theirs = await commitOk(other, sampleRecord("a", { etag: "theirs" }), first);
      throw new Error("it is lost");
    };
    const [doubtful, innocent, stale] = await Promise.allSettled([
      commit(store, sampleRecord("a", { etag: "mine" }), first),
      commit(store, sampleRecord("b"), REVISION_NONE),
      // Never sent, so it is answered with what is there.
      commit(store, sampleRecord("a", { etag: "late" }), first),
    ]);
    expect(doubtful).toMatchObject({ status: "rejected", reason: { code: "metadata_unavailable", retriable: true } });
    expect(innocent).toMatchObject({ status: "fulfilled", value: { ok: true } });
    expect(stale).toMatchObject({
      status: "fulfilled",
      value: { ok: false, current: { revision: theirs, record: { etag: "theirs" } } },
    });
  });

  test("keeps the order of two changes of one key when the answer to the first was lost", async () => {
    await using metadata = await makeNatsMetadata(nats, 1);
    const wire = new Wire();
    const { store } = await metadata.open({ through: wire.through });
    wire.onCommit = async () => {
      throw new Error("it is lost");
    };
    const [first, second] = await Promise.all([
      commit(store, sampleRecord("a", { etag: "first" }), REVISION_NONE),
      commit(store, sampleRecord("a", { etag: "second" }), REVISION_NONE),
    ]);
    expect(first.ok).toBe(true);
    expect(second).toMatchObject({ ok: false, current: { record: { etag: "first" } } });
  });
});

describe("get()", () => {
  test("asks again when its barrier has no answer", async () => {
    await using metadata = await makeNatsMetadata(nats, 1);
    const wire = new Wire();
    const { store } = await metadata.open({ through: wire.through });
    const revision = await commitOk(store, sampleRecord("a"), REVISION_NONE);
    let lostCount = 0;
    wire.onBarrier = async () => {
      lostCount += 1;
      throw new Error("it is lost");
    };
    expect((await store.get(BUCKET, KEY, soon()))?.revision).toBe(revision);
    expect(lostCount).toBe(1);
  });

  test("waits for what its barrier stands behind to be delivered", async () => {
    await using metadata = await makeNatsMetadata(nats, 1);
    const wire = new Wire();
    const { store } = await metadata.open({ through: wire.through });
    const other = (await metadata.open()).store;
    await store.get(BUCKET, KEY, soon());
    wire.holdDeliveries();
    const revision = await commitOk(other, sampleRecord("a"), REVISION_NONE);
    let answer: StoredRecord | null | undefined;
    const getting = store.get(BUCKET, KEY, soon()).then((stored) => (answer = stored));
    // The barrier stands behind the commit, and both wait outside.
    await wire.deliveriesHeld(2);
    await expect.poll(() => store.indexLag()).toBeGreaterThan(0);
    expect(answer).toBeUndefined();
    wire.releaseDeliveries();
    expect((await getting)?.revision).toBe(revision);
    expect(store.indexLag()).toBe(0);
  });

  test("misses nothing when a delivery is lost", async () => {
    await using metadata = await makeNatsMetadata(nats, 1);
    const wire = new Wire();
    const { store } = await metadata.open({ through: wire.through });
    const other = (await metadata.open()).store;
    await store.get(BUCKET, KEY, soon());
    wire.dropDeliveries(1);
    const revision = await commitOk(other, sampleRecord("a"), REVISION_NONE);
    const second = await commitOk(other, sampleRecord("b"), REVISION_NONE);
    expect((await store.get(BUCKET, KEY, soon()))?.revision).toBe(revision);
    expect((await store.get(BUCKET, "b" as ObjectKey, soon()))?.revision).toBe(second);
    // The last one that is sent at all: only a heartbeat can tell.
    wire.dropDeliveries(1);
    const third = await commitOk(other, sampleRecord("c"), REVISION_NONE);
    await expect.poll(() => store.peek(BUCKET, "c" as ObjectKey, soon())).toMatchObject({ revision: third });
  });

  test("turns to another server when its own lives and does not have what the others have", async () => {
    await using metadata = await makeNatsMetadata(nats, 1);
    const wire = new Wire();
    const { store } = await metadata.open({ through: wire.through });
    const other = (await metadata.open()).store;
    await commitOk(other, sampleRecord("b"), REVISION_NONE);
    await store.get(BUCKET, KEY, soon());
    wire.stopAtLastDelivery();
    const revision = await commitOk(other, sampleRecord("a"), REVISION_NONE);
    expect((await store.get(BUCKET, KEY, soon()))?.revision).toBe(revision);
  });
});

describe("peek()", () => {
  test("shows what this process committed, though the index waits for what stands before it", async () => {
    await using metadata = await makeNatsMetadata(nats, 1);
    const wire = new Wire();
    const { store } = await metadata.open({ through: wire.through });
    const other = (await metadata.open()).store;
    await store.get(BUCKET, KEY, soon());
    wire.holdDeliveries();
    await commitOk(other, sampleRecord("b"), REVISION_NONE);
    const revision = await commitOk(store, sampleRecord("a"), REVISION_NONE);
    expect((await store.peek(BUCKET, KEY, soon()))?.revision).toBe(revision);
    expect(await store.peek(BUCKET, "b" as ObjectKey, soon())).toBeNull();
    // A second change of the key is decided by it, too.
    const stale = commit(store, sampleRecord("a"), REVISION_NONE);
    wire.releaseDeliveries();
    expect(await stale).toMatchObject({ ok: false, current: { revision } });
    expect((await store.get(BUCKET, "b" as ObjectKey, soon()))?.record.key).toBe("b");
  });
});

type Send = () => Promise<unknown>;

/** The wire of one process. The next request of a kind goes through a hook, once; deliveries may be held or dropped. */
class Wire {
  onCommit: ((send: Send) => Promise<never>) | null = null;
  onBarrier: ((send: Send) => Promise<never>) | null = null;
  commitCount = 0;
  #held: (() => void)[] | null = null;
  #onHeld: () => void = () => {};
  #dropCount = 0;
  #lastDelivery: Msg | null = null;
  #stopped: Msg | null = null;

  /** From now on the present consumer is served as by a server that gets no more messages, and says nothing of it. */
  stopAtLastDelivery(): void {
    assert(this.#lastDelivery !== null, "something was delivered before");
    this.#stopped = this.#lastDelivery;
  }

  holdDeliveries(): void {
    this.#held = [];
  }

  /** Resolves when so many wait. */
  deliveriesHeld(count: number): Promise<void> {
    return new Promise((resolve) => {
      this.#onHeld = () => ((this.#held?.length ?? 0) >= count ? resolve() : undefined);
      this.#onHeld();
    });
  }

  releaseDeliveries(): void {
    const held = this.#held ?? [];
    this.#held = null;
    for (const deliver of held) deliver();
  }

  dropDeliveries(count: number): void {
    this.#dropCount = count;
  }

  readonly through = (link: NatsLink): NatsLink => {
    const connection = Object.create(link.connection) as NatsConnection;
    connection.request = async (...given) => {
      const send = () => link.connection.request(...given);
      const isCommit = given[0].includes(".record.") || given[0].includes(".outbox.");
      const isBarrier = given[0].includes(".barrier.");
      if (isCommit) this.commitCount += 1;
      const hook = isCommit ? this.onCommit : isBarrier ? this.onBarrier : null;
      if (isCommit) this.onCommit = null;
      if (isBarrier) this.onBarrier = null;
      return hook === null ? await send() : await hook(send);
    };
    connection.subscribe = (subject, options = {}) =>
      link.connection.subscribe(subject, {
        ...options,
        callback: (error, message) => this.#deliver(options, error, message),
      });
    return { ...link, connection };
  };

  #deliver({ callback }: SubscriptionOptions, error: Error | null, message: Msg): void {
    const deliver = () => void callback?.(error, message);
    const isOfStopped = this.#stopped !== null && message.sid === this.#stopped.sid;
    if (message.reply?.startsWith("$JS.ACK.") !== true) {
      if (!isOfStopped || message.headers?.code !== 100) return deliver();
      return void callback?.(null, withLastConsumer(message, consumerSequenceOf(this.#stopped as Msg)));
    }
    if (isOfStopped) return;
    this.#lastDelivery = message;
    if (this.#dropCount > 0) this.#dropCount -= 1;
    else if (this.#held === null) deliver();
    else {
      this.#held.push(deliver);
      this.#onHeld();
    }
  }
}

/** The same heartbeat, as if no more than this had been sent. */
function withLastConsumer(heartbeat: Msg, sequence: string): Msg {
  const told = headers(100, "Idle Heartbeat");
  told.set("Nats-Last-Consumer", sequence);
  return Object.create(heartbeat, { headers: { value: told } }) as Msg;
}

/** Of `$JS.ACK.<stream>.<consumer>.<count>.<sequence>.<consumer sequence>…`. */
function consumerSequenceOf(delivery: Msg): string {
  return delivery.reply?.split(".")[6] as string;
}
