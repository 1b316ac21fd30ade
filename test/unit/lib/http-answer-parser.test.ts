import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { AnswerFault, HttpAnswerParser } from "../../../src/lib/http-answer-parser.ts";

type Told = { status: number; keepAlive: boolean; body: string };

function parse(pieces: readonly (string | Uint8Array)[]): { answers: Told[]; interim: number[]; idle: boolean } {
  const answers: Told[] = [];
  const interim: number[] = [];
  let current: Told = { status: 0, keepAlive: false, body: "" };
  const parser = new HttpAnswerParser({
    onInterim: (status) => interim.push(status),
    onHead: (status, keepAlive) => (current = { status, keepAlive, body: "" }),
    onBody: (piece) => (current.body += piece.toString("latin1")),
    onEnd: () => answers.push(current),
  });
  for (const piece of pieces)
    parser.feed(typeof piece === "string" ? Buffer.from(piece, "latin1") : Buffer.from(piece));
  return { answers, interim, idle: parser.idle };
}

describe("HttpAnswerParser", () => {
  const stream = [
    "HTTP/1.1 100 Continue\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n",
    "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\ncontent-length: 0\r\n\r\n",
    "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n\r",
  ].join("");
  const answers = [
    { status: 200, keepAlive: true, body: "hello" },
    { status: 200, keepAlive: true, body: "abc0123456789" },
    { status: 503, keepAlive: false, body: "" },
    { status: 200, keepAlive: false, body: "\r" },
  ];

  test("feed() understands answers however their bytes are cut", () => {
    const bytes = Buffer.from(stream, "latin1");
    fc.assert(
      fc.property(fc.array(fc.nat(bytes.length), { maxLength: 30 }), (cuts) => {
        const at = [0, ...cuts.sort((a, b) => a - b), bytes.length];
        const pieces = at.slice(1).map((end, index) => bytes.subarray(at[index], end));
        expect(parse(pieces)).toEqual({ answers, interim: [100], idle: true });
      }),
    );
    expect(parse([...bytes].map((byte) => Uint8Array.of(byte)))).toEqual({ answers, interim: [100], idle: true });
  });

  test.each([
    ["no status line", "HELLO\r\n\r\n"],
    ["another protocol", "HTTP/2 200 OK\r\nContent-Length: 0\r\n\r\n"],
    ["no length", "HTTP/1.1 200 OK\r\n\r\n"],
    ["a length that is no number", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"],
    ["a chunk size that is no number", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"],
    ["a chunk size without an end", `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n${"1".repeat(40)}`],
    ["a chunk that is longer than it says", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n"],
    ["trailers", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\n\r\n"],
    ["an endless head", `HTTP/1.1 200 OK\r\nA: ${"b".repeat(20_000)}`],
  ])("feed() refuses %s", (_name, text) => {
    expect(() => parse([text])).toThrowError(AnswerFault);
  });

  test("feed() survives any bytes", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(60), (bytes, at) => {
        const broken = Buffer.from(stream, "latin1");
        broken.set(bytes.subarray(0, broken.length - at), at);
        try {
          parse([broken]);
        } catch (cause) {
          expect(cause).toBeInstanceOf(AnswerFault);
        }
      }),
    );
  });
});
