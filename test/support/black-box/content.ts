/** Bytes in, the same bytes out: every strategy at every size where something changes, with and without a length. */
import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import { noise } from "../store.ts";
import { pathOf, problemOf, receiptOf, type Answer } from "./client.ts";
import type { GetServed } from "./served.ts";

const STRIPE_BYTES = 4 * 1_048_064;
const MIB = 1_048_576;
const SIZES = [
  ...[0, 1, 63, 512, 513, 8_192, 8_193, 65_535, 65_536, 65_537, MIB - 1, MIB, MIB + 1],
  ...[STRIPE_BYTES - 1, STRIPE_BYTES, STRIPE_BYTES + 1, 20 * MIB],
] as const;
const INLINE_BYTES_MAX = 65_536;
/** Bytes of all sizes begin alike, so that one buffer serves them all. */
const BYTES = noise(20 * MIB, 7);

export function contentChecks(served: GetServed): void {
  describe.each(["declared", "chunked"] as const)("bodies, %s", (framing) => {
    const chunked = framing === "chunked";

    test.each(["auto", "replication", "ec"] as const)("%s keeps the bytes of every size", async (strategy) => {
      for (const size of SIZES) await roundTrip(served, { strategy, body: BYTES.subarray(0, size), chunked });
    });

    test("inline keeps the bytes of every size that fits a record, and refuses others", async () => {
      for (const size of SIZES) {
        const body = BYTES.subarray(0, size);
        if (size <= INLINE_BYTES_MAX) await roundTrip(served, { strategy: "inline", body, chunked });
      }
      const { client } = served();
      const body = BYTES.subarray(0, INLINE_BYTES_MAX + 1);
      const refused = await client.send("PUT", "/objects/inline/too-large?strategy=inline", { body, chunked });
      expect(refused.status).toBe(413);
      expect(problemOf(refused).code).toBe("body_too_large");
      expect((await client.get("/objects/inline/too-large")).status).toBe(404);
    });

    test("field_hybrid keeps the bytes of documents of every size", async () => {
      for (const size of SIZES) {
        if (size >= 63) await roundTrip(served, { strategy: "field_hybrid", body: documentOf(size), chunked });
      }
    });
  });
}

type Trip = { readonly strategy: string; readonly body: Buffer; readonly chunked: boolean };

async function roundTrip(served: GetServed, { strategy, body, chunked }: Trip): Promise<void> {
  const { client } = served();
  const context = `${strategy} ${body.length} ${chunked ? "chunked" : "declared"}`;
  const path = pathOf(`sizes/${strategy}/${body.length}/${chunked}`);
  const sha256 = createHash("sha256").update(body).digest("hex");
  const headers = { "content-type": "application/x-test" };
  const receipt = receiptOf(await client.send("PUT", `${path}?strategy=${strategy}`, { headers, body, chunked }));
  expect(receipt, context).toMatchObject({ sizeBytes: body.length, sha256 });
  if (strategy !== "auto") expect(receipt.strategy, context).toBe(strategy);
  if (receipt.strategy !== "inline" && body.length > 0) {
    expect(receipt.tolerance, context).toBeGreaterThanOrEqual(1);
    expect(receipt.blobsDurable, context).toBeGreaterThanOrEqual(receipt.strategy === "replication" ? 2 : 5);
    expect(receipt.nodes.length, context).toBe(new Set(receipt.nodes).size);
  }

  const read = await client.get(path);
  expectContent(read, body, context);
  expect(read.headers, context).toMatchObject({
    "x-kintsugi-sha256": sha256,
    "x-kintsugi-strategy": receipt.strategy,
    "content-type": "application/x-test",
    etag: `"${receipt.etag}"`,
  });
}

function expectContent(read: Answer, body: Buffer, context: string): void {
  expect(read.status, context).toBe(200);
  expect(read.headers["content-length"], context).toBe(String(body.length));
  expect(read.body.equals(body), `${context}: the bytes that came back`).toBe(true);
}

/** A document of exactly this many bytes, at least 63, with hot and cold fields. */
function documentOf(sizeBytes: number): Buffer {
  const head = '{"device_id": "d-1", "battery_level":  97,"pad":"';
  return Buffer.from(`${head}${"p".repeat(sizeBytes - head.length - 2)}"}`);
}
