import { StoreError } from "../domain/errors.ts";
import type { BucketName } from "../domain/ids.ts";
import { LIMITS } from "../limits.ts";
import type { ListOptions, ListPage } from "../metadata/metadata-store.ts";
import { metadataDeadline } from "./commit-record.ts";
import type { ObjectDeps } from "./deps.ts";

/** One page of the readable objects of a bucket. @throws {StoreError} `parameter_invalid`, `metadata_unavailable` */
export async function listObjects(deps: ObjectDeps, bucket: BucketName, options: ListOptions): Promise<ListPage> {
  if (!Number.isInteger(options.limit) || options.limit < 1 || options.limit > LIMITS.listPageMax) {
    throw new StoreError("parameter_invalid", `The limit must be a whole number from 1 to ${LIMITS.listPageMax}`);
  }
  return await deps.metadata.list(bucket, options, metadataDeadline(deps));
}
