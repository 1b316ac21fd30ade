import type { BucketName } from "../domain/ids.ts";
import type { Receipt } from "../domain/receipt.ts";
import type { Permit } from "../lib/semaphore.ts";
import type { ListOptions, ListPage } from "../metadata/metadata-store.ts";
import type {
  DeleteRequest,
  DeleteResult,
  FieldsRequest,
  FieldsResult,
  GetRequest,
  GetResult,
  HeadResult,
  PatchRequest,
  PutRequest,
  UndeleteRequest,
} from "../object/requests.ts";

/** The object paths as the doors see them, bound to their dependencies by `compose.ts`. */
export type ObjectApi = {
  /** Accounts for bytes that the door is about to hold. @throws {StoreError} `overloaded` (retriable) */
  reserve(bytes: number): Promise<Permit>;
  put(request: PutRequest): Promise<Receipt>;
  get(request: GetRequest): Promise<GetResult>;
  head(request: Omit<GetRequest, "range" | "ifRange">): Promise<HeadResult>;
  readFields(request: FieldsRequest): Promise<FieldsResult>;
  patch(request: PatchRequest): Promise<Receipt>;
  delete(request: DeleteRequest): Promise<DeleteResult>;
  undelete(request: UndeleteRequest): Promise<Receipt>;
  list(bucket: BucketName, options: ListOptions): Promise<ListPage>;
};
