import fc from "fast-check";
import { expect, test } from "vitest";
import { decodeFrame, encodeFrame, type FrameKind } from "../../../src/nats/transfer-frame.ts";

const KINDS: readonly FrameKind[] = ["data", "end", "credit", "resend", "ask", "done", "failed", "bye"];

/** What these stand for was sent by somebody: when a test disagrees, it is the code that has to change. */
const GOLDEN: readonly [kind: FrameKind, index: number, position: number, payload: string, hex: string][] = [
  ["data", 3, 393_216, "ab", "01010000000000030000000000060000" + "6162"],
  ["end", 1, 2, "d", "01020000000000010000000000000002" + "64"],
  ["credit", 5, 13, "", "0103000000000005000000000000000d"],
  ["resend", 5, 13, "", "0104000000000005000000000000000d"],
  ["ask", 0, 0, "", "01050000000000000000000000000000"],
  ["done", 0, 0, "{}", "01060000000000000000000000000000" + "7b7d"],
  ["failed", 0, 0, "{}", "01070000000000000000000000000000" + "7b7d"],
  ["bye", 0xffff_ffff, Number.MAX_SAFE_INTEGER, "", "01080000ffffffff001fffffffffffff"],
];

test.each(GOLDEN)(
  "encodeFrame() and decodeFrame() keep %s as it is in format 1",
  (kind, index, position, text, hex) => {
    const payload = Buffer.from(text);
    expect(Buffer.from(encodeFrame(kind, index, position, payload)).toString("hex")).toBe(hex);
    const within = Buffer.concat([Buffer.from("before"), Buffer.from(hex, "hex"), Buffer.from("behind")]);
    const frame = decodeFrame(within.subarray(6, -6));
    expect({ ...frame, payload: Buffer.from(frame.payload) }).toEqual({ kind, index, position, payload });
  },
);

test("decodeFrame() gives back what encodeFrame() was given", () => {
  fc.assert(
    fc.property(
      fc.constantFrom(...KINDS),
      fc.integer({ min: 0, max: 0xffff_ffff }),
      fc.nat(Number.MAX_SAFE_INTEGER),
      fc.uint8Array({ maxLength: 200 }),
      (kind, index, position, payload) => {
        const frame = decodeFrame(encodeFrame(kind, index, position, payload));
        expect({ ...frame, payload: Uint8Array.from(frame.payload) }).toEqual({ kind, index, position, payload });
      },
    ),
  );
});

test("decodeFrame() refuses other formats, unknown kinds, short frames and counts beyond reason", () => {
  const bytes = Buffer.from(encodeFrame("data", 1, 2));
  const changed = (at: number, value: number) => Buffer.from(bytes.with(at, value));
  for (const version of [0, 2, 255]) expect(() => decodeFrame(changed(0, version))).toThrow(/format/);
  for (const kind of [0, 9, 255]) expect(() => decodeFrame(changed(1, kind))).toThrow(/no frame/);
  for (const length of [0, 1, 15]) expect(() => decodeFrame(bytes.subarray(0, length))).toThrow(/no frame/);
  expect(() => decodeFrame(changed(8, 255))).toThrow(/counts beyond/);
});
