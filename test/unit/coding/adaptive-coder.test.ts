import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import { createAdaptiveCoder, createCoder } from "../../../src/coding/adaptive-coder.ts";
import type { Coder, Stripe, UploadOptions } from "../../../src/coding/coder.ts";
import { createInlineCoder } from "../../../src/coding/inline-coder.ts";
import { createReedSolomon, nativeAddonAvailable } from "../../../src/coding/reed-solomon.ts";
import type { Txid } from "../../../src/domain/ids.ts";
import { systemClock } from "../../../src/lib/clock.ts";
import { silentLogger } from "../../../src/lib/logger.ts";

const LIMIT = 1_000;
const UPLOAD: UploadOptions = {
  txid: "01JZZZZZZZZZZZZZZZZZZZZZZZ" as Txid,
  part: "cold",
  redundancy: { scheme: "ec", k: 2, m: 1 },
  split: { hotFields: ["a"], mode: "strict" },
  md5: true,
};

/** A real coder that also writes down what it was asked for. */
function recordingCoder(): { coder: Coder; asked: string[] } {
  const inner = createInlineCoder({ reedSolomon: createReedSolomon({ forceFallback: true }), clock: systemClock });
  const asked: string[] = [];
  const coder: Coder = {
    ...inner,
    async openUpload(options) {
      asked.push("openUpload");
      return await inner.openUpload(options);
    },
    async verifyAndDecode(stripe, request) {
      asked.push("verifyAndDecode");
      return await inner.verifyAndDecode(stripe, request);
    },
    async transform(task) {
      asked.push("transform");
      return await inner.transform(task);
    },
  };
  return { coder, asked };
}

function createAdaptive(): { coder: Coder; threaded: string[] } {
  const inline = recordingCoder();
  const threaded = recordingCoder();
  return { coder: createAdaptiveCoder(inline.coder, threaded.coder, LIMIT), threaded: threaded.asked };
}

function stripeWith(content: Uint8Array, bytes = content.length): Stripe {
  const memory = new SharedArrayBuffer(bytes);
  const stripe = { memory, bytes: new Uint8Array(memory) };
  stripe.bytes.set(content);
  return stripe;
}

function documentOf(bytes: number): Buffer {
  const head = '{"a":"hot","b":"';
  return Buffer.from(`${head}${"z".repeat(bytes - head.length - 2)}"}`);
}

describe("createAdaptiveCoder()", () => {
  test("keeps an upload inline up to the limit", async () => {
    const { coder, threaded } = createAdaptive();
    const upload = await coder.openUpload(UPLOAD);
    const document = documentOf(LIMIT);
    await upload.absorb(stripeWith(document), 0, LIMIT);
    await upload.encode(stripeWith(document, 3 * 512), { stripeIndex: 0, dataBytes: 890, cellBytes: 448 });
    expect((await upload.finish()).sha256).toBe(createHash("sha256").update(document).digest("hex"));
    await upload.close();
    expect(threaded).toEqual([]);
  });

  test.each([1, 7, 100, LIMIT, LIMIT + 1])(
    "moves an upload in steps of %d bytes without losing a bit",
    async (step) => {
      const { coder, threaded } = createAdaptive();
      const upload = await coder.openUpload(UPLOAD);
      const document = documentOf(3_000);
      const cold: Uint8Array[] = [];
      for (let at = 0; at < document.length; at += step) {
        const stripe = stripeWith(document.subarray(at, at + step));
        const end = await upload.absorb(stripe, 0, stripe.bytes.length);
        cold.push(stripe.bytes.slice(0, end));
      }
      const digests = await upload.finish();
      await upload.close();
      const sha256Of = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");
      expect(threaded).toEqual(["openUpload"]);
      expect(digests.sha256).toBe(sha256Of(document));
      expect(digests.md5).toBe(createHash("md5").update(document).digest("hex"));
      expect(digests.split?.coldSha256).toBe(sha256Of(Buffer.concat(cold)));
      expect(Buffer.from(digests.split?.hot ?? []).toString()).toBe('"hot"');
    },
  );

  test("moves an upload that only encodes, by the size of the stripe", async () => {
    const { coder, threaded } = createAdaptive();
    const upload = await coder.openUpload(UPLOAD);
    await upload.encode(stripeWith(Buffer.alloc(0), 4_096), { stripeIndex: 0, dataBytes: 1, cellBytes: 1_024 });
    await upload.close();
    expect(threaded).toEqual(["openUpload"]);
  });

  test("sends decoding and documents where their size says", async () => {
    const { coder, threaded } = createAdaptive();
    const decode = (cellBytes: number) =>
      coder.verifyAndDecode(stripeWith(Buffer.alloc(0), 4_096), {
        ...UPLOAD,
        stripeIndex: 0,
        cellBytes,
        cells: [
          { shardIndex: 0, checksum: 0n },
          { shardIndex: 1, checksum: 0n },
        ],
        wanted: [0],
      });
    expect(await decode(LIMIT / 2)).toEqual({ ok: false, damaged: [0, 1] });
    await coder.transform({ kind: "project", document: documentOf(LIMIT), fields: ["a"] });
    expect(threaded).toEqual([]);
    await decode(LIMIT / 2 + 4);
    await coder.transform({ kind: "project", document: documentOf(LIMIT + 1), fields: ["a"] });
    expect(threaded).toEqual(["verifyAndDecode", "transform"]);
  });
});

describe("createCoder()", () => {
  test("warns once exactly when the native addon is missing", async () => {
    const warnings: string[] = [];
    const logger = { ...silentLogger, warn: (_: unknown, message: string) => void warnings.push(message) };
    const coder = createCoder({ threads: 0, clock: systemClock, logger });
    const upload = await coder.openUpload(UPLOAD);
    await upload.close();
    await coder.close();
    expect(warnings).toHaveLength(nativeAddonAvailable() ? 0 : 1);
  });
});
