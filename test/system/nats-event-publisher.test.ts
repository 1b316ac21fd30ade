import { join } from "node:path";
import { jetstreamManager } from "@nats-io/jetstream";
import { Registry } from "prom-client";
import { describe, expect, test, vi } from "vitest";
import type { ChangeEvent } from "../../src/domain/change-event.ts";
import type { EventPublisherOptions } from "../../src/healer/nats-event-publisher.ts";
import { startEventPublisher } from "../../src/healer/nats-event-publisher.ts";
import { publishEvents } from "../../src/healer/nats-publish-events.ts";
import { systemClock } from "../../src/lib/clock.ts";
import type { NatsLink } from "../../src/nats/nats-link.ts";
import { eventSubject } from "../../src/nats/nats-names.ts";
import { startChild } from "../support/child-process.ts";
import { startNats } from "../support/nats.ts";
import { commitKeys, countOutbox, createMetadataStream, readEvents } from "../support/outbox-writer.ts";
import { openTestLink } from "../support/test-link.ts";

const STREAMS = 2;

/** Servers of its own for every test: the subjects of events are the same for all clusters. */
async function openCluster(servers: 1 | 3 = 1) {
  const nats = await startNats({ servers });
  const link = await openTestLink(nats, { clusterName: "events" });
  for (let index = 0; index < STREAMS; index += 1) await createMetadataStream(link, index);
  return {
    nats,
    link,
    async [Symbol.asyncDispose]() {
      await link.close();
      await nats[Symbol.asyncDispose]();
    },
  };
}

function startPublisher(link: NatsLink, options: Partial<EventPublisherOptions> = {}) {
  const limits = { maxAgeMs: 3_600_000, bytesMax: 100_000_000 };
  return startEventPublisher(link, { ...limits, streamCount: STREAMS, registry: null, ...options });
}

/** Keys that come again and again, so that their order can be told. */
function keysOf(round: number, count: number): string[] {
  return Array.from({ length: count }, (_, n) => `key-${(round * 7 + n) % 97}`);
}

async function commitRounds(link: NatsLink, rounds: number, keysPerRound = 20): Promise<ChangeEvent[]> {
  const commitTo = async (index: number) => {
    const committed: ChangeEvent[] = [];
    for (let round = 0; round < rounds; round += 1) {
      // The same key never stands in two streams.
      const keys = keysOf(round, keysPerRound).map((key) => `${index}/${key}`);
      committed.push(...(await commitKeys(link, index, keys)));
    }
    return committed;
  };
  return (await Promise.all([...Array(STREAMS).keys()].map(commitTo))).flat();
}

function byKey(events: readonly ChangeEvent[]): Map<string, number[]> {
  const revisions = new Map<string, number[]>();
  for (const { key, revision } of events) revisions.set(key, [...(revisions.get(key) ?? []), revision]);
  return revisions;
}

/** Every event once, and those of a key in the order of its commits. */
function expectAllInOrder(found: readonly { event: ChangeEvent }[], committed: readonly ChangeEvent[]): void {
  expect(byKey(found.map(({ event }) => event))).toEqual(byKey(committed));
}

describe("startEventPublisher()", () => {
  test("publishes every commit once, as JSON under its bucket and operation, in order per key", async () => {
    await using cluster = await openCluster();
    const { link } = cluster;
    await using _ = startPublisher(link);
    const committed = [...(await commitRounds(link, 30)), ...(await commitKeys(link, 0, ["a", "b"], "photos.archive"))];
    const found = await readEvents(link, committed.length);
    expectAllInOrder(found, committed);
    expect(found.find(({ event }) => event.bucket === "photos.archive")).toEqual({
      subject: "kintsugi.events.photos_archive.put",
      event: committed.at(-2),
    });
  });

  test("empties the outbox and leaves the records", async () => {
    await using cluster = await openCluster();
    const { link } = cluster;
    const registry = new Registry();
    const committed = await commitRounds(link, 20);
    await using publisher = startPublisher(link, { registry });
    await readEvents(link, committed.length);
    await expect.poll(() => countOutbox(link, 0)).toBe(0);
    await expect.poll(() => countOutbox(link, 1)).toBe(0);
    expect(publisher.lag).toBe(0);
    const { state } = await (await jetstreamManager(link.connection)).streams.info(link.names.metadataStream(0));
    expect(state.messages).toBe(
      new Set(committed.filter(({ key }) => key.startsWith("0/")).map(({ key }) => key)).size,
    );
    const text = await registry.metrics();
    expect(text).toContain(`kintsugi_events_published_total ${committed.length}`);
    expect(text).toContain("kintsugi_outbox_lag_batches 0");
  });

  test("removes nothing from the outbox that is not published, and publishes nothing once the lease is lost", async () => {
    await using cluster = await openCluster();
    const { link } = cluster;
    const committed: ChangeEvent[] = [];
    for (let round = 0; round < 3; round += 1) {
      committed.push(
        ...(await commitKeys(
          link,
          0,
          Array.from({ length: 400 }, (_, n) => `${round}-${n}`),
        )),
      );
    }
    let batches = 0;
    {
      // Asked before each try of a batch, and before each batch.
      await using _ = startPublisher(link, { streamCount: 1, isHeld: () => (batches += 1) <= 2 });
      await expect.poll(() => countOutbox(link, 0)).toBe(2);
    }
    expect(await countOutbox(link, 0)).toBe(2);
    expect((await readEvents(link, 400)).map(({ event }) => event)).toEqual(committed.slice(0, 400));
    await using _ = startPublisher(link);
    expect((await readEvents(link, 1_200)).map(({ event }) => event)).toEqual(committed);
  });

  test("does not repeat what another had published but not yet removed", async () => {
    await using cluster = await openCluster();
    const { link } = cluster;
    {
      // Creates the stream of events.
      await using _ = startPublisher(link);
      await commitKeys(link, 1, ["first"]);
      await readEvents(link, 1);
    }
    const committed = await commitKeys(link, 0, keysOf(0, 50));
    const messages = committed.slice(0, 20).map((event) => ({
      subject: eventSubject(event.bucket, event.op),
      id: `${link.names.metadataStream(0)}:${event.revision}`,
      body: JSON.stringify(event),
    }));
    expect(await publishEvents(link, messages, () => true)).toBe(true);
    await using _ = startPublisher(link);
    const found = await readEvents(link, 51);
    expect(found.slice(1).map(({ event }) => event)).toEqual(committed);
  });

  test("loses and repeats nothing and keeps the order when publishers take turns", async () => {
    await using cluster = await openCluster();
    const { link } = cluster;
    const committing = commitRounds(link, 60);
    let done = false;
    void committing.finally(() => (done = true));
    while (!done) {
      await using _ = startPublisher(link);
      await systemClock.sleep(40);
    }
    await using _ = startPublisher(link);
    const committed = await committing;
    expectAllInOrder(await readEvents(link, committed.length), committed);
  });

  test("loses nothing and keeps the order when the process that publishes is killed, again and again", async () => {
    await using cluster = await openCluster();
    const { link, nats } = cluster;
    const committed = await commitRounds(link, 60, 90);
    for (const lines of [1, 3, 6]) {
      const child = join(import.meta.dirname, "../support/publisher-child.ts");
      await using publisher = startChild(process.execPath, [child, "events", `${STREAMS}`, ...nats.urls]);
      await publisher.linesReach(lines);
      await publisher.kill();
      committed.push(...(await commitRounds(link, 10, 90)));
    }
    await using _ = startPublisher(link);
    expectAllInOrder(await readEvents(link, committed.length), committed);
  });

  test("two that publish at once mix up no order and repeat nothing", async () => {
    await using cluster = await openCluster();
    const { link, nats } = cluster;
    const other = await openTestLink(nats, { clusterName: "events" });
    const committed = await commitRounds(link, 40);
    {
      await using _ = startPublisher(link);
      await using __ = startPublisher(other);
      committed.push(...(await commitRounds(link, 20)));
      expectAllInOrder(await readEvents(link, committed.length), committed);
    }
    await other.close();
  });

  test("an outbox message of a newer program stays, and the other streams go on", async () => {
    await using cluster = await openCluster();
    const { link } = cluster;
    await link.connection.request(link.names.outboxSubject(0, "newer"), Buffer.of(2, 0));
    const behind = await commitKeys(link, 0, ["behind"]);
    const committed = await commitKeys(link, 1, ["a", "b"]);
    {
      await using _ = startPublisher(link);
      expectAllInOrder(await readEvents(link, 2), committed);
    }
    expect(behind).toHaveLength(1);
    expect(await countOutbox(link, 0)).toBe(2);
  });

  test("a stream of events that exists is given the limits that are asked for now", async () => {
    await using cluster = await openCluster();
    const { link } = cluster;
    const manager = await jetstreamManager(link.connection);
    const bytesOf = async () =>
      (await manager.streams.info(link.names.eventsStream).catch(() => null))?.config.max_bytes;
    {
      await using _ = startPublisher(link, { bytesMax: 10_000_000 });
      await expect.poll(bytesOf).toBe(10_000_000);
    }
    await using _ = startPublisher(link, { bytesMax: 20_000_000 });
    await expect.poll(bytesOf).toBe(20_000_000);
  });
});

test("startEventPublisher() on three servers loses and repeats nothing and keeps the order when the leader of the events is killed on the way", async () => {
  await using cluster = await openCluster(3);
  const { link, nats } = cluster;
  const committed = await commitKeys(link, 0, ["first"]);
  {
    await using _ = startPublisher(link);
    await readEvents(link, 1);
  }
  const leader = await nats.leaderOf(link.names.eventsStream);
  committed.push(...(await commitRounds(link, 60, 90)));
  const registry = new Registry();
  await using publisher = startPublisher(link, { registry });
  await vi.waitUntil(async () => (await publishedCount(registry)) > 0, { interval: 1, timeout: 30_000 });
  await leader.kill9();
  expectAllInOrder(await readEvents(link, committed.length), committed);
  await expect.poll(() => publisher.lag, { timeout: 30_000 }).toBe(0);
}, 180_000);

async function publishedCount(registry: Registry): Promise<number> {
  return (await registry.getSingleMetric("kintsugi_events_published_total")?.get())?.values[0]?.value ?? 0;
}
