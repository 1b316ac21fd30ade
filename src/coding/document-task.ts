import { mergeDocument } from "../placement/merge-patch.ts";
import { projectFields } from "../placement/project.ts";
import type { DocumentTask } from "./coder.ts";

/** Runs a document task in this thread. @throws {StoreError} the JSON errors */
export function runDocumentTask(task: DocumentTask): Uint8Array {
  switch (task.kind) {
    case "project":
      return projectFields(task.document, task.fields);
    case "merge":
      return mergeDocument(task.document, task.patch);
  }
}
