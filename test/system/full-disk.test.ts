/** A disk that fills up: writes are refused in time, everything else goes on, and nothing has to be restarted. */
import { join } from "node:path";
import { expect, test } from "vitest";
import { problemOf, receiptOf, StoreClient, type Answer } from "../support/black-box/client.ts";
import { quiet, until } from "../support/black-box/served.ts";
import { mountSmallDisk, type SmallDisk } from "../support/disk/small-disk.ts";
import { startServe, type ServedStore } from "../support/serve.ts";
import { noise } from "../support/store.ts";

const MIB = 1_048_576;
const DISK_BYTES = 512 * MIB;
/** Nodes stop here; the metadata, a level further down, still has room for deletes. */
const NODES_FREE_MIN = 160 * MIB;
const METADATA_FREE_MIN = 64 * MIB;
const BODY = noise(3 * MIB, 81);
const SMALL = noise(300, 82);
const DOCUMENT = `{"device_id":"d","battery_level":1,"pad":"${"p".repeat(30_000)}"}`;
const WRITERS = 8;

test("a full disk refuses writes with Retry-After, serves reads and deletes, and recovers by itself", async (context) => {
  const disk = await mountSmallDisk(DISK_BYTES);
  if (typeof disk === "string") return context.skip(disk);
  await using _ = disk;
  await using store = await startServe({
    dataDir: join(disk.path, "data"),
    env: { KINTSUGI_STORAGE_FREE_BYTES_MIN: String(NODES_FREE_MIN), KINTSUGI_STORAGE_VOLUME_BYTES_MAX: "64MiB" },
  });
  using client = new StoreClient(store.url);
  receiptOf(await client.put("/objects/before?strategy=ec&consistency=all", BODY));
  receiptOf(await client.put("/objects/doomed?strategy=ec&consistency=all", BODY));
  receiptOf(await client.put("/objects/document?strategy=field_hybrid&consistency=all", DOCUMENT));

  const acknowledged = await fillWithWriters(client);
  expect(acknowledged.length).toBeGreaterThan(WRITERS);
  expect(await disk.freeBytes()).toBeGreaterThan(METADATA_FREE_MIN);
  await expectReadsGoOn(client, acknowledged);
  await expectNodesRefuse(client);

  // Metadata has its own reserve: what touches no node goes on.
  expect((await client.send("DELETE", "/objects/doomed")).status).toBe(204);
  receiptOf(await client.put("/objects/inline", SMALL));
  expect(receiptOf(await client.patch("/objects/document", '{"battery_level":2}')).nodeBytesWritten).toBe(0);

  await disk.leaveFree(METADATA_FREE_MIN / 2);
  const refused = await until(
    () => client.put("/objects/inline-2", SMALL),
    ({ status }) => status !== 201 && status !== 200,
  );
  expectRefusal(refused);
  expectRefusal(await client.send("DELETE", "/objects/before"));
  expectRefusal(await client.put("/objects/refused?strategy=ec", BODY));
  await expectReadsGoOn(client, acknowledged);
  expect((await client.get("/objects/doomed")).status).toBe(404);

  await expectResumes(disk, store, client, acknowledged);
}, 90_000);

/** Several writers at once until all are refused: together they must not slip below the reserve. */
async function fillWithWriters(client: StoreClient): Promise<string[]> {
  const acknowledged: string[] = [];
  await Promise.all(
    Array.from({ length: WRITERS }, async (_, writer) => {
      for (let number = 0; ; number += 1) {
        const target = `/objects/fill/${writer}/${number}`;
        const answer = await client.put(`${target}?strategy=ec`, BODY);
        if (answer.status !== 201) return expectRefusal(answer);
        acknowledged.push(target);
      }
    }),
  );
  return acknowledged;
}

async function expectNodesRefuse(client: StoreClient): Promise<void> {
  for (const strategy of ["ec", "replication"]) {
    expectRefusal(await client.put(`/objects/refused?strategy=${strategy}`, BODY));
    expectRefusal(await client.send("PUT", `/objects/refused?strategy=${strategy}`, { body: BODY, chunked: true }));
    expect((await client.get("/objects/refused")).status).toBe(404);
  }
  const health = await client.get("/cluster/health");
  expect([health.status, (JSON.parse(health.body.toString()) as { status: string }).status]).toEqual([
    503,
    "unavailable",
  ]);
  expect((await client.get("/health")).status).toBe(200);
}

function expectRefusal(answer: Answer): void {
  const { code } = problemOf(answer);
  expect([503, 507], `${answer.status} ${code}`).toContain(answer.status);
  expect(Number(answer.headers["retry-after"]), code).toBeGreaterThan(0);
}

async function expectReadsGoOn(client: StoreClient, acknowledged: readonly string[]): Promise<void> {
  for (const target of ["/objects/before", ...acknowledged]) {
    expect((await client.get(target)).body.equals(BODY), target).toBe(true);
  }
  expect((await client.get("/objects?prefix=fill/&limit=1000")).status).toBe(200);
}

async function expectResumes(
  disk: SmallDisk,
  store: ServedStore,
  client: StoreClient,
  acknowledged: readonly string[],
): Promise<void> {
  await disk.leaveFree(NODES_FREE_MIN - 10 * MIB);
  await until(
    () => client.put("/objects/inline-3", SMALL),
    ({ status }) => status === 201,
  );
  // The ballast is gone and a file system of the same data is larger now: as if an operator had made room.
  await growDisk(disk);
  await until(
    () => client.put("/objects/resumed?strategy=ec", BODY),
    ({ status }) => status === 201,
  );
  expect((await client.get("/objects/resumed")).body.equals(BODY)).toBe(true);
  await until(
    () => client.get("/cluster/health"),
    ({ status }) => status === 200,
  );
  await expectReadsGoOn(client, acknowledged);
  await quiet(client);
  expect(store.logs()).not.toMatch(/"level":50/);
  expect(await store.stop()).toEqual({ code: 0, signal: null });
}

async function growDisk(disk: SmallDisk): Promise<void> {
  await disk.leaveFree(Number.MAX_SAFE_INTEGER);
  await disk.resize(2 * DISK_BYTES);
}
