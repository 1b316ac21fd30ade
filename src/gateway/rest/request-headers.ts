/** Header fields of object requests, parsed into what the object paths want. */
import type { IncomingMessage } from "node:http";
import { StoreError } from "../../domain/errors.ts";
import { STRATEGIES, type StrategyChoice } from "../../domain/manifest.ts";
import { CONSISTENCIES, type Consistency } from "../../domain/receipt.ts";
import type { UserAttributes } from "../../domain/record.ts";
import { LIMITS } from "../../limits.ts";
import { NO_PRECONDITIONS, type Preconditions, type RangeRequest } from "../../object/requests.ts";
import type { Parameters } from "./target.ts";

export const META_PREFIX = "x-kintsugi-meta-";

/** @throws {StoreError} `header_invalid` */
export function preconditionsOf(incoming: IncomingMessage): Preconditions {
  const { headers } = incoming;
  const ifMatch = headers["if-match"];
  const ifNoneMatch = headers["if-none-match"];
  const ifModifiedSince = headers["if-modified-since"];
  const ifUnmodifiedSince = headers["if-unmodified-since"];
  if (
    ifMatch === undefined &&
    ifNoneMatch === undefined &&
    ifModifiedSince === undefined &&
    ifUnmodifiedSince === undefined
  ) {
    return NO_PRECONDITIONS;
  }
  return {
    ifMatch: ifMatch === undefined ? null : parseEntityTags(ifMatch, "strong"),
    ifNoneMatch: ifNoneMatch === undefined ? null : parseEntityTags(ifNoneMatch, "weak"),
    ifModifiedSinceMs: parseHttpDate(ifModifiedSince),
    ifUnmodifiedSinceMs: parseHttpDate(ifUnmodifiedSince),
  };
}

const ENTITY_TAG = /^(W\/)?"([\x21\x23-\x7e\x80-\xff]*)"$/;

/**
 * Strong comparison (If-Match) can never match a weak tag, so those are left out; weak comparison ignores the mark.
 * @throws {StoreError} `header_invalid`
 */
function parseEntityTags(header: string, comparison: "strong" | "weak"): string[] {
  if (header.trim() === "*") return ["*"];
  const tags: string[] = [];
  for (const part of header.split(",")) {
    const text = part.trim();
    if (text === "") continue;
    const match = ENTITY_TAG.exec(text);
    if (match === null) {
      throw new StoreError("header_invalid", 'An entity tag is not of the form "tag" or W/"tag"');
    }
    // A quoted asterisk is a tag like any other, which no object here has.
    if ((match[1] === undefined || comparison === "weak") && match[2] !== "*") tags.push(match[2] as string);
  }
  return tags;
}

/** A date that is none counts as absent, as RFC 9110 wants. */
function parseHttpDate(header: string | undefined): number | null {
  if (header === undefined) return null;
  const ms = /GMT$|^[A-Z][a-z]{2} [A-Z]/.test(header) ? Date.parse(header) : Number.NaN;
  return Number.isNaN(ms) ? null : ms;
}

export type RangeHeaders = { readonly range: RangeRequest | null; readonly ifRange: string | null };

const NO_RANGE: RangeHeaders = { range: null, ifRange: null };

/** One range of bytes. Malformed and multiple ranges are passed over, which RFC 9110 allows: the whole is sent. */
export function rangeOf(incoming: IncomingMessage): RangeHeaders {
  const header = incoming.headers.range;
  if (header === undefined) return NO_RANGE;
  const match = /^bytes=[ \t]*(\d{0,15})-(\d{0,15})[ \t]*$/i.exec(header);
  if (match === null) return NO_RANGE;
  const [, first = "", last = ""] = match;
  if (first === "" && last === "") return NO_RANGE;
  const range: RangeRequest =
    first === "" ? { suffixBytes: Number(last) } : { first: Number(first), last: last === "" ? null : Number(last) };
  if (!("suffixBytes" in range) && range.last !== null && range.last < range.first) return NO_RANGE;
  const ifRange = incoming.headers["if-range"];
  if (ifRange === undefined) return { range, ifRange: null };
  const tag = ENTITY_TAG.exec((Array.isArray(ifRange) ? ifRange.join() : ifRange).trim());
  // Dates have whole seconds and weak tags promise nothing of bytes: neither vouches for a range.
  return tag === null || tag[1] !== undefined ? NO_RANGE : { range, ifRange: tag[2] as string };
}

/** @throws {StoreError} `strategy_unknown`, `parameter_invalid` */
export function placementOf(
  incoming: IncomingMessage,
  parameters: Parameters<"strategy" | "consistency">,
): { strategy: StrategyChoice | null; consistency: Consistency | null } {
  const { headers } = incoming;
  const strategy = parameters.strategy ?? headers["x-kintsugi-strategy"] ?? null;
  const consistency = parameters.consistency ?? headers["x-kintsugi-consistency"] ?? null;
  if (strategy !== null && strategy !== "auto" && !STRATEGIES.includes(strategy as never)) {
    throw new StoreError("strategy_unknown", `The strategy is none of auto, ${STRATEGIES.join(", ")}`);
  }
  if (consistency !== null && !CONSISTENCIES.includes(consistency as never)) {
    throw new StoreError("parameter_invalid", `The consistency is none of ${CONSISTENCIES.join(", ")}`);
  }
  return { strategy: strategy as StrategyChoice | null, consistency: consistency as Consistency | null };
}

/**
 * Content type and user metadata. Metadata values are UTF-8 on the wire, as they are; names are lower case.
 * @throws {StoreError} `header_invalid`, `metadata_too_large`, `media_type_unsupported`
 */
export function attributesOf(incoming: IncomingMessage): UserAttributes {
  const { headers, rawHeaders } = incoming;
  const contentType = headers["content-type"] ?? "application/octet-stream";
  if (contentType.length > LIMITS.contentTypeBytesMax) {
    throw new StoreError("header_invalid", `The Content-Type has more than ${LIMITS.contentTypeBytesMax} bytes`);
  }
  if (headers["content-range"] !== undefined) {
    throw new StoreError("header_invalid", "An object is replaced as a whole: leave Content-Range off");
  }
  const encoding = headers["content-encoding"];
  if (encoding !== undefined && encoding.toLowerCase() !== "identity") {
    throw new StoreError(
      "media_type_unsupported",
      "Content-Encoding is not kept: send the bytes as they should come back",
    );
  }
  let userMetadata: Record<string, string> | null = null;
  let metadataBytes = 0;
  for (let index = 0; index < rawHeaders.length; index += 2) {
    const rawName = rawHeaders[index] as string;
    if (rawName.length < META_PREFIX.length) continue;
    const lowerName = rawName.toLowerCase();
    if (!lowerName.startsWith(META_PREFIX)) continue;
    userMetadata ??= Object.create(null) as Record<string, string>;
    const name = lowerName.slice(META_PREFIX.length);
    if (name === "" || name in userMetadata) {
      throw new StoreError("header_invalid", `User metadata has a name that is empty or given twice`);
    }
    const value = rawHeaders[index + 1] as string;
    userMetadata[name] = utf8OfHeader(value);
    metadataBytes += name.length + value.length;
  }
  if (metadataBytes > LIMITS.userMetadataBytesMax) {
    throw new StoreError(
      "metadata_too_large",
      `User metadata has ${metadataBytes} bytes, at most ${LIMITS.userMetadataBytesMax} are allowed`,
    );
  }
  return { contentType, userMetadata: userMetadata ?? NO_METADATA };
}

const NO_METADATA = Object.freeze(Object.create(null)) as Record<string, string>;
const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Header values arrive one byte per character. */
function utf8OfHeader(value: string): string {
  if (/^[\x20-\x7e\t]*$/.test(value)) return value;
  try {
    return utf8.decode(Buffer.from(value, "latin1"));
  } catch {
    throw new StoreError("header_invalid", "A user metadata value is not UTF-8");
  }
}

/** One byte per character again, for the way out. */
export function headerOfUtf8(text: string): string {
  return /^[\x20-\x7e\t]*$/.test(text) ? text : Buffer.from(text, "utf8").toString("latin1");
}

export type ExpectedDigests = { readonly expectedSha256: string | null; readonly expectedMd5: string | null };

const NO_DIGESTS: ExpectedDigests = { expectedSha256: null, expectedMd5: null };
const DIGEST_HEADERS = ["x-kintsugi-sha256", "content-digest", "repr-digest", "content-md5"] as const;

/** What the client says of the body's bytes. @throws {StoreError} `header_invalid` */
export function digestsOf(incoming: IncomingMessage): ExpectedDigests {
  const { headers } = incoming;
  if (DIGEST_HEADERS.every((name) => headers[name] === undefined)) return NO_DIGESTS;
  const sha256 = new Set<string>();
  const own = headers["x-kintsugi-sha256"];
  if (own !== undefined) {
    if (typeof own !== "string" || !/^[0-9a-f]{64}$/i.test(own)) {
      throw new StoreError("header_invalid", "x-kintsugi-sha256 is not 64 hexadecimal digits");
    }
    sha256.add(own.toLowerCase());
  }
  for (const name of ["content-digest", "repr-digest"] as const) {
    const digest = sha256OfDigestHeader(headers[name]);
    if (digest !== null) sha256.add(digest);
  }
  if (sha256.size > 1) throw new StoreError("header_invalid", "The headers give different SHA-256 digests");
  const md5 = headers["content-md5"];
  return {
    expectedSha256: [...sha256][0] ?? null,
    expectedMd5: md5 === undefined ? null : hexOfBase64(String(md5), 16, "Content-MD5"),
  };
}

/** `sha-256=:…:` of a dictionary; other algorithms are passed over. */
function sha256OfDigestHeader(header: string | string[] | undefined): string | null {
  if (header === undefined) return null;
  for (const member of String(header).split(",")) {
    const match = /^[ \t]*sha-256=(.*?)[ \t]*$/.exec(member);
    if (match === null) continue;
    const bytes = /^:([A-Za-z0-9+/=]+):$/.exec(match[1] as string);
    return hexOfBase64(bytes?.[1] ?? "", 32, "The sha-256 digest");
  }
  return null;
}

function hexOfBase64(text: string, bytes: number, what: string): string {
  const decoded = Buffer.from(text, "base64");
  if (decoded.length !== bytes || decoded.toString("base64").replace(/=+$/, "") !== text.replace(/=+$/, "")) {
    throw new StoreError("header_invalid", `${what} is not the base64 of ${bytes} bytes`);
  }
  return decoded.toString("hex");
}
