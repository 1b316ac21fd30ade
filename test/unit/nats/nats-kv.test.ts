import type { KV } from "@nats-io/kv";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { StoreError } from "../../../src/domain/errors.ts";
import { deadlineIn } from "../../../src/lib/deadline.ts";
import { listKv, openKv, replaceKv, untilAnswered } from "../../../src/nats/nats-kv.ts";
import type { NatsLink } from "../../../src/nats/nats-link.ts";
import type { NatsCluster } from "../../support/nats.ts";
import { startNats } from "../../support/nats.ts";
import { openTestLink } from "../../support/test-link.ts";

let nats: NatsCluster;
let link: NatsLink;
beforeAll(async () => {
  nats = await startNats({ servers: 3 });
  link = await openTestLink(nats, { clusterName: "kv" });
});
afterAll(async () => {
  await link.close();
  await nats[Symbol.asyncDispose]();
});

/** A new bucket is known to its own server first and to that of this connection a moment later. */
async function openKnownKv(bucket: string): Promise<KV> {
  const kv = await openKv(link, bucket);
  await untilAnswered(link, deadlineIn(link.clock, 30_000), "reach the bucket", () => kv.purge("nobody"));
  return kv;
}

const bytes = (text: string) => Buffer.from(text);
const textOf = (value: Uint8Array) => Buffer.from(value).toString();

describe("openKv()", () => {
  test("makes one bucket of many that want it, on all replicas", async () => {
    const opened = await Promise.all([1, 2, 3, 4, 5].map(() => openKnownKv("many")));
    await replaceKv(opened[0]!, "a", bytes("1"), 0);
    expect((await opened[4]!.get("a"))?.string()).toBe("1");
    expect((await opened[0]!.status()).replicas).toBe(3);
  });
});

describe("replaceKv()", () => {
  test("stores only if the key is at the revision, absent and purged ones at 0", async () => {
    const kv = await openKnownKv("replace");
    const first = await replaceKv(kv, "a", bytes("1"), 0);
    expect(first).toBeGreaterThan(0);
    expect(await replaceKv(kv, "a", bytes("2"), 0)).toBeNull();
    const second = await replaceKv(kv, "a", bytes("2"), first!);
    expect(second).toBeGreaterThan(first!);
    expect(await replaceKv(kv, "a", bytes("3"), first!)).toBeNull();
    expect((await kv.get("a"))?.string()).toBe("2");
    await kv.purge("a");
    expect(await replaceKv(kv, "a", bytes("4"), second!)).toBeNull();
    expect(await replaceKv(kv, "a", bytes("4"), 0)).toBeGreaterThan(second!);
  });
});

describe("listKv()", () => {
  test("gives every key's last value, and none that is deleted", async () => {
    const kv = await openKnownKv("list");
    expect(await listKv(link, "list")).toEqual([]);
    await kv.put("node.a", "1");
    const revision = await kv.put("node.a", "2");
    for (let n = 0; n < 200; n += 1) await kv.put(`other.${n}`, String(n));
    await kv.put("gone.a", "1");
    await kv.purge("gone.a");
    await kv.put("gone.b", "1");
    await kv.delete("gone.b");
    // A replica may be behind for a moment.
    const list = async () => (await listKv(link, "list")).map(({ key, value }) => `${key} ${textOf(value)}`).sort();
    const wanted = ["node.a 2", ...Array.from({ length: 200 }, (_, n) => `other.${n} ${n}`)].sort();
    await expect.poll(list, { timeout: 20_000 }).toEqual(wanted);
    expect((await listKv(link, "list")).find(({ key }) => key === "node.a")?.revision).toBe(revision);
  });

  test("rejects for a bucket that nobody serves", async () => {
    await expect(listKv(link, "nobody")).rejects.toThrow();
  });
});

describe("untilAnswered()", () => {
  test("repeats what fails until it works", async () => {
    let tries = 0;
    const work = async () => {
      if ((tries += 1) < 3) throw new Error("no leader");
      return tries;
    };
    expect(await untilAnswered(link, deadlineIn(link.clock, 30_000), "try", work)).toBe(3);
  });

  test("gives up at the deadline and says what was met", async () => {
    const work = () => Promise.reject(new Error("no leader"));
    const given = untilAnswered(link, deadlineIn(link.clock, 0), "count", work);
    await expect(given).rejects.toThrow(expect.objectContaining({ code: "nats_unavailable", retriable: true }));
    await expect(given).rejects.toThrow("Cannot count: NATS does not answer (no leader)");
  });

  test("does not repeat what was refused", async () => {
    const refusal = new StoreError("name_taken", "taken");
    const work = () => Promise.reject(refusal);
    await expect(untilAnswered(link, deadlineIn(link.clock, 30_000), "try", work)).rejects.toBe(refusal);
  });
});
