import type { IncomingMessage } from "node:http";
import { describe, expect, test } from "vitest";
import { isStoreError } from "../../../src/domain/errors.ts";
import {
  attributesOf,
  digestsOf,
  headerOfUtf8,
  placementOf,
  preconditionsOf,
  rangeOf,
} from "../../../src/gateway/rest/request-headers.ts";

/** A request as node:http presents it: lower-case names, raw pairs beside. */
function incoming(...pairs: (readonly [name: string, value: string])[]): IncomingMessage {
  const headers = Object.fromEntries(pairs.map(([name, value]) => [name.toLowerCase(), value]));
  return { headers, rawHeaders: pairs.flat() } as unknown as IncomingMessage;
}

const codeOf = (action: () => unknown): string => {
  try {
    action();
  } catch (cause) {
    if (isStoreError(cause)) return cause.code;
    throw cause;
  }
  return "none";
};

describe("preconditionsOf()", () => {
  test("compares strongly for If-Match: weak tags can never match", () => {
    expect(preconditionsOf(incoming(["If-Match", '"a", W/"b" ,"c"'])).ifMatch).toEqual(["a", "c"]);
    expect(preconditionsOf(incoming(["If-Match", 'W/"b"'])).ifMatch).toEqual([]);
  });

  test("compares weakly for If-None-Match", () => {
    expect(preconditionsOf(incoming(["If-None-Match", '"a", W/"b"'])).ifNoneMatch).toEqual(["a", "b"]);
  });

  test("tells an asterisk from a tag that is one", () => {
    expect(preconditionsOf(incoming(["If-None-Match", "*"])).ifNoneMatch).toEqual(["*"]);
    expect(preconditionsOf(incoming(["If-Match", '"*"'])).ifMatch).toEqual([]);
  });

  test.each(["a", '"a', 'w/"a"', '"a" "b"', '"a\tb"'])("refuses the tag list %s", (list) => {
    expect(codeOf(() => preconditionsOf(incoming(["If-Match", list])))).toBe("header_invalid");
  });

  test("reads HTTP dates and passes over what is none", () => {
    const date = "Tue, 15 Nov 1994 12:45:26 GMT";
    expect(preconditionsOf(incoming(["If-Modified-Since", date])).ifModifiedSinceMs).toBe(784_903_526_000);
    expect(preconditionsOf(incoming(["If-Unmodified-Since", "1"])).ifUnmodifiedSinceMs).toBeNull();
    expect(preconditionsOf(incoming(["If-Unmodified-Since", "soon"])).ifUnmodifiedSinceMs).toBeNull();
  });
});

describe("rangeOf()", () => {
  test.each([
    ["bytes=0-0", { first: 0, last: 0 }],
    ["bytes=5-", { first: 5, last: null }],
    ["bytes=-7", { suffixBytes: 7 }],
    ["BYTES=1-2", { first: 1, last: 2 }],
  ])("reads %s", (header, range) => {
    expect(rangeOf(incoming(["Range", header]))).toEqual({ range, ifRange: null });
  });

  test.each(["bytes=", "bytes=-", "bytes=2-1", "bytes=0-1,3-4", "bytes=a-b", "lines=0-1", "bytes=1-2-3", "0-1"])(
    "passes over %s",
    (header) => {
      expect(rangeOf(incoming(["Range", header])).range).toBeNull();
    },
  );

  test("lets only a strong tag vouch for a range", () => {
    expect(rangeOf(incoming(["Range", "bytes=0-1"], ["If-Range", '"a"']))).toEqual({
      range: { first: 0, last: 1 },
      ifRange: "a",
    });
    for (const value of ['W/"a"', "Tue, 15 Nov 1994 12:45:26 GMT", "a"]) {
      expect(rangeOf(incoming(["Range", "bytes=0-1"], ["If-Range", value])).range).toBeNull();
    }
  });
});

describe("attributesOf()", () => {
  test("keeps the content type verbatim and has a default", () => {
    expect(attributesOf(incoming(["Content-Type", "Text/X; a=B"])).contentType).toBe("Text/X; a=B");
    expect(attributesOf(incoming()).contentType).toBe("application/octet-stream");
    expect(codeOf(() => attributesOf(incoming(["Content-Type", "x".repeat(1_025)])))).toBe("header_invalid");
  });

  test("takes metadata as the UTF-8 that it is on the wire, and gives the same bytes back", () => {
    const wire = Buffer.from("wörld ☃").toString("latin1");
    const { userMetadata } = attributesOf(incoming(["X-Kintsugi-Meta-Name", wire], ["x-kintsugi-meta-b", "100%"]));
    expect({ ...userMetadata }).toEqual({ name: "wörld ☃", b: "100%" });
    expect(headerOfUtf8("wörld ☃")).toBe(wire);
  });

  test("treats names of the language as data", () => {
    const { userMetadata } = attributesOf(
      incoming(["x-kintsugi-meta-__proto__", "a"], ["x-kintsugi-meta-constructor", "b"]),
    );
    expect(Object.entries(userMetadata)).toEqual([
      ["__proto__", "a"],
      ["constructor", "b"],
    ]);
  });

  test.each([
    [
      "a name twice",
      [
        ["x-kintsugi-meta-a", "1"],
        ["X-Kintsugi-Meta-A", "2"],
      ],
      "header_invalid",
    ],
    ["no name", [["x-kintsugi-meta-", "1"]], "header_invalid"],
    ["a value that is not UTF-8", [["x-kintsugi-meta-a", "\u00e9"]], "header_invalid"],
    ["more than 8 KiB", [["x-kintsugi-meta-a", "v".repeat(8_192)]], "metadata_too_large"],
    ["a content coding", [["Content-Encoding", "gzip"]], "media_type_unsupported"],
    ["a partial body", [["Content-Range", "bytes 0-1/2"]], "header_invalid"],
  ] as const)("refuses %s", (_, pairs, code) => {
    expect(codeOf(() => attributesOf(incoming(...pairs)))).toBe(code);
  });

  test("takes exactly 8 KiB of metadata", () => {
    expect(codeOf(() => attributesOf(incoming(["x-kintsugi-meta-a", "v".repeat(8_191)])))).toBe("none");
  });
});

describe("placementOf()", () => {
  test("prefers the parameter to the header and refuses what it does not know", () => {
    const request = incoming(["x-kintsugi-strategy", "ec"], ["x-kintsugi-consistency", "all"]);
    expect(placementOf(request, {})).toEqual({ strategy: "ec", consistency: "all" });
    expect(placementOf(request, { strategy: "auto", consistency: "one" })).toEqual({
      strategy: "auto",
      consistency: "one",
    });
    expect(codeOf(() => placementOf(request, { strategy: "best" }))).toBe("strategy_unknown");
    expect(codeOf(() => placementOf(request, { consistency: "two" }))).toBe("parameter_invalid");
  });
});

describe("digestsOf()", () => {
  const hex = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
  const base64 = "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=";

  test("reads SHA-256 from each header that may carry it", () => {
    for (const pair of [
      ["x-kintsugi-sha256", hex.toUpperCase()],
      ["Content-Digest", `sha-512=:AAAA:, sha-256=:${base64}:`],
      ["Repr-Digest", `sha-256=:${base64}:`],
    ] as const) {
      expect(digestsOf(incoming(pair))).toEqual({ expectedSha256: hex, expectedMd5: null });
    }
  });

  test("reads Content-MD5", () => {
    const pair = ["Content-MD5", "XUFAKrxLKna5cZ2REBfFkg=="] as const;
    expect(digestsOf(incoming(pair)).expectedMd5).toBe("5d41402abc4b2a76b9719d911017c592");
  });

  test.each([
    ["x-kintsugi-sha256", "abc"],
    ["Repr-Digest", "sha-256=LPJN"],
    ["Repr-Digest", "sha-256=:LPJN:"],
    ["Content-MD5", "hello"],
    ["Content-MD5", "XUFAKrxLKna5cZ2REBfFkg==!"],
  ] as const)("refuses %s: %s", (name, value) => {
    expect(codeOf(() => digestsOf(incoming([name, value])))).toBe("header_invalid");
  });

  test("refuses headers that contradict each other", () => {
    const request = incoming(["x-kintsugi-sha256", "0".repeat(64)], ["Repr-Digest", `sha-256=:${base64}:`]);
    expect(codeOf(() => digestsOf(request))).toBe("header_invalid");
  });
});
