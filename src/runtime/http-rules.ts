/**
 * What a request must be before anyone looks at it. The parsers of the three runtimes differ: Node takes absolute-form
 * targets, two Host headers and `gzip, chunked`; Bun takes the same Content-Length twice; Bun and Deno take an empty
 * Transfer-Encoding, which smuggles the body in as the next request. Whatever two parties on the path could read
 * differently is refused here, from the raw headers, and its connection is closed.
 */
import type { IncomingMessage } from "node:http";

/** A name (its last label no number, or URL parsers take it for an address) or a dotted address without leading zeros. */
const PLAIN_HOST =
  /^(?:(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?\.)*[A-Za-z_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?|(?:(?:0|[1-9]\d?|1\d\d|2[0-4]\d|25[0-5])(?:\.(?!$|:)|(?=$|:))){4})(?::(?:\d{1,4}|[1-5]\d{4}))?$/;
const DIGITS = /^\d{1,15}$/;
/** Anything but tab, printable ASCII and bytes from 0x80. */
const FORBIDDEN_IN_VALUE = /[^\t\x20-\x7e\x80-\xff]/;
const FORBIDDEN_IN_TARGET = /[^\x21-\x7e]|#/;

/** What is wrong with a request's framing or target, for its sender; null when nothing is. */
export function findRequestFault(incoming: Pick<IncomingMessage, "url" | "httpVersion" | "rawHeaders">): string | null {
  const version = incoming.httpVersion;
  if (version !== "1.1" && version !== "1.0") return "The protocol version is neither HTTP/1.1 nor HTTP/1.0";
  const target = incoming.url ?? "";
  if (!target.startsWith("/")) return "The request target is not a path that begins with a slash";
  if (FORBIDDEN_IN_TARGET.test(target)) return "The request target has characters that have to be percent-encoded";
  return findHeaderFault(incoming.rawHeaders, version);
}

function findHeaderFault(rawHeaders: readonly string[], version: string): string | null {
  let host: string | null = null;
  let lengths = 0;
  let encodings = 0;
  for (let index = 0; index < rawHeaders.length; index += 2) {
    const name = rawHeaders[index] as string;
    const value = rawHeaders[index + 1] as string;
    if (FORBIDDEN_IN_VALUE.test(value)) return "A header has a control character";
    // The length is compared first: it tells almost all headers apart without a lower-case copy.
    if (name.length === 4 && name.toLowerCase() === "host") {
      if (host !== null) return "There is more than one Host header";
      host = value;
    } else if (name.length === 14 && name.toLowerCase() === "content-length") {
      lengths += 1;
      if (!DIGITS.test(value)) return "The Content-Length is not a plain number";
    } else if (name.length === 17 && name.toLowerCase() === "transfer-encoding") {
      encodings += 1;
      if (value.toLowerCase() !== "chunked") return "The Transfer-Encoding is not exactly chunked";
    }
  }
  if (lengths > 1) return "There is more than one Content-Length header";
  if (encodings > 1) return "There is more than one Transfer-Encoding header";
  if (encodings > 0 && lengths > 0) return "Content-Length and Transfer-Encoding are both present";
  if (encodings > 0 && version === "1.0") return "HTTP/1.0 knows no Transfer-Encoding";
  if (host === null) return version === "1.1" ? "There is no Host header" : null;
  return isHost(host) ? null : "The Host header is not a host name or address with an optional port";
}

function isHost(host: string): boolean {
  if (PLAIN_HOST.test(host)) return true;
  // The rest is mostly IPv6. What a URL parser would write differently could be routed differently.
  if (!URL.canParse(`http://${host}`)) return false;
  const url = new URL(`http://${host}`);
  return url.pathname === "/" && url.hostname === host.replace(/:\d{1,5}$/, "").toLowerCase();
}
