/** Two gateways, each with a cache of its own, tell the same truth: what one has in memory the other may have replaced. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { CacheFigures } from "../../src/object/content-cache.ts";
import { StoreClient } from "../support/black-box/client.ts";
import { startCluster, type LocalCluster } from "../support/cluster.ts";
import { noise } from "../support/store.ts";

const MIB = 1_024 * 1_024;
const TIMEOUT_MS = 120_000;
const ROUNDS = 15;

describe("gateways with a cache", () => {
  let cluster: LocalCluster;
  let clients: readonly [StoreClient, StoreClient];

  beforeAll(async () => {
    const settings = { cache: { bytesMax: 16 * MIB } };
    cluster = await startCluster({ gateways: 2, nodes: 6, healers: 1, nats: 1, settings });
    const [first, second] = cluster.gateways.map(({ url }) => new StoreClient(url));
    clients = [first as StoreClient, second as StoreClient];
  }, TIMEOUT_MS);

  afterAll(async () => {
    for (const client of clients ?? []) client[Symbol.dispose]();
    await cluster?.[Symbol.asyncDispose]();
  }, TIMEOUT_MS);

  const figuresOf = async (client: StoreClient): Promise<CacheFigures> => {
    const stats = JSON.parse((await client.get("/cluster/stats")).body.toString()) as { cache: CacheFigures };
    return stats.cache;
  };

  for (const strategy of ["replication", "ec"] as const) {
    test(
      `read an object (${strategy}) that the other has overwritten as it is now, and from memory when it has not changed`,
      async () => {
        const target = `/objects/cached/${strategy}`;
        const before = await figuresOf(clients[1]);
        for (let round = 1; round <= ROUNDS; round += 1) {
          const body = noise(300_000, round);
          expect((await clients[0].put(`${target}?strategy=${strategy}`, body)).status).toBeLessThan(300);
          for (const client of [clients[1], clients[1], clients[0]]) {
            expect((await client.get(target)).body.equals(body), `round ${round}`).toBe(true);
          }
        }
        const after = await figuresOf(clients[1]);
        expect(after.hits - before.hits).toBe(ROUNDS);
        expect(after.misses - before.misses).toBe(ROUNDS);
        expect((await clients[0].send("DELETE", target)).status).toBeLessThan(300);
        expect((await clients[1].get(target)).status).toBe(404);
      },
      TIMEOUT_MS,
    );
  }

  test(
    "read a document whose hot fields the other patches, its cold part from memory",
    async () => {
      const target = "/objects/cached/document";
      const cold = noise(50_000).toString("hex");
      await clients[0].put(`${target}?strategy=field_hybrid`, JSON.stringify({ status: 0, cold }), {
        "content-type": "application/json",
      });
      await clients[1].get(target);
      const { hits, misses } = await figuresOf(clients[1]);
      for (let status = 1; status <= ROUNDS; status += 1) {
        const body = JSON.stringify({ status });
        const headers = { "content-type": "application/merge-patch+json" };
        expect((await clients[0].send("PATCH", target, { body, headers })).status).toBe(200);
        expect(JSON.parse((await clients[1].get(target)).body.toString())).toEqual({ status, cold });
      }
      expect(await figuresOf(clients[1])).toMatchObject({ hits: hits + ROUNDS, misses });
    },
    TIMEOUT_MS,
  );
});
