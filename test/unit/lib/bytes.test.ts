import { describe, expect, it } from "vitest";
import { GIB, KIB, MIB, asBuffer, ceilTo, floorTo, formatBytes } from "../../../src/lib/bytes.ts";

describe("ceilTo() and floorTo()", () => {
  it("round to multiples and leave multiples alone", () => {
    expect([0, 1, 63, 64, 65].map((value) => ceilTo(value, 64))).toEqual([0, 64, 64, 64, 128]);
    expect([0, 1, 63, 64, 65].map((value) => floorTo(value, 64))).toEqual([0, 0, 0, 64, 64]);
  });

  it("stay exact for sizes beyond 32 bits", () => {
    expect(ceilTo(5 * 1_024 * GIB - 1, 512)).toBe(5 * 1_024 * GIB);
    expect(floorTo(5 * 1_024 * GIB + 1, 512)).toBe(5 * 1_024 * GIB);
  });
});

describe("formatBytes()", () => {
  it("takes the largest unit below the size and one digit", () => {
    const cases: [number, string][] = [
      [0, "0 B"],
      [1_023, "1023 B"],
      [1_024, "1.0 KiB"],
      [1_536, "1.5 KiB"],
      [3 * MIB + 100 * KIB, "3.1 MiB"],
      [5 * 1_024 * GIB, "5.0 TiB"],
      [2 ** 63, "8192.0 PiB"],
    ];
    for (const [bytes, text] of cases) expect(formatBytes(bytes)).toBe(text);
  });
});

describe("asBuffer()", () => {
  it("shares the memory of any view, at its offset", () => {
    const whole = new Uint8Array([1, 2, 3, 4, 5]);
    const buffer = asBuffer(whole.subarray(1, 4));
    expect([...buffer]).toEqual([2, 3, 4]);
    buffer[0] = 9;
    expect(whole[1]).toBe(9);
  });

  it("shares shared memory too and gives a Buffer back as it is", () => {
    const shared = new Uint8Array(new SharedArrayBuffer(4));
    asBuffer(shared)[2] = 7;
    expect(shared[2]).toBe(7);
    const buffer = Buffer.from("x");
    expect(asBuffer(buffer)).toBe(buffer);
  });
});
