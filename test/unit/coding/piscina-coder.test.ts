import { describe, expect, test } from "vitest";
import type { Coder, Stripe, UploadOptions } from "../../../src/coding/coder.ts";
import { createPiscinaCoder } from "../../../src/coding/piscina-coder.ts";
import type { PiscinaCoderOptions } from "../../../src/coding/piscina-coder.ts";
import type { Txid } from "../../../src/domain/ids.ts";
import { systemClock } from "../../../src/lib/clock.ts";
import { silentLogger } from "../../../src/lib/logger.ts";

const TXID = "01JZZZZZZZZZZZZZZZZZZZZZZZ" as Txid;
const DOOMED = "01JZZZZZZZZZZZZZZZZZZZZZZ0" as Txid;
const UPLOAD: UploadOptions = {
  txid: TXID,
  part: "body",
  redundancy: { scheme: "ec", k: 4, m: 2 },
  split: null,
  md5: false,
};
const EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const WORKER_FAILED = { name: "StoreError", code: "worker_failed", retriable: true };

function usingCoder(change: Partial<PiscinaCoderOptions>): Coder & AsyncDisposable {
  const coder = createPiscinaCoder({ threads: 1, clock: systemClock, logger: silentLogger, ...change });
  return Object.assign(coder, { [Symbol.asyncDispose]: () => coder.close() });
}

function createStripe(bytes: number): Stripe {
  const memory = new SharedArrayBuffer(bytes);
  return { memory, bytes: new Uint8Array(memory) };
}

async function emptyUploadDigest(coder: Coder): Promise<string> {
  const upload = await coder.openUpload(UPLOAD);
  const { sha256 } = await upload.finish();
  await upload.close();
  return sha256;
}

describe("createPiscinaCoder()", () => {
  test.each(["exit", "throw"] as const)("fails the uploads of a thread that dies by %s and goes on", async (by) => {
    await using coder = usingCoder({ dieOn: { txid: DOOMED, by } });
    const stripe = createStripe(4_096);
    const doomed = await coder.openUpload({ ...UPLOAD, txid: DOOMED });
    const neighbour = await coder.openUpload(UPLOAD);
    await neighbour.absorb(stripe, 0, 10);

    await expect(doomed.absorb(stripe, 0, 10)).rejects.toMatchObject(WORKER_FAILED);
    await expect(doomed.finish(), "later calls as well").rejects.toMatchObject(WORKER_FAILED);
    await expect(neighbour.finish(), "uploads beside it as well").rejects.toMatchObject(WORKER_FAILED);
    await doomed.close();
    await neighbour.close();

    expect(await emptyUploadDigest(coder)).toBe(EMPTY_SHA256);
    // A pool that had lost its thread for good could serve one task and no second death.
    const again = await coder.openUpload({ ...UPLOAD, txid: DOOMED });
    await expect(again.absorb(stripe, 0, 10)).rejects.toMatchObject(WORKER_FAILED);
    await again.close();
    expect(await emptyUploadDigest(coder)).toBe(EMPTY_SHA256);
  });

  test("leaves uploads in other threads alone when one dies", async () => {
    await using coder = usingCoder({ threads: 2, dieOn: { txid: DOOMED, by: "exit" } });
    const stripe = createStripe(4_096);
    // Uploads go to the thread with the fewest: of three, the doomed one shares its thread with at most one.
    const first = await coder.openUpload(UPLOAD);
    const doomed = await coder.openUpload({ ...UPLOAD, txid: DOOMED });
    const third = await coder.openUpload(UPLOAD);
    await Promise.all([first.absorb(stripe, 0, 10), third.absorb(stripe, 0, 10)]);
    await expect(doomed.absorb(stripe, 0, 10)).rejects.toMatchObject(WORKER_FAILED);
    const outcomes = await Promise.allSettled([first.finish(), third.finish()]);
    expect(outcomes.some((outcome) => outcome.status === "fulfilled")).toBe(true);
    await Promise.all([first.close(), doomed.close(), third.close()]);
  });

  test("fails a decode whose thread dies", async () => {
    await using coder = usingCoder({ dieOn: { txid: DOOMED, by: "exit" } });
    const { part, redundancy } = UPLOAD;
    const cells = [{ shardIndex: 0, checksum: 0n }];
    const request = { part, redundancy, stripeIndex: 0, cellBytes: 64, cells, wanted: [0] };
    const stripe = createStripe(6 * 64);
    const outcome = coder.verifyAndDecode(stripe, { ...request, txid: DOOMED });
    await expect(outcome).rejects.toMatchObject(WORKER_FAILED);
    expect(await coder.verifyAndDecode(stripe, { ...request, txid: TXID })).toEqual({ ok: false, damaged: [0] });
  });

  test("reports a broken invariant of a thread as one, and the thread lives on", async () => {
    await using coder = usingCoder({});
    const upload = await coder.openUpload(UPLOAD);
    const stripe = createStripe(64);
    await expect(upload.absorb(stripe, 0, 65)).rejects.toThrow(/Broken invariant/);
    await expect(upload.absorb(stripe, 0, 65)).rejects.toHaveProperty("name", "AssertionError");
    expect(await upload.absorb(stripe, 0, 64)).toBe(64);
    await upload.close();
  });

  test("close() ends open uploads and refuses new work as shutting_down", async () => {
    // A clock whose timers never fire: closing must not rest on its patience running out.
    const coder = usingCoder({ clock: { ...systemClock, startTimer: () => ({ cancel() {} }) } });
    const upload = await coder.openUpload(UPLOAD);
    const stripe = createStripe(6 * 131_072);
    const encoding = upload.encode(stripe, { stripeIndex: 0, dataBytes: 9, cellBytes: 131_072 });
    await coder.close();
    expect(await encoding, "what was under way is finished first").toHaveLength(6);
    await expect(coder.openUpload(UPLOAD)).rejects.toMatchObject({ code: "shutting_down", retriable: true });
    // The owner of an upload has done nothing wrong by going on with it.
    await expect(upload.finish()).rejects.toMatchObject({ code: "shutting_down" });
    await expect(upload.close(), "closing again does no harm").resolves.toBeUndefined();
    const decode = coder.transform({ kind: "project", document: Buffer.from("{}"), fields: [] });
    await expect(decode).rejects.toMatchObject({ code: "shutting_down" });
    await coder.close();
  });
});
