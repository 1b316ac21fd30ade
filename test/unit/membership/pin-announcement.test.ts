import { describe, expect, test } from "vitest";
import type { PinAnnouncement } from "../../../src/membership/pin-announcement.ts";
import { AnnouncedPins, pinAnnouncementCodec, splitPins } from "../../../src/membership/pin-announcement.ts";

const part = (round: number, index: number, parts: number, names: readonly string[]): PinAnnouncement => ({
  ...{ board: "b", round, part: index, parts },
  names: [...names],
});

describe("splitPins()", () => {
  test("gives one message without names where nothing is pinned", () => {
    expect(splitPins("b", 7, [])).toEqual([part(7, 0, 1, [])]);
  });

  test("loses no name and keeps every message far below what NATS takes", () => {
    const names = Array.from({ length: 12_345 }, (_, n) => `01ARZ3NDEKTSV4RRFFQ69G5${String(n).padStart(5, "0")}.cold`);
    const messages = splitPins("b", 1, names);
    expect(messages.flatMap((message) => message.names)).toEqual(names);
    expect(messages.map((message) => [message.part, message.parts])).toEqual(
      messages.map((_, n) => [n, messages.length]),
    );
    for (const message of messages) expect(pinAnnouncementCodec.encode(message).length).toBeLessThan(200_000);
  });
});

describe("AnnouncedPins", () => {
  test("has() knows what was named lately", () => {
    const pins = new AnnouncedPins();
    pins.hear(part(1, 0, 1, ["x"]), 100);
    expect([pins.has("x", 100), pins.has("x", 101), pins.has("y", 0)]).toEqual([true, false, false]);
    expect([pins.isSilentSince(100), pins.isSilentSince(101)]).toEqual([false, true]);
  });

  test("has() forgets a name that a complete announcement leaves out", () => {
    const pins = new AnnouncedPins();
    pins.hear(part(1, 0, 1, ["x", "y"]), 100);
    pins.hear(part(2, 0, 1, ["y"]), 200);
    expect([pins.has("x", 0), pins.has("y", 0)]).toEqual([false, true]);
  });

  test("has() keeps a name while a part of the announcement is missing", () => {
    const pins = new AnnouncedPins();
    pins.hear(part(1, 0, 1, ["x"]), 100);
    pins.hear(part(2, 1, 2, ["y"]), 200);
    expect([pins.has("x", 0), pins.has("y", 0)]).toEqual([true, true]);
    pins.hear(part(2, 1, 2, ["y"]), 201);
    expect(pins.has("x", 0)).toBe(true);
    pins.hear(part(2, 0, 2, []), 202);
    expect([pins.has("x", 0), pins.has("y", 0)]).toEqual([false, true]);
  });
});
