import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { HeatReport } from "../../../src/domain/heat.ts";
import { HEAT_OBJECTS_MAX, heatReportCodec } from "../../../src/domain/heat.ts";
import type { BucketName, ObjectKey, VersionId } from "../../../src/domain/ids.ts";
import { LIMITS } from "../../../src/limits.ts";
import { comparable, readGolden } from "../../support/golden.ts";

const VERSION = "01ARZ3NDEKTSV4RRFFQ69G5FAV" as VersionId;
const REPORT: HeatReport = {
  process: "gateway-a",
  objects: [
    {
      bucket: "default" as BucketName,
      key: "maps/é.bin" as ObjectKey,
      version: VERSION,
      reads: 70_000,
      windowMs: 60_000,
    },
    { bucket: "b" as BucketName, key: "k" as ObjectKey, version: VERSION, reads: 600, windowMs: 55_001 },
  ],
};

const golden = readGolden(join(import.meta.dirname, "golden/version-1.txt")).get("a report") as Buffer;

describe("heatReportCodec", () => {
  test("encode() gives the bytes of version 1", () => {
    expect(Buffer.from(heatReportCodec.encode(REPORT)).toString("hex")).toBe(golden.toString("hex"));
  });

  test("decode() reads the bytes of version 1", () => {
    expect(comparable(heatReportCodec.decode(golden))).toEqual(comparable(REPORT));
  });

  test("decode() refuses another version byte, bytes cut short, and something else inside", () => {
    const broken = [
      Buffer.concat([Buffer.from([2]), golden.subarray(1)]),
      golden.subarray(0, -3),
      Buffer.from([1, 0xc0]),
    ];
    for (const bytes of [...broken, Buffer.alloc(0)]) {
      expect(() => heatReportCodec.decode(bytes)).toThrowError(expect.objectContaining({ code: "format_unknown" }));
    }
  });

  test("a report of as many objects as there may be, with the longest keys, fits one message", () => {
    const key = "k".repeat(LIMITS.keyBytesMax) as ObjectKey;
    const bucket = "b".repeat(63) as BucketName;
    const object = { bucket, key, version: VERSION, reads: 2 ** 31, windowMs: 60_000 };
    const report = { process: "p".repeat(63), objects: Array.from({ length: HEAT_OBJECTS_MAX }, () => object) };
    expect(heatReportCodec.encode(report).length).toBeLessThan(512 * 1_024);
  });
});
