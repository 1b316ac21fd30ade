import type { ObjectDeps } from "./deps.ts";
import { findObject } from "./get.ts";
import type { GetRequest, HeadResult } from "./requests.ts";

/** What `getObject` would find, without its bytes. @throws {StoreError} `precondition_failed`, `metadata_unavailable` */
export async function headObject(
  deps: ObjectDeps,
  request: Omit<GetRequest, "range" | "ifRange">,
): Promise<HeadResult> {
  return await findObject(deps, request);
}
