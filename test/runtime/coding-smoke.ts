/**
 * Uploads, damages and decodes on real coding threads, without a test runner, so that it shows on any runtime that the
 * threads, the shared memory and the native addon work together. Exits with 1 when something does not.
 *
 *     node test/runtime/coding-smoke.ts            bun test/runtime/coding-smoke.ts
 *     deno run -A test/runtime/coding-smoke.ts     … --bench also prints throughput
 */
import { createHash } from "node:crypto";
import { assert } from "../../src/lib/assert.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { isStoreError } from "../../src/domain/errors.ts";
import type { Txid } from "../../src/domain/ids.ts";
import type { Coder, Stripe } from "../../src/coding/coder.ts";
import { createPiscinaCoder } from "../../src/coding/piscina-coder.ts";
import { nativeAddonAvailable } from "../../src/coding/reed-solomon.ts";
import { StripePool } from "../../src/coding/stripe-pool.ts";

const TXID = "01JZZZZZZZZZZZZZZZZZZZZZZZ" as Txid;
const DOOMED = "01JZZZZZZZZZZZZZZZZZZZZZZ0" as Txid;
const K = 4;
const M = 2;
const CELL_BYTES = 1_048_064;
const CODE = { scheme: "ec", k: K, m: M } as const;
const UPLOAD = { txid: TXID, part: "body", redundancy: CODE, split: null, md5: true } as const;
const OPTIONS = { threads: 2, clock: systemClock, logger: silentLogger } as const;

const pool = new StripePool({ keptBytesMax: 64 * 1_048_576 });

async function roundTrip(coder: Coder): Promise<void> {
  const stripe = pool.allocateStripe((K + M) * CELL_BYTES);
  const dataBytes = K * CELL_BYTES - 1_000;
  fillPattern(stripe, dataBytes);
  const sha256 = createHash("sha256").update(stripe.bytes.slice(0, dataBytes)).digest("hex");

  const upload = await coder.openUpload(UPLOAD);
  const request = { stripeIndex: 0, dataBytes, cellBytes: CELL_BYTES };
  const checksums = await upload.absorbAndEncode(stripe, 0, dataBytes, request);
  const digests = await upload.finish();
  await upload.close();
  assert(checksums.length === K + M, "every cell has a checksum");
  assert(digests.sha256 === sha256 && digests.md5 !== null, "the digests are those of the content");

  const before = stripe.bytes.slice(0, K * CELL_BYTES);
  for (const shard of [1, 3]) stripe.bytes[shard * CELL_BYTES + 77] = (stripe.bytes[shard * CELL_BYTES + 77] ?? 0) ^ 1;
  const { ok, damaged } = await coder.verifyAndDecode(stripe, {
    txid: TXID,
    part: "body",
    redundancy: CODE,
    stripeIndex: 0,
    cellBytes: CELL_BYTES,
    cells: checksums.map((checksum, shardIndex) => ({ shardIndex, checksum })),
    wanted: [0, 1, 2, 3],
  });
  assert(ok && damaged.join() === "1,3", "the damaged cells are found");
  assert(Buffer.compare(before, stripe.bytes.subarray(0, K * CELL_BYTES)) === 0, "and mended");
  pool.release(stripe);
}

async function survivesWorkerDeath(by: "exit" | "throw"): Promise<void> {
  const coder = createPiscinaCoder({ ...OPTIONS, threads: 1, dieOn: { txid: DOOMED, by } });
  const stripe = pool.allocateStripe(4_096);
  const doomed = await coder.openUpload({ ...UPLOAD, txid: DOOMED });
  const bystander = await coder.openUpload(UPLOAD);
  await bystander.absorb(stripe, 0, 100);
  // The second is asked once the first has failed: until then its answer may still come from the living thread.
  for (const upload of [doomed, bystander]) {
    const cause: unknown = await upload.absorb(stripe, 0, 100).catch((error: unknown) => error);
    assert(isStoreError(cause, "worker_failed") && cause.retriable, "uploads of a dead thread fail as retriable");
  }
  await Promise.all([doomed.close(), bystander.close()]);
  await roundTrip(coder);
  await coder.close();
}

async function reportThroughput(coder: Coder, name: string, uploads: number): Promise<void> {
  const stripesPerUpload = 40;
  const start = systemClock.monotonicMs();
  const spentBefore = coder.spent();
  await Promise.all(
    Array.from({ length: uploads }, async () => {
      const stripe = pool.allocateStripe((K + M) * CELL_BYTES);
      const upload = await coder.openUpload({ ...UPLOAD, md5: false });
      for (let stripeIndex = 0; stripeIndex < stripesPerUpload; stripeIndex += 1) {
        const dataBytes = K * CELL_BYTES;
        await upload.absorbAndEncode(stripe, 0, dataBytes, { stripeIndex, dataBytes, cellBytes: CELL_BYTES });
      }
      await upload.finish();
      await upload.close();
      pool.release(stripe);
    }),
  );
  const ms = systemClock.monotonicMs() - start;
  const megabytes = (uploads * stripesPerUpload * K * CELL_BYTES) / 1e6;
  const { hashMs, encodeMs } = coder.spent();
  const parts = `hash ${(hashMs - spentBefore.hashMs).toFixed(0)} ms, encode ${(encodeMs - spentBefore.encodeMs).toFixed(0)} ms`;
  console.log(`${name}, ${uploads} upload(s): ${((megabytes * 1_000) / ms).toFixed(0)} MB/s (${parts})`);
}

function fillPattern(stripe: Stripe, bytes: number): void {
  for (let at = 0; at < bytes; at += 1) stripe.bytes[at] = (at * 31) ^ (at >>> 9);
}

const native = createPiscinaCoder(OPTIONS);
const fallback = createPiscinaCoder({ ...OPTIONS, forceFallback: true });
try {
  console.log(`native addon: ${nativeAddonAvailable() ? "yes" : "no"}`);
  await roundTrip(native);
  await roundTrip(fallback);
  if (process.argv.includes("--bench")) {
    for (const uploads of [1, 2, 4]) {
      await reportThroughput(native, "native", uploads);
      await reportThroughput(fallback, "fallback", uploads);
    }
  }
  await survivesWorkerDeath("exit");
  await survivesWorkerDeath("throw");
  console.log("ok");
} finally {
  await native.close();
  await fallback.close();
}
