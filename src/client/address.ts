import { parseBucketName, parseObjectKey } from "../domain/ids.ts";
import { encodeHeaderText, HEADER } from "../nats/object-protocol.ts";
import { asKintsugiError } from "./kintsugi-error.ts";

export type BucketOptions = {
  /** `default` unless given. */
  readonly bucket?: string;
};

/** Entity tags as `etag` of a receipt or an info; `*` stands for any. */
export type WriteConditions = {
  /** Only where the object still has this one. */
  readonly ifMatch?: string;
  /** `*`: only where there is no object yet. */
  readonly ifNoneMatch?: string;
};

/** @throws {KintsugiError} `bucket_invalid`, `key_invalid`, `key_too_long` */
export function addressHeaders(key: string, options: BucketOptions): [string, string][] {
  try {
    const name = encodeHeaderText(parseObjectKey(key));
    return [...bucketHeaders(options), [HEADER.key, name]];
  } catch (cause) {
    throw asKintsugiError(cause);
  }
}

/** @throws {KintsugiError} `bucket_invalid` */
export function bucketHeaders({ bucket }: BucketOptions): [string, string][] {
  try {
    return bucket === undefined ? [] : [[HEADER.bucket, parseBucketName(bucket)]];
  } catch (cause) {
    throw asKintsugiError(cause);
  }
}

export function conditionHeaders({ ifMatch, ifNoneMatch }: WriteConditions): [string, string][] {
  const headers: [string, string][] = [];
  if (ifMatch !== undefined) headers.push([HEADER.ifMatch, ifMatch]);
  if (ifNoneMatch !== undefined) headers.push([HEADER.ifNoneMatch, ifNoneMatch]);
  return headers;
}
