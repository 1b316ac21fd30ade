import type { JetStreamManager } from "@nats-io/jetstream";
import { StorageType, jetstream, jetstreamManager } from "@nats-io/jetstream";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { systemClock } from "../../src/lib/clock.ts";
import { followStream } from "../../src/nats/nats-follow-stream.ts";
import type { NatsLink } from "../../src/nats/nats-link.ts";
import type { NatsCluster } from "../support/nats.ts";
import { startNats } from "../support/nats.ts";
import { openTestLink } from "../support/test-link.ts";

describe("followStream() on three servers", () => {
  let nats: NatsCluster;
  beforeAll(async () => void (nats = await startNats({ servers: 3 })));
  afterAll(() => nats[Symbol.asyncDispose]());

  async function openStream(stream: string) {
    const link = await openTestLink(nats, { clusterName: "follow" });
    const manager = await jetstreamManager(link.connection);
    const subjects = [`${stream}.*`];
    await manager.streams.add({ name: stream, subjects, storage: StorageType.File, num_replicas: 3 });
    return { link, manager, [Symbol.asyncDispose]: () => link.close() };
  }

  test("delivers every message of the subjects in order, from the sequence asked for", async () => {
    await using open = await openStream("plain");
    for (let n = 1; n <= 30; n += 1) await publish(open.link, n % 2 === 0 ? "plain.even" : "plain.odd");
    const found: number[] = [];
    await using _ = followStream(open.link, {
      ...{ stream: "plain", subjects: "plain.even", startSequence: 11, messagesPerFetch: 4 },
      onMessage: ({ sequence }) => void found.push(sequence),
    });
    await expect.poll(() => found.length).toBe(10);
    await publish(open.link, "plain.even");
    await expect.poll(() => found.length).toBe(11);
    expect(found).toEqual([12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 31]);
  });

  test("asks for no more while its receiver is not ready", async () => {
    await using open = await openStream("slow");
    for (let n = 1; n <= 20; n += 1) await publish(open.link, "slow.a");
    const found: number[] = [];
    const gate = Promise.withResolvers<void>();
    await using _ = followStream(open.link, {
      ...{ stream: "slow", subjects: null, startSequence: 1, messagesPerFetch: 5 },
      onMessage: ({ sequence }) => void found.push(sequence),
      whenReady: async () => void (found.length >= 5 && (await gate.promise)),
    });
    await expect.poll(() => found.length).toBe(5);
    await publish(open.link, "slow.a");
    expect(found).toHaveLength(5);
    gate.resolve();
    await expect.poll(() => found.length).toBe(21);
  });

  test("restartFrom() delivers again from there", async () => {
    await using open = await openStream("again");
    for (let n = 1; n <= 5; n += 1) await publish(open.link, "again.a");
    const found: number[] = [];
    await using follower = followStream(open.link, {
      ...{ stream: "again", subjects: null, startSequence: 1 },
      onMessage: ({ sequence }) => void found.push(sequence),
    });
    await expect.poll(() => found.length).toBe(5);
    follower.restartFrom(4);
    await expect.poll(() => found).toEqual([1, 2, 3, 4, 5, 4, 5]);
  });

  test("ends with what its receiver threw", async () => {
    await using open = await openStream("failing");
    await publish(open.link, "failing.a");
    await using follower = followStream(open.link, {
      ...{ stream: "failing", subjects: null, startSequence: 1 },
      onMessage: () => {
        throw new Error("not this one");
      },
    });
    await expect.poll(() => String(follower.failure)).toBe("Error: not this one");
  });

  test("goes on without gap or repetition when the server is killed that it is connected to and that serves it", async () => {
    await using open = await openStream("killed");
    let found: number[] = [];
    const follow = () =>
      followStream(open.link, {
        ...{ stream: "killed", subjects: null, startSequence: 1 },
        onMessage: ({ sequence }) => void found.push(sequence),
      });
    for (let n = 1; n <= 50; n += 1) await publish(open.link, "killed.a");
    const connected = nats.servers.find(({ url }) => url.endsWith(open.link.connection.getServer()));
    // The servers place its consumer where they like.
    let follower = follow();
    for (;;) {
      await expect.poll(() => found.length).toBe(50);
      if ((await consumerServer(open.manager, "killed")) === connected?.name) break;
      await follower[Symbol.asyncDispose]();
      await expect.poll(() => consumerServer(open.manager, "killed")).toBeUndefined();
      found = [];
      follower = follow();
    }
    await connected?.kill9();
    let last = 0;
    for (let n = 1; n <= 50; n += 1) last = await publish(open.link, "killed.a");
    await expect.poll(() => found.at(-1), { timeout: 30_000 }).toBe(last);
    expect(found).toEqual([...Array(last).keys()].map((n) => n + 1));
    await follower[Symbol.asyncDispose]();
  });
});

/** The sequence of the message once it is stored; repeated while the stream has no leader, so perhaps stored twice. */
async function publish(link: NatsLink, subject: string): Promise<number> {
  for (;;) {
    try {
      return (await jetstream(link.connection, { timeout: 1_000 }).publish(subject, "x")).seq;
    } catch (cause) {
      if (link.connection.isClosed()) throw cause;
      await systemClock.sleep(50);
    }
  }
}

async function consumerServer(manager: JetStreamManager, stream: string): Promise<string | undefined> {
  const [consumer] = await manager.consumers.list(stream).next();
  return consumer?.cluster?.leader;
}
