import type { BucketName, ObjectKey } from "../domain/ids.ts";
import type { StrategyChoice } from "../domain/manifest.ts";
import type { Consistency } from "../domain/receipt.ts";
import type { StoredRecord, UserAttributes } from "../domain/record.ts";

/**
 * What the front doors hand to the object paths and get back. No HTTP words here: each door translates.
 */
export type Body =
  | { readonly kind: "bytes"; readonly bytes: Uint8Array }
  | {
      readonly kind: "stream";
      /** Each chunk is the consumer's until it asks for the next one. Throws when the source fails or ends early. */
      readonly chunks: AsyncIterable<Uint8Array>;
      /** Null when the sender did not say. */
      readonly sizeBytes: number | null;
    };

/** Entity tags are opaque, without quotes or weakness marks; "*" stands for any. All given conditions must hold. */
export type Preconditions = {
  readonly ifMatch: readonly string[] | null;
  readonly ifNoneMatch: readonly string[] | null;
  readonly ifModifiedSinceMs: number | null;
  readonly ifUnmodifiedSinceMs: number | null;
};

export const NO_PRECONDITIONS: Preconditions = {
  ifMatch: null,
  ifNoneMatch: null,
  ifModifiedSinceMs: null,
  ifUnmodifiedSinceMs: null,
};

export type ObjectAddress = { readonly bucket: BucketName; readonly key: ObjectKey };

export type PutRequest = ObjectAddress & {
  readonly body: Body;
  /** Null: the bucket's. */
  readonly strategy: StrategyChoice | null;
  readonly consistency: Consistency | null;
  readonly attributes: UserAttributes;
  readonly preconditions: Preconditions;
  /**
   * Lower-case hex; a body with another digest is refused. Looked at only when the body has ended, so that a door may
   * learn it with the last bytes.
   */
  readonly expectedSha256: string | null;
  readonly expectedMd5: string | null;
};

/** first…last inclusive, or the last `suffixBytes`. `last` null: to the end. */
export type RangeRequest = { readonly first: number; readonly last: number | null } | { readonly suffixBytes: number };

export type GetRequest = ObjectAddress & {
  readonly range: RangeRequest | null;
  /** An entity tag that the range is only good for; with another the whole is sent. */
  readonly ifRange: string | null;
  readonly preconditions: Preconditions;
};

export type GetResult =
  | { readonly outcome: "not_found" }
  | { readonly outcome: "not_modified"; readonly stored: StoredRecord }
  | {
      readonly outcome: "found";
      readonly stored: StoredRecord;
      /** Which bytes the body holds: [start, end) of the content; null for all. */
      readonly range: { readonly start: number; readonly end: number } | null;
      readonly body: Body;
    };

export type HeadResult =
  | Exclude<GetResult, { outcome: "found" }>
  | { readonly outcome: "found"; readonly stored: StoredRecord };

export type FieldsRequest = ObjectAddress & {
  readonly fields: readonly string[];
  readonly preconditions: Preconditions;
};

export type FieldsResult =
  | Exclude<GetResult, { outcome: "found" }>
  | {
      readonly outcome: "found";
      readonly stored: StoredRecord;
      /** A JSON object of the wanted fields that exist. */
      readonly json: Uint8Array;
      /** True when no node was read. */
      readonly fromHotPart: boolean;
    };

export type PatchRequest = ObjectAddress & {
  /** A JSON merge patch, RFC 7396. */
  readonly patch: Uint8Array;
  readonly consistency: Consistency | null;
  readonly preconditions: Preconditions;
};

export type DeleteRequest = ObjectAddress & { readonly preconditions: Preconditions };
export type UndeleteRequest = ObjectAddress & { readonly preconditions: Preconditions };
export type DeleteResult = { readonly existed: boolean };
