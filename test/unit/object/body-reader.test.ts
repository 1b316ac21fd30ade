import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { BodyReader } from "../../../src/object/body-reader.ts";
import type { Body } from "../../../src/object/requests.ts";
import { noise } from "../../support/store.ts";

const NO_LIMIT = Number.MAX_SAFE_INTEGER;

type Source = Body & { readonly kind: "stream"; readonly seen: { pulls: number; returned: number } };

/** A stream that reuses the memory of a chunk as soon as the next one is asked for, as sockets do. */
function source(bytes: Uint8Array, sizes: readonly number[], sizeBytes: number | null, failure?: Error): Source {
  const seen = { pulls: 0, returned: 0 };
  let at = 0;
  let turn = 0;
  let memory = Buffer.alloc(0);
  const iterator: AsyncIterator<Uint8Array> = {
    async next() {
      seen.pulls += 1;
      memory.fill(0xdd);
      if (at >= bytes.length) {
        if (failure !== undefined) throw failure;
        return { done: true, value: undefined };
      }
      memory = Buffer.from(bytes.subarray(at, at + (sizes[turn++ % sizes.length] as number)));
      at += memory.length;
      return { done: false, value: memory };
    },
    async return() {
      seen.returned += 1;
      return { done: true, value: undefined };
    },
  };
  return { kind: "stream", sizeBytes, seen, chunks: { [Symbol.asyncIterator]: () => iterator } };
}

/** Chunk sizes; an empty chunk now and then, never only empty ones. */
const chunkings = fc
  .array(fc.oneof(fc.integer({ min: 1, max: 40 }), fc.constant(0)), { minLength: 1, maxLength: 6 })
  .map((sizes) => (sizes.some((size) => size > 0) ? sizes : [...sizes, 1]));

describe("BodyReader", () => {
  it("hands out the same bytes for any chunking, targets, peeks and announced size", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.nat(200),
        fc.option(chunkings, { nil: null }),
        fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1, maxLength: 5 }),
        fc.option(fc.nat(120), { nil: null }),
        fc.boolean(),
        async (length, sizes, targets, peekBytes, declared) => {
          const bytes = noise(length, length + 1);
          const body: Body = sizes === null ? { kind: "bytes", bytes } : source(bytes, sizes, declared ? length : null);
          const reader = new BodyReader(body, NO_LIMIT);
          expect(reader.declaredBytes).toBe(sizes === null || declared ? length : null);
          if (peekBytes !== null) {
            const head = await reader.peek(peekBytes);
            expect(head.bytes.length).toBeGreaterThanOrEqual(Math.min(peekBytes, length));
            expect(Buffer.compare(head.bytes, bytes.subarray(0, head.bytes.length))).toBe(0);
            if (head.ended) expect(head.bytes.length).toBe(length);
          }
          const read: Buffer[] = [];
          for (let turn = 0, total = 0; ; turn += 1) {
            const target = Buffer.alloc(targets[turn % targets.length] as number);
            const filled = await reader.fill(target);
            read.push(target.subarray(0, filled));
            total += filled;
            if (reader.ended) expect(total).toBe(length);
            if (filled < target.length) break;
          }
          expect(reader.ended).toBe(true);
          expect(Buffer.concat(read).equals(bytes)).toBe(true);
          expect(await reader.fill(Buffer.alloc(9))).toBe(0);
        },
      ),
      { numRuns: 300 },
    );
  });

  it("ended is known with the last announced byte, so that no further stripe is taken", async () => {
    for (const sizes of [[10], [3], [5, 0], [0, 10]]) {
      const reader = new BodyReader(source(noise(10), sizes, 10), NO_LIMIT);
      expect(reader.ended).toBe(false);
      await reader.fill(Buffer.alloc(6));
      expect(reader.ended).toBe(false);
      expect(await reader.fill(Buffer.alloc(4))).toBe(4);
      expect(reader.ended, `chunks of ${sizes.join()}`).toBe(true);
    }
  });

  it("ended is known of bytes in hand without asking anybody", async () => {
    expect(new BodyReader({ kind: "bytes", bytes: Buffer.alloc(0) }, NO_LIMIT).ended).toBe(true);
    const reader = new BodyReader({ kind: "bytes", bytes: noise(4) }, NO_LIMIT);
    await reader.fill(Buffer.alloc(3));
    expect(reader.ended).toBe(false);
    await reader.fill(Buffer.alloc(1));
    expect(reader.ended).toBe(true);
  });

  it("ended waits for the sender's word where no size was announced", async () => {
    const reader = new BodyReader(source(noise(4), [4], null), NO_LIMIT);
    await reader.fill(Buffer.alloc(4));
    expect(reader.ended).toBe(false);
    expect(await reader.fill(Buffer.alloc(4))).toBe(0);
    expect(reader.ended).toBe(true);
  });

  it("refuses a body that is longer or shorter than announced", async () => {
    for (const announced of [0, 9, 11, 1_000]) {
      for (const sizes of [[10], [1], [7, 0]]) {
        const fill = new BodyReader(source(noise(10), sizes, announced), NO_LIMIT).fill(Buffer.alloc(100));
        await expect(fill).rejects.toMatchObject({ code: "body_incomplete" });
        const peek = new BodyReader(source(noise(10), sizes, announced), NO_LIMIT).peek(100);
        await expect(peek).rejects.toMatchObject({ code: "body_incomplete" });
      }
    }
  });

  it("refuses surplus bytes also when the announced ones fill the target exactly", async () => {
    for (const sizes of [[4], [10], [4, 0]]) {
      const reader = new BodyReader(source(noise(10), sizes, 8), NO_LIMIT);
      await expect(reader.fill(Buffer.alloc(8))).rejects.toMatchObject({ code: "body_incomplete" });
    }
  });

  it("refuses a body beyond the limit: at once when that was announced, else with the byte too many", async () => {
    expect(() => new BodyReader(source(noise(11), [1], 11), 10)).toThrowError(
      expect.objectContaining({ code: "body_too_large", details: { bytesMax: 10 } }),
    );
    expect(() => new BodyReader({ kind: "bytes", bytes: noise(11) }, 10)).toThrowError(
      expect.objectContaining({ code: "body_too_large" }),
    );
    const body = source(noise(1_000), [1], null);
    await expect(new BodyReader(body, 10).fill(Buffer.alloc(1_000))).rejects.toMatchObject({ code: "body_too_large" });
    expect(body.seen.pulls).toBe(11);
    expect(await new BodyReader(source(noise(10), [3], null), 10).fill(Buffer.alloc(100))).toBe(10);
  });

  it("passes on why a source failed, from fill() and from peek()", async () => {
    const gone = new Error("the client is gone");
    await expect(new BodyReader(source(noise(10), [4], 20, gone), NO_LIMIT).fill(Buffer.alloc(20))).rejects.toBe(gone);
    await expect(new BodyReader(source(noise(10), [4], null, gone), NO_LIMIT).peek(20)).rejects.toBe(gone);
  });

  it("peek() holds no more than it was asked to look at, but whole chunks", async () => {
    const body = source(noise(1_000), [10], null);
    const { bytes, ended } = await new BodyReader(body, NO_LIMIT).peek(25);
    expect([bytes.length, ended, body.seen.pulls]).toEqual([30, false, 3]);
  });

  it("cancel() tells the source that nobody reads on, and nothing to a source that has ended", async () => {
    const unread = source(noise(10), [4], null);
    const reader = new BodyReader(unread, NO_LIMIT);
    await reader.fill(Buffer.alloc(4));
    await reader.cancel();
    expect(unread.seen.returned).toBe(1);
    const read = source(noise(10), [4], null);
    const other = new BodyReader(read, NO_LIMIT);
    await other.fill(Buffer.alloc(20));
    await other.cancel();
    expect(read.seen.returned).toBe(0);
    await new BodyReader({ kind: "bytes", bytes: noise(3) }, NO_LIMIT).cancel();
  });
});
