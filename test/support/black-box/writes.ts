/** Conditional writes, digests and receipts, deletes, and what a refused write leaves: nothing. */
import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import { noise } from "../store.ts";
import { pathOf, problemOf, receiptOf } from "./client.ts";
import { quiet, until, statsOf, type GetServed } from "./served.ts";

const RACERS = 16;

export function writeChecks(served: GetServed): void {
  describe("writes", () => {
    conditionChecks(served);
    digestChecks(served);

    test("a receipt tells what the write achieved", async () => {
      const { client } = served();
      const body = noise(100_000, 31);
      const sha256 = createHash("sha256").update(body).digest("hex");
      const first = await client.put("/objects/writes/receipt?strategy=ec&consistency=all", body);
      expect([first.status, first.headers.location]).toEqual([201, "/objects/writes/receipt"]);
      const receipt = receiptOf(first);
      expect(receipt).toMatchObject({
        bucket: "default",
        key: "writes/receipt",
        sizeBytes: 100_000,
        sha256,
        strategy: "ec",
        created: true,
        blobsDurable: 6,
        blobsPlanned: 6,
        tolerance: 2,
        dirty: false,
      });
      expect([...receipt.nodes].sort()).toEqual(["node-1", "node-2", "node-3", "node-4", "node-5", "node-6"]);
      expect(receipt.nodeBytesWritten).toBeGreaterThanOrEqual(150_000);
      expect(first.headers).toMatchObject({ etag: `"${receipt.etag}"`, "x-kintsugi-version": receipt.version });

      const second = await client.put("/objects/writes/receipt?strategy=replication&consistency=all", body);
      expect(second.status).toBe(200);
      expect(receiptOf(second)).toMatchObject({
        created: false,
        blobsDurable: 3,
        tolerance: 2,
        strategy: "replication",
      });
      expect(receiptOf(second).version > receipt.version, "versions rise").toBe(true);
    });

    test("a deleted object is gone, by every door, and can be made anew", async () => {
      const { client } = served();
      for (const [write, read, remove] of [
        ["/objects/writes/gone", "/objects/writes/gone", "/objects/writes/gone"],
        ["/write?key=writes%2Fgone", "/read/writes/gone", "/delete/writes/gone"],
      ] as const) {
        const body = noise(70_000, 32);
        expect((await client.send("POST", write, { body })).status).toBe(201);
        expect((await client.get(read)).body.equals(body)).toBe(true);
        const removed = await client.send("DELETE", remove);
        expect([removed.status, removed.body.length]).toEqual([204, 0]);
        for (const method of ["GET", "HEAD", "DELETE"]) {
          const path = method === "DELETE" ? remove : read;
          expect((await client.send(method, path)).status, `${method} ${path}`).toBe(404);
        }
        expect((await client.get("/objects?prefix=writes/gone")).body.toString()).toContain('"objects":[]');
        expect((await client.patch("/objects/writes/gone", "{}")).status).toBe(404);
      }
    });

    test("replaced versions give their blobs back", async () => {
      const { client } = served();
      const before = await quiet(client);
      for (let seed = 1; seed <= 4; seed += 1) {
        receiptOf(await client.put("/objects/writes/replaced?strategy=ec", noise(80_000, seed)));
      }
      // Blobs of a replaced version stay a few seconds for readers that are about to begin.
      const after = await until(
        () => statsOf(client),
        (stats) => stats.openIntents === 0 && stats.totals.blobCount <= before.totals.blobCount + 6,
      );
      expect(after.totals.blobCount).toBe(before.totals.blobCount + 6);
    });
  });
}

function conditionChecks(served: GetServed): void {
  test.each(["inline", "replication", "ec"])("conditional PUT and DELETE of %s go by the tag", async (strategy) => {
    const { client } = served();
    const path = `/objects/writes/conditional-${strategy}`;
    const put = (seed: number, headers: Record<string, string>) =>
      client.put(`${path}?strategy=${strategy}`, noise(400, seed), headers);
    expect((await put(1, { "if-match": "*" })).status).toBe(412);
    expect((await client.get(path)).status).toBe(404);
    const { etag } = receiptOf(await put(1, { "if-none-match": "*" }));
    expect((await put(2, { "if-none-match": "*" })).status).toBe(412);
    const refused = await put(2, { "if-match": '"other"' });
    expect([refused.status, problemOf(refused).code]).toEqual([412, "precondition_failed"]);
    expect((await client.get(path)).body.equals(noise(400, 1))).toBe(true);
    const second = receiptOf(await put(2, { "if-match": `"${etag}"` }));
    expect((await put(3, { "if-match": `"${etag}"` })).status).toBe(412);
    expect((await client.get(path)).body.equals(noise(400, 2))).toBe(true);
    expect((await client.send("DELETE", path, { headers: { "if-match": `"${etag}"` } })).status).toBe(412);
    const removed = await client.send("DELETE", path, { headers: { "if-match": `"${second.etag}"` } });
    expect(removed.status).toBe(204);
    expect((await put(4, { "if-none-match": "*" })).status).toBe(201);
  });

  test.each(["inline", "ec"])("of 16 writers that must not overwrite exactly one wins: %s", async (strategy) => {
    const { client } = served();
    const path = `/objects/writes/race-${strategy}`;
    const answers = await Promise.all(
      Array.from({ length: RACERS }, (_, racer) =>
        client.put(`${path}?strategy=${strategy}`, noise(2_000, racer + 1), { "if-none-match": "*" }),
      ),
    );
    const winner = answers.findIndex(({ status }) => status === 201);
    expect(answers.map(({ status }) => status).sort()).toEqual([201, ...Array<number>(RACERS - 1).fill(412)]);
    expect((await client.get(path)).body.equals(noise(2_000, winner + 1))).toBe(true);
  });

  test("counters raised by compare-and-set from 8 connections lose nothing", async () => {
    const { client } = served();
    const path = "/objects/writes/counter";
    receiptOf(await client.put(path, "0"));
    const raise = async () => {
      for (let done = 0; done < 5;) {
        const read = await client.get(path);
        const next = String(Number(read.body.toString()) + 1);
        // The tag of plain content is its digest, which 1 and 2 never share.
        const answer = await client.put(path, next, { "if-match": read.headers.etag ?? "" });
        if (answer.status === 200) done += 1;
        else expect(answer.status).toBe(412);
      }
    };
    await Promise.all(Array.from({ length: 8 }, raise));
    expect((await client.get(path)).body.toString()).toBe("40");
  });
}

const DIGEST_BODIES = [
  ["inline", 300],
  ["replication", 9_000],
  ["replication", 200_000],
  ["ec", 5_000_000],
] as const;

function digestChecks(served: GetServed): void {
  test.each(DIGEST_BODIES)("a wrong digest refuses the body whole: %s of %d bytes", async (strategy, size) => {
    const { client } = served();
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
    const before = await quiet(client);
    for (const [name, value] of Object.entries(digestHeaders(body))) {
      expect((await client.put(target, body, { [name]: value })).status, name).toBeLessThan(202);
    }
    for (const [name, value] of Object.entries(wrong)) {
      expect((await client.put(target, body, { [name]: value })).status, `${name}, over another`).toBe(400);
    }
    expect((await client.get(path)).body.equals(body)).toBe(true);
    await until(
      () => statsOf(client),
      ({ totals }) => totals.blobCount <= before.totals.blobCount + (strategy === "ec" ? 6 : 3),
    );
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
