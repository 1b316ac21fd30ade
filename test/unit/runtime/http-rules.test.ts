import { describe, expect, test } from "vitest";
import { findRequestFault } from "../../../src/runtime/http-rules.ts";

const HOST = ["Host", "store.example:8000"];

function faultOf(rawHeaders: readonly string[], url = "/objects/a", httpVersion = "1.1"): string | null {
  return findRequestFault({ url, httpVersion, rawHeaders: [...rawHeaders] });
}

describe("findRequestFault()", () => {
  test.each([
    ["a plain request", HOST],
    ["one length", [...HOST, "Content-Length", "0"]],
    ["one chunked encoding, in any case", [...HOST, "transfer-encoding", "Chunked"]],
    ["bytes beyond ASCII in a value", [...HOST, "X-Any", "\u00c3\u00a9\tx"]],
  ])("finds nothing wrong with %s", (_, headers) => {
    expect(faultOf(headers)).toBeNull();
  });

  test.each([
    ["no Host", [], /no Host/],
    ["two Hosts", [...HOST, "host", "other"], /more than one Host/],
    ["two equal Hosts", [...HOST, ...HOST], /more than one Host/],
    ["an encoding that only ends in chunked", [...HOST, "Transfer-Encoding", "xchunked"], /not exactly chunked/],
    ["a list of encodings", [...HOST, "Transfer-Encoding", "gzip, chunked"], /not exactly chunked/],
    ["an empty encoding", [...HOST, "Transfer-Encoding", ""], /not exactly chunked/],
    ["chunked twice", [...HOST, "Transfer-Encoding", "chunked", "Transfer-Encoding", "chunked"], /more than one Tr/],
    ["length and encoding", [...HOST, "Content-Length", "5", "Transfer-Encoding", "chunked"], /both present/],
    ["two equal lengths", [...HOST, "Content-Length", "5", "Content-Length", "5"], /more than one Content-Length/],
    ["a list of lengths", [...HOST, "Content-Length", "5, 5"], /plain number/],
    ["a signed length", [...HOST, "Content-Length", "+5"], /plain number/],
    ["a hexadecimal length", [...HOST, "Content-Length", "0x5"], /plain number/],
    ["an empty length", [...HOST, "Content-Length", ""], /plain number/],
    ["a length beyond exact integers", [...HOST, "Content-Length", "9999999999999999"], /plain number/],
    ["a NUL in a value", [...HOST, "X-Any", "a\0b"], /control character/],
    ["a line break in a value", [...HOST, "X-Any", "a\nb"], /control character/],
    ["DEL in a value", [...HOST, "X-Any", "a\x7fb"], /control character/],
  ])("refuses %s", (_, headers, fault) => {
    expect(faultOf(headers)).toMatch(fault);
  });

  test.each(["/objects/a/../b", "/objects/%2e%2e/x?y=%00", "//a//b/", "/a\\b", '/a"<>^`{|}', "/a+b"])(
    "leaves the target %s alone",
    (target) => {
      expect(faultOf(HOST, target)).toBeNull();
    },
  );

  test.each(["http://evil/objects/a", "*", "objects/a", "", "/a b", "/a#b", "/\u00e9", "/a\tb"])(
    "refuses the target %j",
    (target) => {
      expect(faultOf(HOST, target)).toMatch(/request target/);
    },
  );

  test.each([
    "localhost",
    "a-b.c_d.example",
    "127.0.0.1:8000",
    "[::1]",
    "[2001:db8::1]:80",
    "x:65535",
    "Store.Example",
  ])("takes the host %s", (host) => {
    expect(faultOf(["Host", host])).toBeNull();
  });

  test.each([
    ...["", "a b", "a/b", "a?b", "user@host", "a:b", "a:99999", "127.1", "0x7f.0.0.1", "127.0.0.01", "1.2.3.4.5"],
    ...["[::1", "[0:0:0:0:0:0:0:1]", "<script>", "::1"],
  ])("refuses the host %j", (host) => {
    expect(faultOf(["Host", host])).toMatch(/Host header is not/);
  });

  test("knows that HTTP/1.0 may lack a Host and has no encodings", () => {
    expect(faultOf([], "/", "1.0")).toBeNull();
    expect(faultOf(["Transfer-Encoding", "chunked"], "/", "1.0")).toMatch(/HTTP\/1.0/);
  });

  test("refuses other versions", () => {
    expect(faultOf(HOST, "/", "2.0")).toMatch(/version/);
    expect(faultOf(HOST, "/", "0.9")).toMatch(/version/);
  });
});
