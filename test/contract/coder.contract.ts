import { createHash } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Coder, CodingUpload, DecodeRequest, Stripe, UploadOptions } from "../../src/coding/coder.ts";
import { AssertionError } from "../../src/lib/assert.ts";
import type { CellChecksum } from "../../src/domain/blob.ts";
import { cellChecksum } from "../../src/domain/checksum.ts";
import { blobIdOf } from "../../src/domain/ids.ts";
import type { Txid } from "../../src/domain/ids.ts";
import type { Redundancy } from "../../src/domain/manifest.ts";

const TXID = "01JZZZZZZZZZZZZZZZZZZZZZZZ" as Txid;
const OTHER_TXID = "01JZZZZZZZZZZZZZZZZZZZZZZ0" as Txid;
const EC_4_2 = { scheme: "ec", k: 4, m: 2 } as const;
const EC_2_1 = { scheme: "ec", k: 2, m: 1 } as const;
const EC_16_8 = { scheme: "ec", k: 16, m: 8 } as const;
const COPIES_3 = { scheme: "replication", copies: 3 } as const;

type Code = { readonly scheme: "ec"; readonly k: number; readonly m: number };

/** What every `Coder` promises. Run by each adapter. */
export function describeCoder(name: string, create: () => Coder): void {
  describe(name, () => {
    let coder: Coder;
    beforeAll(() => {
      coder = create();
    });
    afterAll(() => coder.close());
    describeDigests(() => coder);
    describeEncoding(() => coder);
    describeDecoding(() => coder);
    describeDocuments(() => coder);
    describeLifetime(() => coder);
  });
}

function describeDigests(coder: () => Coder): void {
  test.each([0, 1, 63, 64, 100_000, 1_000_003])("finish() digests %d bytes as node:crypto does", async (size) => {
    const content = patternBytes(size, size);
    const digests = await withUpload(coder(), { md5: true }, async (upload) => {
      for (let at = 0; at < size;) {
        const bytes = Math.min(size - at, 1 + ((at * 7_919) % 300_000));
        // The range may lie anywhere in the stripe.
        const stripe = createStripe(bytes + 11);
        stripe.bytes.set(content.subarray(at, at + bytes), 11);
        expect(await upload.absorb(stripe, 11, 11 + bytes)).toBe(11 + bytes);
        at += bytes;
      }
      return await upload.finish();
    });
    const digestOf = (algorithm: string) => createHash(algorithm).update(content).digest("hex");
    expect(digests).toEqual({ sha256: digestOf("sha256"), md5: digestOf("md5"), split: null });
  });

  test("finish() leaves MD5 out when it was not asked for", async () => {
    const digests = await withUpload(coder(), {}, (upload) => upload.finish());
    expect(digests.md5).toBeNull();
  });

  test.each([200, 300_000])("absorb() of a splitting upload takes hot values out of %d bytes", async (padBytes) => {
    const pad = "x".repeat(padBytes);
    const document = Buffer.from(`{"id": 7, "state":"on" ,"log":"${pad}"}`);
    const split = { hotFields: ["state"], mode: "strict" } as const;
    const whole = await withUpload(coder(), { split }, async (upload) => {
      // In two pieces, cut within the hot value: the cold bytes of the second move down to where it began.
      const cut = 20;
      const stripe = createStripe(document.length);
      stripe.bytes.set(document.subarray(0, cut));
      const end = await upload.absorb(stripe, 0, cut);
      expect(end).toBeLessThan(cut);
      stripe.bytes.set(document.subarray(cut), end);
      const coldBytes = await upload.absorb(stripe, end, end + document.length - cut);
      return { cold: Buffer.from(stripe.bytes.slice(0, coldBytes)), digests: await upload.finish() };
    });
    expect(whole.cold.toString()).not.toContain('"on"');
    expect(whole.cold.toString()).toContain(pad);
    expect(whole.digests.sha256).toBe(createHash("sha256").update(document).digest("hex"));
    expect(whole.digests.split?.coldSha256).toBe(createHash("sha256").update(whole.cold).digest("hex"));
    expect(Buffer.from(whole.digests.split?.hot ?? []).toString()).toBe('"on"');
    expect(whole.digests.split?.layout.addressable).toBe(true);
    expect(whole.digests.split?.layout.fields.map((field) => field.name)).toEqual(["state"]);
  });

  test.each([
    ["hot_field_duplicate", '{"a":1,"a":2}'],
    ["json_not_object", "[1]"],
    ["json_invalid", '{"a":1'],
    ["json_invalid", '{"a":1}}'],
  ])("a strict split rejects with %s and the offset for %s", async (code, text) => {
    const split = { hotFields: ["a"], mode: "strict" } as const;
    await withUpload(coder(), { split }, async (upload) => {
      const stripe = createStripe(100);
      stripe.bytes.set(Buffer.from(text));
      const outcome = upload.absorb(stripe, 0, text.length).then(() => upload.finish());
      await expect(outcome).rejects.toMatchObject({
        name: "StoreError",
        code,
        retriable: false,
        details: { offset: expect.any(Number) },
      });
    });
  });
}

function describeEncoding(coder: () => Coder): void {
  test.each([
    [EC_2_1, 64],
    [EC_4_2, 4_096],
    [EC_4_2, 262_144],
    [EC_16_8, 65_536],
  ])("encode() of %o in cells of %d bytes answers the checksum of every cell", async (redundancy, cellBytes) => {
    const { stripe, checksums } = await encodedStripe(coder(), redundancy, cellBytes, 5);
    expect(checksums).toHaveLength(redundancy.k + redundancy.m);
    checksums.forEach((checksum, shard) => {
      const cell = stripe.bytes.subarray(shard * cellBytes, (shard + 1) * cellBytes);
      expect(checksum).toBe(cellChecksum(cell, blobIdOf(TXID, "body", shard), 5));
    });
  });

  test("encode() pads the data cells with zeros in a stripe that was used before", async () => {
    const request = { stripeIndex: 0, dataBytes: 1_000, cellBytes: 256 };
    const [fresh, used] = [createStripe(8_192), createStripe(8_192)];
    used.bytes.fill(0xee);
    const checksums = await withUpload(coder(), {}, async (upload) => {
      fresh.bytes.set(patternBytes(1_000, 1));
      used.bytes.set(patternBytes(1_000, 1));
      return [await upload.encode(fresh, request), await upload.encode(used, request)];
    });
    expect(checksums[0]).toEqual(checksums[1]);
    expect(used.bytes.slice(0, 6 * 256)).toEqual(fresh.bytes.slice(0, 6 * 256));
    expect(used.bytes.slice(1_000, 1_024)).toEqual(new Uint8Array(24));
    expect(used.bytes[6 * 256], "what lies behind the cells is left alone").toBe(0xee);
  });

  test("encode() of replicas answers one checksum per copy of the one cell", async () => {
    const content = patternBytes(1_001, 3);
    const stripe = createStripe(1_001);
    stripe.bytes.set(content);
    const checksums = await withUpload(coder(), { part: "hot", redundancy: COPIES_3 }, (upload) =>
      upload.encode(stripe, { stripeIndex: 2, dataBytes: 1_001, cellBytes: 1_001 }),
    );
    expect(checksums).toEqual([0, 1, 2].map((copy) => cellChecksum(content, blobIdOf(TXID, "hot", copy), 2)));
  });

  test.each([
    [EC_4_2, 256],
    [EC_4_2, 131_072],
    [COPIES_3, 100_000],
  ])(
    "absorbAndEncode() of %o, cells of %d bytes, does what absorb() and encode() do",
    async (redundancy, cellBytes) => {
      const dataBytes =
        (redundancy.scheme === "ec" ? redundancy.k : 1) * cellBytes - (redundancy.scheme === "ec" ? 9 : 0);
      const request = { stripeIndex: 1, dataBytes, cellBytes };
      const run = async (steps: (upload: CodingUpload, stripe: Stripe) => Promise<CellChecksum[]>) => {
        const stripe = createStripe(6 * cellBytes);
        stripe.bytes.set(patternBytes(dataBytes, 8));
        return await withUpload(coder(), { redundancy }, async (upload) => {
          const checksums = await steps(upload, stripe);
          return { checksums, digests: await upload.finish(), cells: Buffer.from(stripe.bytes) };
        });
      };
      const together = await run(async (upload, stripe) => {
        await upload.absorb(stripe, 0, 100);
        return await upload.absorbAndEncode(stripe, 100, dataBytes, request);
      });
      const apart = await run(async (upload, stripe) => {
        await upload.absorb(stripe, 0, dataBytes);
        return await upload.encode(stripe, request);
      });
      expect(together.checksums).toEqual(apart.checksums);
      expect(together.digests).toEqual(apart.digests);
      expect(together.cells.equals(apart.cells)).toBe(true);
    },
  );

  test("encode() still works between finish() and close()", async () => {
    await withUpload(coder(), {}, async (upload) => {
      await upload.finish();
      const stripe = createStripe(6 * 64);
      expect(await upload.encode(stripe, { stripeIndex: 0, dataBytes: 1, cellBytes: 64 })).toHaveLength(6);
    });
  });
}

function describeDecoding(coder: () => Coder): void {
  test.each([
    [EC_4_2, 64],
    [EC_4_2, 65_536],
    [EC_2_1, 65_536],
  ])("verifyAndDecode() of %o, cells of %d bytes, mends every pattern of up to m losses", async (code, cellBytes) => {
    const { stripe, checksums, content } = await encodedStripe(coder(), code, cellBytes, 0);
    const intact = stripe.bytes.slice();
    for (const lost of subsetsUpTo(code.k + code.m, code.m)) {
      for (const kind of ["absent", "damaged"] as const) {
        stripe.bytes.set(intact);
        for (const shard of lost) spoil(stripe, shard, cellBytes);
        const cells = checksums
          .map((checksum, shardIndex) => ({ checksum, shardIndex }))
          .filter(({ shardIndex }) => kind === "damaged" || !lost.includes(shardIndex));
        const result = await coder().verifyAndDecode(stripe, decodeRequest(code, cellBytes, 0, cells));
        expect(result, `lost ${lost.join()}`).toEqual({ ok: true, damaged: kind === "damaged" ? lost : [] });
        expect(Buffer.compare(stripe.bytes.subarray(0, content.length), content), `lost ${lost.join()}`).toBe(0);
      }
    }
  });

  test("verifyAndDecode() refuses more than m damaged cells and names them", async () => {
    const { stripe, checksums } = await encodedStripe(coder(), EC_4_2, 64, 0);
    for (const shard of [0, 2, 5]) spoil(stripe, shard, 64);
    const cells = checksums.map((checksum, shardIndex) => ({ checksum, shardIndex }));
    const result = await coder().verifyAndDecode(stripe, decodeRequest(EC_4_2, 64, 0, cells));
    expect(result).toEqual({ ok: false, damaged: [0, 2, 5] });
  });

  test("verifyAndDecode() needs no decoding when what is wanted is there and right", async () => {
    const { stripe, checksums } = await encodedStripe(coder(), EC_4_2, 64, 0);
    spoil(stripe, 3, 64);
    const before = stripe.bytes.slice();
    const cells = [1, 3].map((shardIndex) => ({ shardIndex, checksum: checksums[shardIndex] as bigint }));
    const request = { ...decodeRequest(EC_4_2, 64, 0, cells), wanted: [1] };
    expect(await coder().verifyAndDecode(stripe, request)).toEqual({ ok: true, damaged: [3] });
    expect(stripe.bytes).toEqual(before);
  });

  test("verifyAndDecode() takes a cell of another place, stripe or object for damaged", async () => {
    const { stripe, checksums, content } = await encodedStripe(coder(), EC_4_2, 64, 7);
    const cells = checksums.map((checksum, shardIndex) => ({ checksum, shardIndex }));
    const request = decodeRequest(EC_4_2, 64, 7, cells);

    const swapped = cloneStripe(stripe);
    swapped.bytes.copyWithin(0, 64, 128);
    swapped.bytes.set(stripe.bytes.subarray(0, 64), 64);
    // Each payload comes with the checksum that its own node gave: both are right, only their places are not.
    const swappedCells = cells.map((cell, index) => ({
      ...cell,
      checksum: checksums[[1, 0, 2, 3, 4, 5][index] ?? 0] as bigint,
    }));
    expect(await coder().verifyAndDecode(swapped, { ...request, cells: swappedCells })).toEqual({
      ok: true,
      damaged: [0, 1],
    });
    expect(Buffer.compare(swapped.bytes.subarray(0, content.length), content)).toBe(0);

    const all = { ok: false, damaged: [0, 1, 2, 3, 4, 5] };
    expect(await coder().verifyAndDecode(cloneStripe(stripe), { ...request, stripeIndex: 6 })).toEqual(all);
    expect(await coder().verifyAndDecode(cloneStripe(stripe), { ...request, txid: OTHER_TXID })).toEqual(all);
    expect(await coder().verifyAndDecode(cloneStripe(stripe), { ...request, part: "cold" })).toEqual(all);
  });

  test.each([1_001, 200_000])(
    "verifyAndDecode() verifies a replica of %d bytes by the copy it came from",
    async (size) => {
      const stripe = createStripe(size);
      stripe.bytes.set(patternBytes(size, 4));
      const checksums = await withUpload(coder(), { redundancy: COPIES_3 }, (upload) =>
        upload.encode(stripe, { stripeIndex: 0, dataBytes: size, cellBytes: size }),
      );
      const requestOf = (shardIndex: number, checksum: bigint): DecodeRequest => ({
        ...decodeRequest(COPIES_3, size, 0, [{ shardIndex, checksum }]),
        wanted: [0],
      });
      expect(await coder().verifyAndDecode(stripe, requestOf(2, checksums[2] as bigint))).toEqual({
        ok: true,
        damaged: [],
      });
      expect(await coder().verifyAndDecode(stripe, requestOf(2, checksums[1] as bigint))).toEqual({
        ok: false,
        damaged: [2],
      });
      spoil(stripe, 0, size);
      expect(await coder().verifyAndDecode(stripe, requestOf(0, checksums[0] as bigint))).toEqual({
        ok: false,
        damaged: [0],
      });
    },
  );
}

function describeDocuments(coder: () => Coder): void {
  test.each([10, 200_000])("transform() projects and merges a document with %d bytes of ballast", async (ballast) => {
    const text = `{"a":1.0,"b":"${"y".repeat(ballast)}","c":[1, 2]}`;
    // As a view into something larger, as bodies come; it stays the caller's and unchanged.
    const backing = Buffer.from(`....${text}....`);
    const document = backing.subarray(4, 4 + Buffer.byteLength(text));
    const projected = await coder().transform({ kind: "project", document, fields: ["c"] });
    expect(JSON.parse(Buffer.from(projected).toString())).toEqual({ c: [1, 2] });
    const patch = Buffer.from('{"c":null,"d":true}');
    const merged = JSON.parse(
      Buffer.from(await coder().transform({ kind: "merge", document, patch })).toString(),
    ) as Record<string, unknown>;
    expect(Object.keys(merged).toSorted()).toEqual(["a", "b", "d"]);
    expect(merged["d"]).toBe(true);
    expect(backing.toString()).toBe(`....${text}....`);
  });

  test.each([10, 200_000])("transform() rejects %d bytes that are no JSON with a code", async (size) => {
    const outcome = coder().transform({ kind: "project", document: Buffer.alloc(size, "x"), fields: ["c"] });
    await expect(outcome).rejects.toMatchObject({ name: "StoreError", code: expect.stringMatching(/^json_/) });
  });
}

function describeLifetime(coder: () => Coder): void {
  test("close() is idempotent and waits for what is under way", async () => {
    const upload = await coder().openUpload(uploadOptions({}));
    const cellBytes = 131_072;
    const stripe = createStripe(6 * cellBytes);
    stripe.bytes.fill(1, 0, 4);
    const encoding = upload.encode(stripe, { stripeIndex: 0, dataBytes: 4, cellBytes });
    await Promise.all([upload.close(), upload.close()]);
    const parityAtClose = Buffer.from(stripe.bytes.slice(4 * cellBytes));
    await encoding;
    expect(parityAtClose.some((byte) => byte !== 0)).toBe(true);
    expect(parityAtClose.equals(stripe.bytes.subarray(4 * cellBytes))).toBe(true);
    await upload.close();
    await expect((async () => await upload.finish())()).rejects.toThrow(AssertionError);
  });

  test("openUpload() shares the threads: an upload that rests holds up no other", async () => {
    const resting = await Promise.all(Array.from({ length: 20 }, () => coder().openUpload(uploadOptions({}))));
    const stripe = createStripe(100_000);
    stripe.bytes.set(patternBytes(100_000, 6));
    for (const upload of resting) await upload.absorb(stripe, 0, 90_000);
    const sha256 = createHash("sha256").update(Buffer.from(stripe.bytes)).digest("hex");
    // Not one of the resting uploads moves until all of these have come and gone.
    for (let round = 0; round < 20; round += 1) {
      const digests = await withUpload(coder(), {}, async (upload) => {
        await upload.absorb(stripe, 0, 100_000);
        return await upload.finish();
      });
      expect(digests.sha256).toBe(sha256);
    }
    for (const upload of resting) {
      await upload.absorb(stripe, 90_000, 100_000);
      expect((await upload.finish()).sha256).toBe(sha256);
      await upload.close();
    }
  });

  test("spent() grows with each kind of work", async () => {
    const before = coder().spent();
    const { stripe, checksums } = await encodedStripe(coder(), EC_4_2, 262_144, 0);
    await withUpload(coder(), {}, (upload) => upload.absorb(stripe, 0, 1_000_000));
    const cells = checksums.map((checksum, shardIndex) => ({ checksum, shardIndex })).slice(1);
    await coder().verifyAndDecode(stripe, decodeRequest(EC_4_2, 262_144, 0, cells));
    const after = coder().spent();
    expect(after.hashMs).toBeGreaterThan(before.hashMs);
    expect(after.encodeMs).toBeGreaterThan(before.encodeMs);
    expect(after.decodeMs).toBeGreaterThan(before.decodeMs);
  });
}

function uploadOptions(change: Partial<UploadOptions>): UploadOptions {
  return { txid: TXID, part: "body", redundancy: EC_4_2, split: null, md5: false, ...change };
}

async function withUpload<T>(
  coder: Coder,
  change: Partial<UploadOptions>,
  work: (upload: CodingUpload) => Promise<T>,
): Promise<T> {
  const upload = await coder.openUpload(uploadOptions(change));
  try {
    return await work(upload);
  } finally {
    await upload.close();
  }
}

async function encodedStripe(
  coder: Coder,
  code: Code,
  cellBytes: number,
  stripeIndex: number,
): Promise<{ stripe: Stripe; checksums: CellChecksum[]; content: Uint8Array }> {
  const content = patternBytes(code.k * cellBytes - 5, stripeIndex);
  const stripe = createStripe((code.k + code.m) * cellBytes);
  stripe.bytes.set(content);
  const checksums = await withUpload(coder, { redundancy: code }, (upload) =>
    upload.encode(stripe, { stripeIndex, dataBytes: content.length, cellBytes }),
  );
  return { stripe, checksums, content };
}

function decodeRequest(
  redundancy: Redundancy,
  cellBytes: number,
  stripeIndex: number,
  cells: DecodeRequest["cells"],
): DecodeRequest {
  const wanted = Array.from({ length: redundancy.scheme === "ec" ? redundancy.k : 1 }, (_, shard) => shard);
  return { txid: TXID, part: "body", redundancy, stripeIndex, cellBytes, cells, wanted };
}

function createStripe(bytes: number): Stripe {
  const memory = new SharedArrayBuffer(bytes);
  return { memory, bytes: new Uint8Array(memory) };
}

function cloneStripe(stripe: Stripe): Stripe {
  const clone = createStripe(stripe.bytes.length);
  clone.bytes.set(stripe.bytes);
  return clone;
}

function spoil(stripe: Stripe, shard: number, cellBytes: number): void {
  const at = shard * cellBytes + (cellBytes >> 1);
  stripe.bytes[at] = (stripe.bytes[at] ?? 0) ^ 0x40;
}

function patternBytes(size: number, seed: number): Uint8Array {
  return Uint8Array.from({ length: size }, (_, at) => (at * 2_654_435_761 + seed * 40_503 + (at >>> 8)) >>> 5);
}

function subsetsUpTo(count: number, sizeMax: number): number[][] {
  return Array.from({ length: 2 ** count - 1 }, (_, mask) =>
    Array.from({ length: count }, (__, shard) => shard).filter((shard) => ((mask + 1) >> shard) & 1),
  ).filter((subset) => subset.length <= sizeMax);
}
