/** Conditional writes, receipts and deletes. */
import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import { noise } from "../store.ts";
import { problemOf, receiptOf } from "./client.ts";
import type { GetServed } from "./served.ts";

const RACERS = 16;

export function writeChecks(served: GetServed): void {
  describe("writes", () => {
    conditionChecks(served);

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
