/** watch() over a real JetStream stream of change events, filled by hand as the leading healer fills it. */
import { jetstream, jetstreamManager, StorageType } from "@nats-io/jetstream";
import { connect, type NatsConnection } from "@nats-io/transport-node";
import { afterAll, beforeAll, expect, test } from "vitest";
import { connectKintsugi, type KintsugiClient } from "../../src/client/client.ts";
import type { WatchEvent } from "../../src/client/watch.ts";
import type { ChangeEvent, ChangeOp } from "../../src/domain/change-event.ts";
import { EVENT_SUBJECTS, eventSubject } from "../../src/nats/nats-names.ts";
import { startNats, type NatsCluster } from "../support/nats.ts";

let nats: NatsCluster;
let connection: NatsConnection;
let client: KintsugiClient;
beforeAll(async () => {
  nats = await startNats();
  connection = await connect({ servers: [...nats.urls], maxReconnectAttempts: -1, reconnectTimeWait: 50 });
  const manager = await jetstreamManager(connection);
  await manager.streams.add({ name: "SOME_EVENTS", subjects: [EVENT_SUBJECTS], storage: StorageType.File });
  client = await connectKintsugi({ servers: nats.urls });
});
afterAll(async () => {
  await client?.close();
  await connection?.close();
  await nats?.[Symbol.asyncDispose]();
});

async function publish(bucket: string, key: string, revision: number, op: ChangeOp = "put"): Promise<number> {
  const event: ChangeEvent = {
    ...{ op, bucket, key, version: `v${revision}`, revision, sizeBytes: 1, etag: "e", contentType: "text/plain" },
    ...{ strategy: "inline", modifiedAtMs: 1_000 },
  };
  return (await jetstream(connection).publish(eventSubject(bucket, op), JSON.stringify(event))).seq;
}

async function take(events: AsyncGenerator<WatchEvent>, count: number): Promise<WatchEvent[]> {
  const taken: WatchEvent[] = [];
  while (taken.length < count) {
    const next = await events.next();
    if (next.done === true) break;
    taken.push(next.value);
  }
  return taken;
}

const told = (events: readonly WatchEvent[]) => events.map(({ op, key, revision }) => `${op} ${key} ${revision}`);

test("watch() tells changes in their order, from a sequence on, and each once", async () => {
  const first = await publish("b1", "a", 1);
  await publish("b1", "b", 2);
  await publish("b1", "a", 3, "patch");
  // At least once: these were told before.
  await publish("b1", "a", 1);
  await publish("b1", "a", 3, "patch");
  await publish("b1", "a", 4, "delete");
  const events = client.watch({ bucket: "b1", from: { sequence: first } });
  const taken = await take(events, 4);
  expect(told(taken)).toEqual(["put a 1", "put b 2", "patch a 3", "delete a 4"]);
  await events.return();
  const rest = client.watch({ bucket: "b1", from: { sequence: (taken[1]?.sequence ?? 0) + 1 } });
  expect(told(await take(rest, 2))).toEqual(["patch a 3", "delete a 4"]);
  await rest.return();
});

test("watch() tells only of its bucket, prefix and operations", async () => {
  const from = { sequence: await publish("b2", "x/1", 1) };
  await publish("b2.dotted", "x/2", 2);
  await publish("b2-dotted", "x/3", 3);
  await publish("b2", "y/4", 4, "delete");
  await publish("b2", "x/5", 5, "delete");
  const dotted = client.watch({ bucket: "b2.dotted", from });
  const prefixed = client.watch({ bucket: "b2", prefix: "x/", from });
  const deleted = client.watch({ bucket: "b2", ops: ["delete"], from });
  expect(told(await take(dotted, 1))).toEqual(["put x/2 2"]);
  expect(told(await take(prefixed, 2))).toEqual(["put x/1 1", "delete x/5 5"]);
  expect(told(await take(deleted, 2))).toEqual(["delete y/4 4", "delete x/5 5"]);
  for (const events of [dotted, prefixed, deleted]) await events.return();
});

test("watch() from new tells nothing of before, from a time what was published since", async () => {
  await publish("b3", "old", 1);
  const abort = new AbortController();
  const events = client.watch({ bucket: "b3", signal: abort.signal });
  const first = events.next();
  // Whether the watch has begun cannot be seen from here: what it tells first is new in any case.
  for (let revision = 2; (await Promise.race([first, publish("b3", "new", revision)])) === revision;) revision += 1;
  const pinged = setInterval(() => void publish("b3", "new", Math.floor(performance.now())), 20);
  expect((await first).value).toMatchObject({ key: "new" });
  clearInterval(pinged);
  abort.abort();
  await take(events, Number.POSITIVE_INFINITY);
  const since = client.watch({ bucket: "b3", from: { timeMs: 0 } });
  expect(told(await take(since, 1))).toEqual(["put old 1"]);
  await since.return();
});

test("watch() goes on by itself after the server was killed and started again, and skips nothing", async () => {
  const from = { sequence: await publish("b4", "k", 1) };
  const events = client.watch({ bucket: "b4", from });
  expect(told(await take(events, 1))).toEqual(["put k 1"]);
  await nats.servers[0]?.kill9();
  await nats.servers[0]?.restart();
  await expect.poll(() => publish("b4", "k", 2).catch(() => 0), { timeout: 20_000 }).toBeGreaterThan(0);
  for (let revision = 3; revision <= 50; revision += 1) await publish("b4", "k", revision);
  expect(told(await take(events, 49))).toEqual(Array.from({ length: 49 }, (_, n) => `put k ${n + 2}`));
  await events.return();
});

test("watch() ends when the client is closed, and says when there is nothing to watch", async () => {
  const other = await connectKintsugi({ servers: nats.urls });
  const events = other.watch({ bucket: "b5" });
  const next = events.next();
  await other.close();
  expect((await next.catch(() => ({ done: true }))).done).toBe(true);
  await using empty = await startNats();
  await using lost = await connectKintsugi({ servers: empty.urls });
  await expect(lost.watch().next()).rejects.toMatchObject({ code: "nats_unavailable" });
  await expect(client.watch({ bucket: "No" }).next()).rejects.toMatchObject({ code: "bucket_invalid" });
});
