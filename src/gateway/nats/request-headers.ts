/** Headers of requests, parsed into what the object paths want. A header of ours that an operation does not know is refused. */
import { StoreError } from "../../domain/errors.ts";
import { parseBucketName, parseObjectKey, type BucketName } from "../../domain/ids.ts";
import { STRATEGIES, type StrategyChoice } from "../../domain/manifest.ts";
import { CONSISTENCIES, type Consistency } from "../../domain/receipt.ts";
import type { UserAttributes } from "../../domain/record.ts";
import { LIMITS } from "../../limits.ts";
import type { ListOptions } from "../../metadata/metadata-store.ts";
import { decodeHeaderText, HEADER, type Operation } from "../../nats/object-protocol.ts";
import { NO_PRECONDITIONS, type ObjectAddress, type Preconditions, type RangeRequest } from "../../object/requests.ts";
import { KNOWN_HEADERS } from "./endpoints.ts";

/** By lower-case name; only headers of ours. */
export type HeaderFields = ReadonlyMap<string, string>;

const OURS = "kintsugi-";
const META_PREFIX = HEADER.metaPrefix.toLowerCase();
const BUCKET_DEFAULT = "default";
const LIST_LIMIT_DEFAULT = 100;

/** @throws {StoreError} `header_invalid` */
export function fieldsOf(operation: Operation, headers: Iterable<[string, string[]]> | undefined): HeaderFields {
  const fields = new Map<string, string>();
  for (const [rawName, values] of headers ?? []) {
    const name = rawName.toLowerCase();
    if (!name.startsWith(OURS)) continue;
    const known = KNOWN_HEADERS[operation];
    const isMeta = name.startsWith(META_PREFIX) && known.has(META_PREFIX);
    if (!isMeta && !known.has(name)) {
      throw new StoreError("header_invalid", `The operation ${operation} does not know this header`, {
        details: { header: rawName.slice(0, 64) },
      });
    }
    if (values.length !== 1 || fields.has(name)) {
      throw new StoreError("header_invalid", `The header ${rawName.slice(0, 64)} is given more than once`);
    }
    fields.set(name, values[0] as string);
  }
  return fields;
}

function fieldOf(fields: HeaderFields, name: string): string | null {
  return fields.get(name.toLowerCase()) ?? null;
}

/** @throws {StoreError} `header_invalid` */
function textOf(fields: HeaderFields, name: string): string | null {
  const raw = fieldOf(fields, name);
  if (raw === null) return null;
  const text = decodeHeaderText(raw);
  if (text !== null) return text;
  throw new StoreError("header_invalid", `${name} has a percent escape that is broken or does not decode to UTF-8`);
}

/** @throws {StoreError} `parameter_invalid`, `bucket_invalid`, `key_invalid`, `key_too_long` */
export function addressOf(fields: HeaderFields): ObjectAddress {
  const key = textOf(fields, HEADER.key);
  if (key === null) throw new StoreError("parameter_invalid", `The header ${HEADER.key} is missing`);
  return { bucket: bucketOf(fields), key: parseObjectKey(key) };
}

/** @throws {StoreError} `bucket_invalid` */
export function bucketOf(fields: HeaderFields): BucketName {
  return parseBucketName(fieldOf(fields, HEADER.bucket) ?? BUCKET_DEFAULT);
}

/** @throws {StoreError} `header_invalid` */
export function preconditionsOf(fields: HeaderFields): Preconditions {
  const ifMatch = fieldOf(fields, HEADER.ifMatch);
  const ifNoneMatch = fieldOf(fields, HEADER.ifNoneMatch);
  if (ifMatch === null && ifNoneMatch === null) return NO_PRECONDITIONS;
  return { ...NO_PRECONDITIONS, ifMatch: tagsOf(ifMatch), ifNoneMatch: tagsOf(ifNoneMatch) };
}

const ENTITY_TAG = /^(?:"([\x21\x23-\x7e]+)"|([\x21\x23-\x2b\x2d-\x7e]+))$/;

/** Tags are given with or without their quotes. */
function tagsOf(header: string | null): string[] | null {
  if (header === null) return null;
  return header.split(",").map((part) => {
    const match = ENTITY_TAG.exec(part.trim());
    if (match === null) throw new StoreError("header_invalid", "A condition holds what is no entity tag");
    return (match[1] ?? match[2]) as string;
  });
}

/** @throws {StoreError} `strategy_unknown`, `parameter_invalid` */
export function placementOf(fields: HeaderFields): {
  strategy: StrategyChoice | null;
  consistency: Consistency | null;
} {
  const strategy = fieldOf(fields, HEADER.strategy);
  const consistency = fieldOf(fields, HEADER.consistency);
  if (strategy !== null && strategy !== "auto" && !STRATEGIES.includes(strategy as never)) {
    throw new StoreError("strategy_unknown", `The strategy is none of auto, ${STRATEGIES.join(", ")}`);
  }
  if (consistency !== null && !CONSISTENCIES.includes(consistency as never)) {
    throw new StoreError("parameter_invalid", `The consistency is none of ${CONSISTENCIES.join(", ")}`);
  }
  return { strategy: strategy as StrategyChoice | null, consistency: consistency as Consistency | null };
}

/** What every door can give back: the other one has to write it into the head of an HTTP answer. */
const META_NAME = /^[!#$%&'*+\-.^_`|~0-9a-z]+$/;
const CONTENT_TYPE = /^[\x20-\x7e\t]+$/;
const NO_METADATA = Object.freeze(Object.create(null)) as Record<string, string>;

/** @throws {StoreError} `header_invalid`, `metadata_too_large` */
export function attributesOf(fields: HeaderFields): UserAttributes {
  const contentType = fieldOf(fields, HEADER.contentType) ?? "application/octet-stream";
  if (contentType.length > LIMITS.contentTypeBytesMax || !CONTENT_TYPE.test(contentType)) {
    throw new StoreError(
      "header_invalid",
      `The content type is not 1 to ${LIMITS.contentTypeBytesMax} plain characters`,
    );
  }
  let userMetadata: Record<string, string> | null = null;
  let metadataBytes = 0;
  for (const name of fields.keys()) {
    if (!name.startsWith(META_PREFIX)) continue;
    const metaName = name.slice(META_PREFIX.length);
    const value = textOf(fields, name) as string;
    if (!META_NAME.test(metaName)) throw new StoreError("header_invalid", "A name of user metadata is no token");
    if (/\p{Cc}/u.test(value)) throw new StoreError("header_invalid", "User metadata holds a control character");
    userMetadata ??= Object.create(null) as Record<string, string>;
    userMetadata[metaName] = value;
    metadataBytes += metaName.length + Buffer.byteLength(value);
  }
  if (metadataBytes > LIMITS.userMetadataBytesMax) {
    throw new StoreError(
      "metadata_too_large",
      `User metadata has ${metadataBytes} bytes, at most ${LIMITS.userMetadataBytesMax} are allowed`,
    );
  }
  return { contentType, userMetadata: userMetadata ?? NO_METADATA };
}

/** Lower-case hex, or null where none is announced. @throws {StoreError} `header_invalid` */
export function sha256Of(fields: HeaderFields): string | null {
  const digest = fieldOf(fields, HEADER.sha256);
  if (digest === null || /^[0-9a-f]{64}$/i.test(digest)) return digest?.toLowerCase() ?? null;
  throw new StoreError("header_invalid", `${HEADER.sha256} is not 64 hexadecimal digits`);
}

/** `first-last`, `first-` or `-suffix`, in bytes. @throws {StoreError} `header_invalid` */
export function rangeOf(fields: HeaderFields): RangeRequest | null {
  const header = fieldOf(fields, HEADER.range);
  if (header === null) return null;
  const match = /^(\d{0,15})-(\d{0,15})$/.exec(header);
  const [, first = "", last = ""] = match ?? [];
  if (
    match === null ||
    (first === "" && last === "") ||
    (first !== "" && last !== "" && Number(last) < Number(first))
  ) {
    throw new StoreError("header_invalid", `${HEADER.range} is not first-last, first- or -suffix, in bytes`);
  }
  if (first === "") return { suffixBytes: Number(last) };
  return { first: Number(first), last: last === "" ? null : Number(last) };
}

/** @throws {StoreError} `header_invalid`, `parameter_invalid` */
export function listOptionsOf(fields: HeaderFields): ListOptions {
  const textUpToKey = (name: string) => {
    const text = textOf(fields, name) ?? "";
    if (Buffer.byteLength(text) <= LIMITS.keyBytesMax && !text.includes("\0")) return text;
    throw new StoreError("parameter_invalid", `${name} is longer than a key or holds a NUL character`);
  };
  return {
    prefix: textUpToKey(HEADER.prefix),
    delimiter: textUpToKey(HEADER.delimiter),
    after: textUpToKey(HEADER.after),
    limit: countOf(fields, HEADER.limit, LIMITS.listPageMax) ?? LIST_LIMIT_DEFAULT,
  };
}

/** Names separated by commas, each percent-encoded. @throws {StoreError} `header_invalid`, `parameter_invalid` */
export function fieldNamesOf(fields: HeaderFields): string[] {
  const names = (fieldOf(fields, HEADER.fields) ?? "").split(",").map((raw) => {
    const name = decodeHeaderText(raw);
    if (name === null) throw new StoreError("header_invalid", "A field name has a broken percent escape");
    return name;
  });
  const wanted = [...new Set(names)];
  if (fieldOf(fields, HEADER.fields) !== null && wanted.length <= LIMITS.projectionFieldsMax) return wanted;
  throw new StoreError("parameter_invalid", `Name 1 to ${LIMITS.projectionFieldsMax} fields, separated by commas`);
}

/** A whole number from 1 to `max`, or null where the header is missing. @throws {StoreError} `parameter_invalid` */
export function countOf(fields: HeaderFields, name: string, max: number): number | null {
  const header = fieldOf(fields, name);
  if (header === null) return null;
  const count = /^\d{1,9}$/.test(header) ? Number(header) : 0;
  if (count >= 1 && count <= max) return count;
  throw new StoreError("parameter_invalid", `${name} is not a whole number from 1 to ${max}`);
}

/** Bytes that the sender announces; null where it does not know. @throws {StoreError} `parameter_invalid` */
export function announcedSizeOf(fields: HeaderFields): number | null {
  const header = fieldOf(fields, HEADER.size);
  if (header === null || /^\d{1,15}$/.test(header)) return header === null ? null : Number(header);
  throw new StoreError("parameter_invalid", `${HEADER.size} is no number of bytes`);
}

/** Where the client wants frames; null where it takes none. @throws {StoreError} `parameter_invalid` */
export function deliverSubjectOf(fields: HeaderFields): string | null {
  const subject = fieldOf(fields, HEADER.deliver);
  if (subject === null || isReplySafe(subject)) return subject;
  throw new StoreError("parameter_invalid", `${HEADER.deliver} is no inbox: nothing is sent there`);
}

/**
 * Whether a gateway may publish where a client wants answers. A gateway may publish far more than its clients: without
 * this any of them could make it write into streams, or into the store's own subjects. Inboxes begin with an underscore,
 * and hardly anything else does.
 */
export function isReplySafe(subject: string): boolean {
  return /^_(?!kintsugi\.)[^\s*>]{1,511}$/.test(subject) && !/\.\.|\.$/.test(subject);
}

const REQUEST_ID = /^[A-Za-z0-9._:/+=@-]{1,64}$/;

export function requestIdOf(headers: { get(name: string): string } | undefined, next: () => string): string {
  const given = headers?.get(HEADER.requestId) ?? "";
  return REQUEST_ID.test(given) ? given : next();
}
