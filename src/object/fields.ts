import { StoreError } from "../domain/errors.ts";
import { LIMITS } from "../limits.ts";
import { projectHot } from "../placement/project.ts";
import type { ObjectDeps } from "./deps.ts";
import { findObject } from "./get.ts";
import { isHybrid } from "./put-hybrid.ts";
import { readHotPart, withWholeDocument } from "./read-document.ts";
import type { FieldsRequest, FieldsResult } from "./requests.ts";

/**
 * Some fields of a JSON document. Fields that are all hot come out of the record; otherwise the document is read.
 * @throws {StoreError} `parameter_invalid`, `precondition_failed`, the JSON errors, `object_damaged`
 */
export async function readFields(deps: ObjectDeps, request: FieldsRequest): Promise<FieldsResult> {
  if (request.fields.length === 0 || request.fields.length > LIMITS.projectionFieldsMax) {
    throw new StoreError("parameter_invalid", `Name 1 to ${LIMITS.projectionFieldsMax} fields`);
  }
  const found = await findObject(deps, request);
  if (found.outcome !== "found") return found;
  const { stored } = found;
  if (isHybrid(stored) && stored.record.manifest.layout.addressable) {
    const { layout, hot } = stored.record.manifest;
    const json = projectHot(layout, await readHotPart(deps, hot), request.fields);
    if (json !== null) return { ...found, json, fromHotPart: hot.kind === "inline" };
  }
  deps.heat.note(stored.record);
  const json = await withWholeDocument(deps, stored, (document) =>
    deps.coder.transform({ kind: "project", document, fields: request.fields }),
  );
  return { ...found, json, fromHotPart: false };
}
