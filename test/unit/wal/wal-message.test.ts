import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Txid } from "../../../src/domain/ids.ts";
import { encodeIntent } from "../../../src/domain/intent.ts";
import { decodeWalMessage, encodeWalMessage } from "../../../src/wal/wal-message.ts";
import { comparable } from "../../support/golden.ts";
import { sampleIntent, sampleTxid } from "../../support/sample-records.ts";

/** What was stored by version 1: settlements of 7 and 8, appends of 9 with the bytes 1 2 3 and of 10 with none. */
const GOLDEN = [
  "01",
  "0002",
  hexOf(sampleTxid(7)),
  hexOf(sampleTxid(8)),
  "0002",
  `${hexOf(sampleTxid(9))}00000003010203`,
  `${hexOf(sampleTxid(10))}00000000`,
].join("");

const MESSAGE = {
  settled: [sampleTxid(7), sampleTxid(8)],
  appends: [
    { txid: sampleTxid(9), encoded: Uint8Array.of(1, 2, 3) },
    { txid: sampleTxid(10), encoded: new Uint8Array(0) },
  ],
};

describe("log message", () => {
  test("encodeWalMessage() writes the bytes of version 1", () => {
    expect(encodeWalMessage(MESSAGE).toString("hex")).toBe(GOLDEN);
    expect(encodeWalMessage({ settled: [], appends: [] }).toString("hex")).toBe("0100000000");
  });

  test("decodeWalMessage() reads the bytes of version 1, wherever they lie in memory", () => {
    const within = Buffer.concat([Buffer.from("before"), Buffer.from(GOLDEN, "hex"), Buffer.from("behind")]);
    expect(comparable(decodeWalMessage(within.subarray(6, -6)))).toEqual(comparable(MESSAGE));
  });

  test("decodeWalMessage() gives back what was encoded", () => {
    const txid = fc.nat(1_000_000).map(sampleTxid);
    const append = fc.record({ txid, encoded: fc.uint8Array({ maxLength: 2_000 }) });
    const message = fc.record({ settled: fc.array(txid), appends: fc.array(append) });
    fc.assert(
      fc.property(message, (given) => {
        expect(comparable(decodeWalMessage(encodeWalMessage(given)))).toEqual(comparable(given));
      }),
    );
  });

  test("decodeWalMessage() refuses other versions and messages that end early", () => {
    const bytes = encodeWalMessage({
      settled: [sampleTxid(1)],
      appends: [{ txid: sampleTxid(2), encoded: encodeIntent(sampleIntent(2)) }],
    });
    const unknown = expect.objectContaining({ code: "format_unknown" });
    for (const version of [0, 2, 255]) {
      const other = Buffer.from(bytes);
      other[0] = version;
      expect(() => decodeWalMessage(other)).toThrowError(unknown);
    }
    for (let length = 0; length < bytes.length; length += 1) {
      expect(() => decodeWalMessage(bytes.subarray(0, length))).toThrowError(unknown);
    }
  });
});

function hexOf(txid: Txid): string {
  return Buffer.from(txid, "latin1").toString("hex");
}
