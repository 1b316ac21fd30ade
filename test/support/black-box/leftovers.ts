/**
 * What must leave nothing behind: clients that vanish, bodies with a wrong digest, versions that were replaced. Run on
 * a store of its own, where every blob is accounted for.
 */
import { createHash } from "node:crypto";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startServe, type Runtime } from "../serve.ts";
import { noise } from "../store.ts";
import { pathOf, problemOf, receiptOf, responseOf, StoreClient } from "./client.ts";
import { quiet, statsOf, until, type GetServed, type Served } from "./served.ts";

const ANNOUNCED_BYTES = 30_000_000;
const SENT = noise(9_000_000, 51);
const OLD = noise(70_000, 52);

export function leftoverChecks(runtime: Runtime, problem: string | null): void {
  describe("nothing is left", () => {
    let running: Served | null = null;
    const served = (): Served => {
      if (running === null) throw new Error("The store did not start");
      return running;
    };
    beforeAll(async () => {
      if (problem !== null) return;
      const store = await startServe({ runtime });
      running = { store, client: new StoreClient(store.url) };
    });
    afterAll(async () => {
      running?.client[Symbol.dispose]();
      await running?.store[Symbol.asyncDispose]();
    });
    vanishingChecks(served);
    digestChecks(served);

    test("of writers that lost a race", async () => {
      const { client } = served();
      const before = await quiet(client);
      const answers = await Promise.all(
        Array.from({ length: 16 }, (_, racer) =>
          client.put("/objects/race?strategy=ec&consistency=all", noise(300_000, racer + 1), { "if-none-match": "*" }),
        ),
      );
      expect(answers.filter(({ status }) => status === 201)).toHaveLength(1);
      const after = await quiet(client);
      expect(after.totals.blobCount).toBe(before.totals.blobCount + 6);
    });

    test("of replaced versions", async () => {
      const { client } = served();
      const before = await quiet(client);
      for (let seed = 1; seed <= 4; seed += 1) {
        receiptOf(await client.put("/objects/replaced?strategy=ec&consistency=all", noise(80_000, seed)));
      }
      // Their blobs stay a few seconds, for readers that are about to begin.
      const after = await quiet(client);
      expect(after.totals.blobCount).toBe(before.totals.blobCount + 6);
    });
  });
}

function vanishingChecks(served: GetServed): void {
  test.each([
    ["ec", "content-length"],
    ["ec", "chunked"],
    ["replication", "content-length"],
    ["field_hybrid", "content-length"],
  ])("of a client that vanishes during an upload (%s, %s)", async (strategy, framing) => {
    const { client } = served();
    const path = `/objects/vanish/${strategy}-${framing}`;
    const before = await quiet(client);
    const socket = await beginUpload(client.url, `${path}?strategy=${strategy}`, framing === "chunked", strategy);
    await until(
      () => statsOf(client),
      (stats) => stats.inFlightBytes > 0,
    );
    socket.resetAndDestroy();
    const after = await quiet(client);
    expect(after.totals.blobCount).toBe(before.totals.blobCount);
    expect(after.totals.liveBytes).toBe(before.totals.liveBytes);
    expect((await client.get(path)).status).toBe(404);
  });

  test("of one that vanishes while overwriting, but the old version", async () => {
    const { client } = served();
    receiptOf(await client.put("/objects/vanish/old?strategy=ec", OLD));
    const before = await quiet(client);
    const socket = await beginUpload(client.url, "/objects/vanish/old?strategy=ec", false, "ec");
    await until(
      () => statsOf(client),
      (stats) => stats.inFlightBytes > 0,
    );
    socket.destroy();
    const after = await quiet(client);
    expect(after.totals).toMatchObject({
      blobCount: before.totals.blobCount,
      liveBytes: before.totals.liveBytes,
      objectCount: before.totals.objectCount,
    });
    expect((await client.get("/objects/vanish/old")).body.equals(OLD)).toBe(true);
  });

  test("in memory of one that vanishes during a download", async () => {
    const { client } = served();
    receiptOf(await client.put("/objects/vanish/large?strategy=ec", noise(12_000_000, 53)));
    await quiet(client);
    const outgoing = client.open("GET", "/objects/vanish/large");
    outgoing.end();
    const incoming = await responseOf(outgoing);
    await once(incoming, "readable");
    incoming.destroy();
    await quiet(client);
  });
}

/** Announces more than it sends. Resolves when what it has to send is on its way. */
async function beginUpload(url: URL, target: string, chunked: boolean, strategy: string): Promise<Socket> {
  const socket = connect({ host: url.hostname, port: Number(url.port) });
  socket.on("error", () => {});
  await once(socket, "connect");
  const framing = chunked ? "Transfer-Encoding: chunked" : `Content-Length: ${ANNOUNCED_BYTES}`;
  socket.write(`PUT ${target} HTTP/1.1\r\nHost: ${url.host}\r\n${framing}\r\n\r\n`);
  if (chunked) socket.write(`${ANNOUNCED_BYTES.toString(16)}\r\n`);
  if (strategy === "field_hybrid") socket.write('{"device_id":"d","pad":"');
  const bytes = strategy === "field_hybrid" ? Buffer.alloc(SENT.length, "p") : SENT;
  await new Promise<void>((resolve) => socket.write(bytes, () => resolve()));
  return socket;
}

const DIGEST_BODIES = [
  ["inline", 300],
  ["replication", 9_000],
  ["replication", 200_000],
  ["ec", 5_000_000],
] as const;

function digestChecks(served: GetServed): void {
  test.each(DIGEST_BODIES)("of a body with a wrong digest: %s, %d bytes", async (strategy, size) => {
    const { client } = served();
    const before = await quiet(client);
    const body = noise(size, 41);
    const path = pathOf(`writes/digest-${strategy}-${size}`);
    const target = `${path}?strategy=${strategy}`;
    const wrong = digestHeaders(noise(size, 42));
    for (const [name, value] of Object.entries(wrong)) {
      for (const chunked of [false, true]) {
        const answer = await client.send("PUT", target, { body, chunked, headers: { [name]: value } });
        expect([answer.status, problemOf(answer).code], name).toEqual([400, "digest_mismatch"]);
        expect((await client.get(path)).status, name).toBe(404);
      }
    }
    expect((await quiet(client)).totals).toMatchObject({
      blobCount: before.totals.blobCount,
      liveBytes: before.totals.liveBytes,
    });
    for (const [name, value] of Object.entries(digestHeaders(body))) {
      const accepted = `${path}-${name}`;
      expect((await client.put(`${accepted}?strategy=${strategy}`, body, { [name]: value })).status, name).toBe(201);
      const refused = await client.put(accepted, body, { [name]: wrong[name] as string });
      expect(refused.status, `${name}, over another`).toBe(400);
      expect((await client.get(accepted)).body.equals(body), name).toBe(true);
    }
  });

  test("digest headers that are none are refused before the body counts", async () => {
    const { client } = served();
    for (const headers of [
      { "x-kintsugi-sha256": "abc" },
      { "content-md5": "abc" },
      { "content-digest": "sha-256=:abc:" },
      { "x-kintsugi-sha256": "0".repeat(64), "repr-digest": digestHeaders(Buffer.from("x"))["repr-digest"] as string },
    ] as Record<string, string>[]) {
      const answer = await client.put("/objects/writes/no-digest", "x", headers);
      expect([answer.status, problemOf(answer).code], JSON.stringify(headers)).toEqual([400, "header_invalid"]);
    }
    expect((await client.get("/objects/writes/no-digest")).status).toBe(404);
  });
}

function digestHeaders(body: Buffer): Record<string, string> {
  const sha256 = createHash("sha256").update(body).digest();
  return {
    "x-kintsugi-sha256": sha256.toString("hex"),
    "content-digest": `sha-256=:${sha256.toString("base64")}:`,
    "repr-digest": `sha-256=:${sha256.toString("base64")}:`,
    "content-md5": createHash("md5").update(body).digest("base64"),
  };
}
