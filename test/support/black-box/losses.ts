/** Lost nodes, crashes and stops, each on a store of its own. */
import { once } from "node:events";
import { rm } from "node:fs/promises";
import type { IncomingMessage } from "node:http";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { noise } from "../store.ts";
import { startServe, type Runtime, type ServedStore } from "../serve.ts";
import { telemetryDocument } from "../telemetry.ts";
import { bodyOf, pathOf, problemOf, receiptOf, responseOf, StoreClient } from "./client.ts";
import { quiet, until } from "./served.ts";
import { temporaryDirectory } from "./temporary-directory.ts";

const LARGE = noise(64 * 1_048_576, 61);
const DOCUMENT = telemetryDocument({ seed: 62 });
const SMALL = noise(20_000, 63);

export function lossChecks(runtime: Runtime): void {
  describe("losses", () => {
    test("two node folders deleted while reading, restarts and kill -9 lose no byte", async () => {
      await using directory = await temporaryDirectory();
      const dataDir = join(directory.path, "data");
      {
        await using store = await startServe({ runtime, dataDir });
        using client = new StoreClient(store.url);
        receiptOf(await client.put("/objects/large?strategy=ec&consistency=all", LARGE));
        receiptOf(await client.put("/objects/document?consistency=all", DOCUMENT));
        receiptOf(await client.put("/objects/small?strategy=replication&consistency=all", SMALL));
        await readWhileNodesVanish(client, dataDir);
        expect(await store.stop()).toEqual({ code: 0, signal: null });
      }
      {
        await using store = await startServe({ runtime, dataDir });
        await expectReadable(store);
        using client = new StoreClient(store.url);
        receiptOf(await client.put("/objects/after?strategy=ec", SMALL));
        await killDuringUploads(store, client);
      }
      await using store = await startServe({ runtime, dataDir });
      await expectReadable(store);
      using client = new StoreClient(store.url);
      expect((await client.get("/objects/after")).body.equals(SMALL)).toBe(true);
      for (let number = 0; number < 8; number += 1) {
        expect((await client.get(`/objects/acknowledged/${number}`)).body.equals(bodyOfUpload(number))).toBe(true);
        // Sent half when the process was killed.
        expect((await client.get(`/objects/unfinished/${number}`)).status).toBe(404);
      }
      await quiet(client);
    });

    test("a clean stop lets a download finish, and takes nothing new", async () => {
      await using store = await startServe({ runtime, env: { KINTSUGI_HTTP_OBJECT_BYTES_MAX: "32MiB" } });
      using client = new StoreClient(store.url);
      await limitChecks(client);
      const body = LARGE.subarray(0, 32 * 1_048_576);
      receiptOf(await client.put("/objects/download?strategy=ec", body));
      const incoming = await beginDownload(client, "/objects/download");
      const stopped = store.stop();
      await until(
        () => isRefused(store),
        (refused) => refused,
      );
      expect((await bodyOf(incoming)).equals(body)).toBe(true);
      expect(await stopped).toEqual({ code: 0, signal: null });
    });

    test("a download that nobody takes is cut off when the time to drain is over", async () => {
      await using store = await startServe({ runtime, env: { KINTSUGI_TIMEOUTS_DRAIN_MS: "500ms" } });
      using client = new StoreClient(store.url);
      receiptOf(await client.put("/objects/download?strategy=ec", LARGE));
      const incoming = await beginDownload(client, "/objects/download");
      expect(await store.stop()).toEqual({ code: 0, signal: null });
      await expect(bodyOf(incoming)).rejects.toThrow();
    });
  });
}

/** Reads the first bytes, deletes what two nodes have, and reads on. */
async function readWhileNodesVanish(client: StoreClient, dataDir: string): Promise<void> {
  const incoming = await beginDownload(client, "/objects/large");
  const info = await client.get("/objects/large?info");
  const { placement } = JSON.parse(info.body.toString()) as {
    placement: { blobSets: { blobs: { node: string; index: number }[] }[] };
  };
  // The first shards hold data, not parity: without them everything has to be decoded.
  const nodes = placement.blobSets[0]?.blobs.filter(({ index }) => index < 2).map(({ node }) => node) ?? [];
  expect(nodes).toHaveLength(2);
  for (const node of nodes) await rm(join(dataDir, "nodes", node), { recursive: true });
  expect((await bodyOf(incoming)).equals(LARGE), "the download under way").toBe(true);
  expect((await client.get("/objects/large")).body.equals(LARGE), "the next download").toBe(true);
}

async function expectReadable(store: ServedStore): Promise<void> {
  using client = new StoreClient(store.url);
  expect((await client.get("/objects/large")).body.equals(LARGE)).toBe(true);
  expect((await client.get("/objects/document")).body.equals(DOCUMENT)).toBe(true);
  expect((await client.get("/objects/small")).body.equals(SMALL)).toBe(true);
  const range = await client.get("/objects/large", { range: "bytes=4192255-8384513" });
  expect(range.body.equals(LARGE.subarray(4_192_255, 8_384_514))).toBe(true);
}

async function killDuringUploads(store: ServedStore, client: StoreClient): Promise<void> {
  for (let number = 0; number < 8; number += 1) {
    receiptOf(await client.put(`/objects/acknowledged/${number}`, bodyOfUpload(number)));
    const unfinished = client.open("PUT", `${pathOf(`unfinished/${number}`)}?strategy=ec`, {
      "content-length": "9000000",
    });
    await new Promise<void>((resolve) => unfinished.write(LARGE.subarray(0, 5_000_000), () => resolve()));
  }
  await store.kill9();
}

function bodyOfUpload(number: number): Buffer {
  return LARGE.subarray(number * 1_000, number * 300_000 + 100 + number * 1_000);
}

/** A download of which one piece has been read and no more is taken for now. */
async function beginDownload(client: StoreClient, target: string): Promise<IncomingMessage> {
  const outgoing = client.open("GET", target);
  outgoing.end();
  const incoming = await responseOf(outgoing);
  await once(incoming, "readable");
  return incoming;
}

async function isRefused(store: ServedStore): Promise<boolean> {
  using client = new StoreClient(store.url);
  return await client.get("/health").then(
    ({ status }) => status === 503,
    () => true,
  );
}

async function limitChecks(client: StoreClient): Promise<void> {
  for (const chunked of [false, true]) {
    const answer = await client.send("PUT", "/objects/too-large", {
      body: LARGE.subarray(0, 32 * 1_048_576 + 1),
      chunked,
    });
    expect([answer.status, problemOf(answer).code]).toEqual([413, "body_too_large"]);
    expect((await client.get("/objects/too-large")).status).toBe(404);
  }
  const stats = await quiet(client);
  expect(stats.totals.blobCount).toBe(0);
}
