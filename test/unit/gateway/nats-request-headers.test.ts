import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  addressOf,
  announcedSizeOf,
  attributesOf,
  countOf,
  fieldNamesOf,
  fieldsOf,
  isReplySafe,
  listOptionsOf,
  placementOf,
  preconditionsOf,
  rangeOf,
  requestIdOf,
  sha256Of,
} from "../../../src/gateway/nats/request-headers.ts";
import { encodeHeaderText, HEADER, type Operation } from "../../../src/nats/object-protocol.ts";

const parse = (headers: Record<string, string | string[]>, operation: Operation = "put") =>
  fieldsOf(
    operation,
    Object.entries(headers).map(([name, value]) => [name, Array.isArray(value) ? value : [value]]),
  );
const refusal = (code: string) => expect.objectContaining({ code }) as Error;

describe("fieldsOf()", () => {
  test("takes names in any case and passes over headers that are not ours", () => {
    const fields = parse({ "KINTSUGI-key": "a", traceparent: "00-1", "Nats-Msg-Id": "7" });
    expect([...fields]).toEqual([["kintsugi-key", "a"]]);
  });

  test("refuses a header of ours that the operation does not know", () => {
    expect(() => parse({ "Kintsugi-Stratgy": "ec" })).toThrow(refusal("header_invalid"));
    expect(() => parse({ [HEADER.range]: "0-1" }, "put")).toThrow(refusal("header_invalid"));
    expect(() => parse({ "Kintsugi-Meta-a": "1" }, "get")).toThrow(refusal("header_invalid"));
  });

  test("refuses a header that is given twice, in one spelling or two", () => {
    expect(() => parse({ [HEADER.key]: ["a", "b"] })).toThrow(refusal("header_invalid"));
    expect(() => parse({ [HEADER.key]: "a", "kintsugi-key": "a" })).toThrow(refusal("header_invalid"));
  });
});

describe("addressOf()", () => {
  test("gives back any key that was percent-encoded", () => {
    fc.assert(
      fc.property(fc.string({ unit: "grapheme", minLength: 1, maxLength: 60 }), (key) => {
        fc.pre(!key.includes("\0") && key.isWellFormed());
        expect(addressOf(parse({ [HEADER.key]: encodeHeaderText(key) }))).toEqual({ bucket: "default", key });
      }),
    );
  });

  test("refuses what is no key or no bucket", () => {
    expect(() => addressOf(parse({}))).toThrow(refusal("parameter_invalid"));
    expect(() => addressOf(parse({ [HEADER.key]: "" }))).toThrow(refusal("key_invalid"));
    expect(() => addressOf(parse({ [HEADER.key]: "%ff" }))).toThrow(refusal("header_invalid"));
    expect(() => addressOf(parse({ [HEADER.key]: "a%00" }))).toThrow(refusal("key_invalid"));
    expect(() => addressOf(parse({ [HEADER.key]: "a".repeat(1_025) }))).toThrow(refusal("key_too_long"));
    expect(() => addressOf(parse({ [HEADER.key]: "a", [HEADER.bucket]: "A" }))).toThrow(refusal("bucket_invalid"));
  });
});

test("preconditionsOf() takes tags with and without quotes, and lists of them", () => {
  const of = (value: string) => preconditionsOf(parse({ [HEADER.ifMatch]: value, [HEADER.key]: "k" })).ifMatch;
  expect(of("*")).toEqual(["*"]);
  expect(of('"a", b')).toEqual(["a", "b"]);
  for (const wrong of ["", "a,,b", '"a', "a b", "ä"]) expect(() => of(wrong)).toThrow(refusal("header_invalid"));
  expect(preconditionsOf(parse({})).ifMatch).toBeNull();
});

test("placementOf() refuses what it does not know", () => {
  expect(placementOf(parse({}))).toEqual({ strategy: null, consistency: null });
  expect(placementOf(parse({ [HEADER.strategy]: "auto", [HEADER.consistency]: "all" }))).toEqual({
    ...{ strategy: "auto", consistency: "all" },
  });
  expect(() => placementOf(parse({ [HEADER.strategy]: "raid" }))).toThrow(refusal("strategy_unknown"));
  expect(() => placementOf(parse({ [HEADER.consistency]: "two" }))).toThrow(refusal("parameter_invalid"));
});

describe("attributesOf()", () => {
  const metaOf = (headers: Record<string, string>) => attributesOf(parse(headers)).userMetadata;

  test("decodes metadata and keeps names that objects have themselves", () => {
    const headers = { "Kintsugi-Meta-Device": "%C3%BC%20%F0%9F%98%80", "kintsugi-meta-__proto__": "x" };
    expect(Object.entries(metaOf(headers))).toEqual([
      ["device", "ü 😀"],
      ["__proto__", "x"],
    ]);
  });

  test("refuses what the other doors could not give back", () => {
    expect(() => metaOf({ "kintsugi-meta-a": "x%0Ay" })).toThrow(refusal("header_invalid"));
    expect(() => metaOf({ "kintsugi-meta-a": "%zz" })).toThrow(refusal("header_invalid"));
    expect(() => metaOf({ "kintsugi-meta-": "x" })).toThrow(refusal("header_invalid"));
    expect(() => metaOf({ "kintsugi-meta-ä": "x" })).toThrow(refusal("header_invalid"));
    for (const contentType of ["", "ü", "a\u0007", "a".repeat(1_025)]) {
      expect(() => metaOf({ [HEADER.contentType]: contentType })).toThrow(refusal("header_invalid"));
    }
  });

  test("counts bytes of names and values against the limit", () => {
    expect(Object.keys(metaOf({ "kintsugi-meta-a": "x".repeat(8_191) }))).toEqual(["a"]);
    expect(() => metaOf({ "kintsugi-meta-a": "x".repeat(8_192) })).toThrow(refusal("metadata_too_large"));
    expect(() => metaOf({ "kintsugi-meta-a": "%C3%BC".repeat(4_096) })).toThrow(refusal("metadata_too_large"));
  });
});

test("rangeOf() takes the three forms and refuses every other", () => {
  const of = (value: string) => rangeOf(parse({ [HEADER.range]: value }, "get"));
  expect([of("0-9"), of("5-"), of("-7"), rangeOf(parse({}))]).toEqual([
    ...[{ first: 0, last: 9 }, { first: 5, last: null }, { suffixBytes: 7 }, null],
  ]);
  for (const wrong of ["", "-", "9-0", "a-b", "0-1,4-5", "bytes=0-1", "1 - 2", "1-1e9"]) {
    expect(() => of(wrong)).toThrow(refusal("header_invalid"));
  }
});

test("the numbers and names of a request are checked", () => {
  const limit = (value: string) => countOf(parse({ [HEADER.limit]: value }, "list"), HEADER.limit, 1_000);
  expect([limit("1"), limit("1000"), countOf(parse({}), HEADER.limit, 1)]).toEqual([1, 1_000, null]);
  for (const wrong of ["0", "1001", "-1", "1.5", ""]) expect(() => limit(wrong)).toThrow(refusal("parameter_invalid"));
  expect(announcedSizeOf(parse({ [HEADER.size]: "0" }))).toBe(0);
  expect(() => announcedSizeOf(parse({ [HEADER.size]: "-1" }))).toThrow(refusal("parameter_invalid"));
  expect(sha256Of(parse({ [HEADER.sha256]: "AB".repeat(32) }))).toBe("ab".repeat(32));
  expect(() => sha256Of(parse({ [HEADER.sha256]: "ab" }))).toThrow(refusal("header_invalid"));
  const names = (value: string) => fieldNamesOf(parse({ [HEADER.fields]: value }, "fields"));
  expect(names("a,b%2Cc,a,%C3%BC")).toEqual(["a", "b,c", "ü"]);
  expect(() => names("%")).toThrow(refusal("header_invalid"));
  expect(() => names(Array.from({ length: 65 }, (_, n) => n).join())).toThrow(refusal("parameter_invalid"));
  expect(() => fieldNamesOf(parse({}, "fields"))).toThrow(refusal("parameter_invalid"));
  expect(listOptionsOf(parse({ [HEADER.prefix]: "%2F", [HEADER.limit]: "7" }, "list"))).toEqual({
    ...{ prefix: "/", delimiter: "", after: "", limit: 7 },
  });
  expect(() => listOptionsOf(parse({ [HEADER.after]: "a".repeat(1_025) }, "list"))).toThrow(
    refusal("parameter_invalid"),
  );
});

test("isReplySafe() lets a gateway publish to inboxes only", () => {
  for (const safe of ["_INBOX.abc.1", "_INBOX_alice.x", "_R_.AbC.12", "_GR_.x.1"]) {
    expect([safe, isReplySafe(safe)]).toEqual([safe, true]);
  }
  const unsafe = [
    "",
    "orders.new",
    "$JS.API.STREAM.DELETE.X",
    "$SRV.PING",
    "_kintsugi.default.meta.0.record.a.b",
    "kintsugi.events.a.put",
  ];
  for (const subject of [...unsafe, "a.*", "a.>", "a b", ".a", "a..b", "a.", "a\r\nPUB x 0", "x".repeat(513)]) {
    expect([subject, isReplySafe(subject)]).toEqual([subject, false]);
  }
});

test("requestIdOf() keeps a plain id and makes one otherwise", () => {
  const of = (id: string) => requestIdOf({ get: () => id }, () => "made");
  expect([of("abc-1"), of(""), of("a b"), of("x".repeat(65)), requestIdOf(undefined, () => "made")]).toEqual([
    ...["abc-1", "made", "made", "made", "made"],
  ]);
});
