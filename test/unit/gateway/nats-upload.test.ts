import { createHash } from "node:crypto";
import fc from "fast-check";
import { expect, test } from "vitest";
import { StoreError } from "../../../src/domain/errors.ts";
import { Upload } from "../../../src/gateway/nats/upload.ts";
import { decodeFrame, encodeFrame, type Frame } from "../../../src/nats/transfer-frame.ts";

const CHUNK_BYTES = 4;
const WINDOW = 3;

function makeUpload() {
  const sent: { frame: Frame; reply: string | null }[] = [];
  let forgotten = 0;
  const upload = new Upload({
    send: (bytes, reply) => void sent.push({ frame: decodeFrame(bytes), reply }),
    windowChunks: WINDOW,
    chunkBytes: CHUNK_BYTES,
    onForgotten: () => void (forgotten += 1),
  });
  return { upload, sent, forgotten: () => forgotten };
}

const BYTES = Buffer.from("0123456789abcdefghijklmnopqrstuvwxyz!");
const CHUNKS = Array.from({ length: Math.ceil(BYTES.length / CHUNK_BYTES) }, (_, index) =>
  BYTES.subarray(index * CHUNK_BYTES, (index + 1) * CHUNK_BYTES),
);
const dataFrame = (index: number) =>
  decodeFrame(encodeFrame("data", index, index * CHUNK_BYTES, CHUNKS[index] as Uint8Array));
const digestOf = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest();
const endFrame = (count = CHUNKS.length, bytes = BYTES.length, digest: Uint8Array = digestOf(BYTES)) =>
  decodeFrame(encodeFrame("end", count, bytes, digest));

/** What a client does that obeys credit and complaints, over a channel that loses, repeats and swaps frames. */
async function transferOver(channel: readonly ("pass" | "drop" | "twice" | "late")[]): Promise<Buffer> {
  const { upload, sent } = makeUpload();
  let turn = 0;
  let held: Frame | null = null;
  const deliver = (frame: Frame) => {
    const fate = channel[turn++] ?? "pass";
    if (fate === "late" && held === null) return void (held = frame);
    if (fate !== "drop") upload.receive(frame, null);
    if (fate === "twice") upload.receive(frame, null);
    if (held !== null) upload.receive(held, null);
    held = null;
  };
  const received: Buffer[] = [];
  const reading = (async () => {
    for await (const chunk of upload) received.push(Buffer.from(chunk));
  })();
  let cursor = 0;
  for (let guard = 0; upload.sha256 === null; guard += 1) {
    expect(guard).toBeLessThan(1_000);
    const before = sent.length;
    upload.receive(decodeFrame(encodeFrame("ask")), "inbox");
    const state = sent[before]?.frame as Frame;
    expect(state.position - state.index).toBeLessThanOrEqual(WINDOW);
    cursor = Math.min(cursor, state.index);
    if (cursor < state.index) cursor = state.index;
    while (cursor < CHUNKS.length && cursor < state.position) deliver(dataFrame(cursor++));
    if (cursor === CHUNKS.length) deliver(endFrame());
    await new Promise((resolve) => setImmediate(resolve));
  }
  await reading;
  return Buffer.concat(received);
}

test("Upload gives the store the very bytes, whatever the way loses, repeats and swaps", async () => {
  const fates = fc.array(fc.constantFrom("pass", "drop", "twice", "late"), { maxLength: 60 });
  await fc.assert(
    fc.asyncProperty(fates, async (channel) => {
      expect((await transferOver(channel as never)).equals(BYTES)).toBe(true);
    }),
    { numRuns: 200 },
  );
});

test("Upload complains of a gap once, and says where to go on", () => {
  const { upload, sent } = makeUpload();
  upload.receive(dataFrame(0), null);
  upload.receive(dataFrame(2), null);
  upload.receive(dataFrame(2), null);
  expect(sent.map(({ frame }) => [frame.kind, frame.index])).toEqual([["resend", 1]]);
  expect(upload.receivedBytes).toBe(CHUNK_BYTES);
});

test("Upload lets no more be on its way than its window, however slowly the store takes it", async () => {
  const { upload, sent } = makeUpload();
  const taken: number[] = [];
  for (let index = 0; index < WINDOW; index += 1) upload.receive(dataFrame(index), null);
  for (let turn = 1; turn <= CHUNKS.length; turn += 1) {
    taken.push((await upload.next()).value?.length ?? -1);
    const limit = Math.max(WINDOW, ...sent.map(({ frame }) => frame.position));
    // The chunk that the store has in hand counts too.
    expect(limit).toBeLessThanOrEqual(turn - 1 + WINDOW);
    for (let index = upload.receivedBytes / CHUNK_BYTES; index < Math.min(limit, CHUNKS.length - 1); index += 1) {
      upload.receive(dataFrame(index), null);
    }
    if (turn === CHUNKS.length - 1) break;
  }
  expect(taken.every((length) => length === CHUNK_BYTES)).toBe(true);
});

test("Upload refuses a chunk that it gave no credit for, and one that does not fit where it stands", () => {
  const { upload } = makeUpload();
  for (let index = 0; index < WINDOW; index += 1) upload.receive(dataFrame(index), null);
  expect(() => upload.receive(dataFrame(WINDOW), null)).toThrow(/was not asked for/);
  const misplaced = decodeFrame(encodeFrame("data", 0, 1, Buffer.from("x")));
  expect(() => makeUpload().upload.receive(misplaced, null)).toThrow(/does not begin at byte 0/);
  const large = decodeFrame(encodeFrame("data", 0, 0, Buffer.alloc(CHUNK_BYTES + 1)));
  expect(() => makeUpload().upload.receive(large, null)).toThrow(StoreError);
  expect(() => makeUpload().upload.receive(decodeFrame(encodeFrame("done")), null)).toThrow(/takes no done/);
});

test("Upload ends only with a size and a digest that go with what arrived", async () => {
  for (const wrong of [endFrame(1, 5), endFrame(1, 4, Buffer.alloc(31)), endFrame(0, 4)]) {
    const { upload } = makeUpload();
    upload.receive(dataFrame(0), null);
    expect(() => upload.receive(wrong, null)).toThrow(/arrived; a SHA-256/);
    expect(upload.sha256).toBeNull();
  }
  const { upload, sent } = makeUpload();
  upload.receive(endFrame(1, 4), null);
  expect([upload.sha256, sent[0]?.frame.kind]).toEqual([null, "resend"]);
  upload.receive(dataFrame(0), null);
  upload.receive(endFrame(1, 4, digestOf(CHUNKS[0] as Buffer)), null);
  expect(upload.sha256).toBe(digestOf(CHUNKS[0] as Buffer).toString("hex"));
  expect((await upload.next()).done).toBe(false);
  expect((await upload.next()).done).toBe(true);
});

test("Upload tells its outcome again whenever it is asked, until the client has taken note", async () => {
  const { upload, sent, forgotten } = makeUpload();
  upload.receive(endFrame(0, 0, digestOf(Buffer.alloc(0))), null);
  expect((await upload.next()).done).toBe(true);
  upload.finish(encodeFrame("done", 0, 0, Buffer.from("{}")));
  upload.receive(dataFrame(0), null);
  upload.receive(decodeFrame(encodeFrame("ask")), "inbox.1");
  expect(sent.map(({ frame, reply }) => [frame.kind, reply])).toEqual([
    ["done", null],
    ["done", "inbox.1"],
  ]);
  expect(forgotten()).toBe(0);
  upload.receive(decodeFrame(encodeFrame("bye")), null);
  expect(forgotten()).toBe(1);
});

test("Upload fails the body when its client leaves before the end", async () => {
  const { upload } = makeUpload();
  upload.receive(dataFrame(0), null);
  const reading = (async () => {
    for await (const _ of upload);
  })();
  upload.receive(decodeFrame(encodeFrame("bye")), null);
  await expect(reading).rejects.toMatchObject({ code: "body_incomplete" });
});
