import { describe, expect, it } from "vitest";
import type { Txid } from "../../../src/domain/ids.ts";
import {
  blobIdOf,
  createTxidSource,
  parseBlobId,
  parseBucketName,
  parseNodeName,
  parseObjectKey,
} from "../../../src/domain/ids.ts";
import { systemRandom } from "../../../src/lib/random.ts";
import { ManualClock } from "../../support/manual-clock.ts";

const coded = (code: string) => expect.objectContaining({ code }) as Error;

describe("parseBucketName()", () => {
  it("takes 1 to 63 lower-case letters, digits, dots and hyphens", () => {
    for (const name of ["a", "0", "telemetry", "a.b-c", "x".repeat(63)]) expect(parseBucketName(name)).toBe(name);
  });

  it("refuses everything else", () => {
    for (const name of ["", "A", "a_b", "a/b", "-a", "a-", ".a", "a.", "x".repeat(64), "a\n", "a\0", "ä", "a b"]) {
      expect(() => parseBucketName(name), JSON.stringify(name)).toThrowError(coded("bucket_invalid"));
    }
  });
});

describe("parseObjectKey()", () => {
  it("takes any Unicode text of up to 1,024 bytes as it is", () => {
    const keys = [
      "a",
      "/a//b/",
      "../x",
      "%2e%2e",
      "a\nb",
      "😀",
      "e\u0301",
      "\u00e9",
      " ",
      "k".repeat(1_024),
      "ж".repeat(512),
    ];
    for (const key of keys) expect(parseObjectKey(key)).toBe(key);
  });

  it("counts bytes, not characters", () => {
    for (const key of ["k".repeat(1_025), "ж".repeat(513), "😀".repeat(257)]) {
      expect(() => parseObjectKey(key)).toThrowError(coded("key_too_long"));
    }
  });

  it("refuses what no key can be", () => {
    for (const key of ["", "a\0b", "\ud800", "a\udc00"]) {
      expect(() => parseObjectKey(key), JSON.stringify(key)).toThrowError(coded("key_invalid"));
    }
  });
});

describe("parseNodeName()", () => {
  it("takes lower-case letters, digits and hyphens and nothing that could leave its folder", () => {
    for (const name of ["n", "node-1", "1", "x".repeat(63)]) expect(parseNodeName(name)).toBe(name);
    for (const name of ["", "Node", "-a", "a.b", "a/b", "..", "x".repeat(64), "a\n"]) {
      expect(() => parseNodeName(name), JSON.stringify(name)).toThrowError(coded("config_invalid"));
    }
  });
});

describe("parseBlobId()", () => {
  const txid = "01JD0000000000000000000001" as Txid;

  it("takes apart what blobIdOf() makes", () => {
    for (const part of ["body", "hot", "cold"] as const) {
      for (const index of [0, 5, 23, 999]) {
        const id = blobIdOf(txid, part, index);
        expect(parseBlobId(id)).toEqual({ id, txid, part, index });
      }
    }
  });

  it("answers null for anything else", () => {
    const others = [
      "",
      "x",
      `${txid}.body`,
      `${txid}.warm.0`,
      `${txid}.body.-1`,
      `${txid}.body.1000`,
      `${txid}.body.0.1`,
    ];
    others.push(
      `${txid.toLowerCase()}.body.0`,
      `${txid.slice(1)}.body.0`,
      `I${txid.slice(1)}.body.0`,
      `../${txid}.body.0`,
    );
    for (const text of others) expect(parseBlobId(text), text).toBeNull();
  });
});

describe("createTxidSource()", () => {
  it("rises within a millisecond, across milliseconds and when the wall clock steps back", () => {
    const clock = new ManualClock();
    const next = createTxidSource(clock, systemRandom);
    const made: string[] = [];
    for (let step = 0; step < 500; step += 1) {
      made.push(next());
      if (step % 10 === 0) clock.advance(1);
      if (step % 100 === 99) clock.wallOffsetMs -= 3_600_000;
    }
    expect(made).toEqual([...made].sort());
    expect(new Set(made).size).toBe(made.length);
    for (const txid of made) expect(parseBlobId(`${txid}.body.0`)).not.toBeNull();
  });

  it("gives different ids to two processes at the same moment", () => {
    const clock = new ManualClock();
    const ids = Array.from({ length: 50 }, () => createTxidSource(clock, systemRandom)());
    expect(new Set(ids).size).toBe(50);
  });
});
