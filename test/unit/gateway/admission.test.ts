import type { IncomingMessage } from "node:http";
import { describe, expect, test } from "vitest";
import { createClientAddressOf } from "../../../src/gateway/client-address.ts";
import { createRateLimit } from "../../../src/gateway/rate-limit.ts";
import { ManualClock } from "../../support/manual-clock.ts";

describe("createRateLimit()", () => {
  test("lets a second's worth through at once, then as many as come back", () => {
    const clock = new ManualClock();
    const limit = createRateLimit(clock, 3);
    expect([1, 2, 3, 4].map(() => limit.take("10.0.0.1"))).toEqual([null, null, null, 1]);
    clock.advance(334);
    expect([limit.take("10.0.0.1"), limit.take("10.0.0.1")]).toEqual([null, 1]);
    clock.advance(60_000);
    expect([1, 2, 3, 4].map(() => limit.take("10.0.0.1"))).toEqual([null, null, null, 1]);
  });

  test("counts each client for itself", () => {
    const limit = createRateLimit(new ManualClock(), 1);
    expect([limit.take("10.0.0.1"), limit.take("10.0.0.2"), limit.take("10.0.0.1")]).toEqual([null, null, 1]);
  });

  test("counts one IPv6 network as one client", () => {
    const limit = createRateLimit(new ManualClock(), 1);
    expect(limit.take("2001:db8::1")).toBeNull();
    expect(limit.take("2001:db8:0:0:ffff::2")).toBe(1);
    expect(limit.take("2001:db8:0:1::1")).toBeNull();
  });

  test("remembers a bounded number of clients", () => {
    const limit = createRateLimit(new ManualClock(), 1);
    limit.take("first");
    for (let index = 0; index < 10_000; index += 1) limit.take(`client ${index}`);
    expect(limit.take("client 9999")).toBe(1);
    expect(limit.take("first")).toBeNull();
  });
});

describe("createClientAddressOf()", () => {
  const from = (remoteAddress: string, forwarded?: string) =>
    ({ socket: { remoteAddress }, headers: { "x-forwarded-for": forwarded } }) as unknown as IncomingMessage;

  test("believes nobody without configured proxies", () => {
    expect(createClientAddressOf([])(from("::ffff:10.0.0.1", "1.2.3.4"))).toBe("10.0.0.1");
  });

  test("believes only what trusted proxies say, as far back as they are trusted", () => {
    const addressOf = createClientAddressOf(["10.0.0.0/8", "::1", "fd00::/8"]);
    expect(addressOf(from("10.0.0.1", "1.2.3.4"))).toBe("1.2.3.4");
    expect(addressOf(from("10.0.0.1", "6.6.6.6, 1.2.3.4, 10.2.2.2"))).toBe("1.2.3.4");
    expect(addressOf(from("::1", "fd00::5"))).toBe("fd00::5");
    expect(addressOf(from("1.2.3.4", "5.6.7.8"))).toBe("1.2.3.4");
    expect(addressOf(from("10.0.0.1", "nonsense"))).toBe("10.0.0.1");
    expect(addressOf(from("10.0.0.1"))).toBe("10.0.0.1");
  });
});
