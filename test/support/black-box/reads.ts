/** Ranges, HEAD and conditions. */
import { createHash } from "node:crypto";
import { beforeAll, describe, expect, test } from "vitest";
import { noise } from "../store.ts";
import { problemOf, receiptOf } from "./client.ts";
import type { GetServed } from "./served.ts";

const CELL = 1_048_064;
const BIG = 9_000_001;
const bodies: Readonly<Record<string, Buffer>> = {
  inline: noise(500, 21),
  replication: noise(70_001, 22),
  ec: noise(BIG, 23),
  field_hybrid: Buffer.from(`{"pad":"${"q".repeat(300_000)}", "device_id":"d", "more":[1,2,3],"status" :"on"}`),
};

/** [Range header, first, end) of the body that it stands for, given the body's size. */
function rangesOf(size: number): [header: string, first: number, end: number][] {
  const half = Math.floor(size / 2);
  const ranges: [string, number, number][] = [
    ["bytes=0-0", 0, 1],
    ["bytes=0-", 0, size],
    ["bytes=-1", size - 1, size],
    [`bytes=-${size * 2}`, 0, size],
    [`bytes=${size - 1}-`, size - 1, size],
    [`bytes=${half}-${half + 99}`, half, half + 100],
    [`bytes=7-${size * 3}`, 7, size],
  ];
  if (size > 5 * CELL) {
    for (const edge of [CELL, 2 * CELL, 4 * CELL, 5 * CELL]) {
      ranges.push([`bytes=${edge - 1}-${edge}`, edge - 1, edge + 1], [`bytes=${edge}-${edge}`, edge, edge + 1]);
    }
    ranges.push([`bytes=${CELL - 5}-${4 * CELL + 5}`, CELL - 5, 4 * CELL + 6]);
  }
  return ranges;
}

export function readChecks(served: GetServed): void {
  describe("reads", () => {
    beforeAll(async () => {
      for (const [strategy, body] of Object.entries(bodies)) {
        const headers = { "content-type": "text/x-test; charset=utf-8", "x-kintsugi-meta-owner": "søren" };
        // Header values are bytes: UTF-8 goes out as one character per byte.
        headers["x-kintsugi-meta-owner"] = Buffer.from("søren ☃").toString("latin1");
        receiptOf(await served().client.put(`/objects/reads/${strategy}?strategy=${strategy}`, body, headers));
      }
    });

    test.each(Object.keys(bodies))("ranges of %s are the bytes asked for", async (strategy) => {
      const body = bodies[strategy] as Buffer;
      const { client } = served();
      for (const [range, first, end] of rangesOf(body.length)) {
        const answer = await client.get(`/objects/reads/${strategy}`, { range });
        expect(answer.status, range).toBe(206);
        expect(answer.headers["content-range"], range).toBe(`bytes ${first}-${end - 1}/${body.length}`);
        expect(answer.headers["content-length"], range).toBe(String(end - first));
        expect(answer.body.equals(body.subarray(first, end)), range).toBe(true);
      }
      for (const range of [`bytes=${body.length}-`, `bytes=${body.length + 5}-${body.length + 9}`, "bytes=-0"]) {
        const answer = await client.get(`/objects/reads/${strategy}`, { range });
        expect(answer.status, range).toBe(416);
        expect(answer.headers["content-range"], range).toBe(`bytes */${body.length}`);
        expect(problemOf(answer).code, range).toBe("range_invalid");
      }
      for (const range of ["bytes=5-2", "bytes=a-b", "bytes=0-1,3-4", "lines=1-2", "bytes=-"]) {
        const answer = await client.get(`/objects/reads/${strategy}`, { range });
        expect(answer.status, range).toBe(200);
        expect(answer.body.equals(body), range).toBe(true);
      }
    });

    test("If-Range takes the range only for the tag it names", async () => {
      const { client } = served();
      const { etag = "" } = (await client.get("/objects/reads/replication")).headers;
      const same = await client.get("/objects/reads/replication", { range: "bytes=0-9", "if-range": etag });
      const other = await client.get("/objects/reads/replication", { range: "bytes=0-9", "if-range": '"other"' });
      expect([same.status, same.body.length, other.status, other.body.length]).toEqual([206, 10, 200, 70_001]);
    });

    test.each(Object.keys(bodies))("HEAD of %s is GET without the body", async (strategy) => {
      const { client } = served();
      const got = await client.get(`/objects/reads/${strategy}`);
      const head = await client.send("HEAD", `/objects/reads/${strategy}`);
      expect([head.status, head.body.length]).toEqual([200, 0]);
      const stable = ({ headers: { date: _, "x-request-id": __, ...rest } }: typeof got) => rest;
      expect(stable(head)).toEqual(stable(got));
      const body = bodies[strategy] as Buffer;
      expect(head.headers).toMatchObject({
        "content-length": String(body.length),
        "content-type": "text/x-test; charset=utf-8",
        "accept-ranges": "bytes",
        "x-kintsugi-meta-owner": Buffer.from("søren ☃").toString("latin1"),
        "x-kintsugi-sha256": createHash("sha256").update(body).digest("hex"),
      });
      expect((await client.send("HEAD", `/objects/reads/${strategy}-absent`)).status).toBe(404);
    });

    test("conditional GET answers 304 or 412 by tag and by date", async () => {
      const { client } = served();
      const path = "/objects/reads/ec";
      const { etag = "", "last-modified": modified = "" } = (await client.send("HEAD", path)).headers;
      const earlier = new Date(Date.parse(modified) - 1_000).toUTCString();
      const cases: [Record<string, string>, number][] = [
        [{ "if-none-match": etag }, 304],
        [{ "if-none-match": `W/${etag}, "x"` }, 304],
        [{ "if-none-match": "*" }, 304],
        [{ "if-none-match": '"x"' }, 200],
        [{ "if-match": etag }, 200],
        [{ "if-match": `"x", ${etag}` }, 200],
        [{ "if-match": `W/${etag}` }, 412],
        [{ "if-match": '"x"' }, 412],
        [{ "if-modified-since": modified }, 304],
        [{ "if-modified-since": earlier }, 200],
        [{ "if-modified-since": "no date" }, 200],
        [{ "if-modified-since": modified, "if-none-match": '"x"' }, 200],
        [{ "if-unmodified-since": modified }, 200],
        [{ "if-unmodified-since": earlier }, 412],
      ];
      for (const [headers, status] of cases) {
        for (const method of ["GET", "HEAD"]) {
          const answer = await client.send(method, path, { headers });
          const context = `${method} ${JSON.stringify(headers)}`;
          expect(answer.status, context).toBe(status);
          if (status === 304) expect([answer.body.length, answer.headers.etag], context).toEqual([0, etag]);
        }
      }
    });

    test("?info and /info tell where every blob is", async () => {
      const { client } = served();
      for (const target of ["/objects/reads/ec?info", "/objects/reads/ec/info"]) {
        const answer = await client.get(target);
        expect(answer.status, target).toBe(200);
        expect(JSON.parse(answer.body.toString()), target).toMatchObject({
          key: "reads/ec",
          sizeBytes: BIG,
          strategy: "ec",
          userMetadata: { owner: "søren ☃" },
          placement: { blobSets: [{ part: "body", redundancy: { scheme: "ec", k: 4, m: 2 } }] },
        });
      }
    });
  });
}
