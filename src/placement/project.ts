import type { HybridLayout } from "../domain/manifest.ts";
import { createNameMatcher } from "./json-names.ts";
import {
  EVENT_KEY,
  EVENT_PROBLEM,
  EVENT_STARVED,
  EVENT_VALUE,
  EVENT_VALUE_END,
  JsonScanner,
  jsonError,
} from "./json-scanner.ts";
import { hotValuesOf, isRemoved } from "./layout.ts";

/**
 * A JSON object of those of the wanted top-level fields that the document has, in the order wanted, their values as
 * the document spells them. Of a field that is there more than once the last counts, as with JSON.parse.
 * @throws {StoreError} `json_invalid`, `json_not_object`, `json_too_deep`
 */
export function projectFields(document: Uint8Array, fields: readonly string[]): Uint8Array {
  const match = createNameMatcher(fields);
  const scanner = new JsonScanner();
  const values = new Map<string, Uint8Array>();
  let name = "";
  let valueAt = 0;
  scanner.feed(document);
  for (let event = scanner.next(); event !== EVENT_STARVED && event !== EVENT_PROBLEM; event = scanner.next()) {
    if (event === EVENT_KEY) {
      const raw = scanner.rawName();
      const index = raw === null ? -1 : match(raw);
      if (index === -1) continue;
      name = fields[index] as string;
      scanner.watch();
    } else if (event === EVENT_VALUE) {
      valueAt = scanner.at;
    } else if (event === EVENT_VALUE_END) {
      values.set(name, document.subarray(valueAt, scanner.at));
    }
  }
  const problem = scanner.finish();
  if (problem !== null) throw jsonError("the stored document", problem);
  return objectOf(fields, values);
}

/**
 * The same from the hot part alone; null when some wanted field may be among the cold bytes.
 * @throws {StoreError} `object_damaged` the hot part does not fit the table
 */
export function projectHot(layout: HybridLayout, hot: Uint8Array, fields: readonly string[]): Uint8Array | null {
  if (!layout.addressable) return null;
  const known = new Set(layout.absent);
  for (const field of layout.fields) if (isRemoved(field)) known.add(field.name);
  const values = hotValuesOf(layout, hot);
  if (fields.some((name) => !values.has(name) && !known.has(name))) return null;
  return objectOf(fields, values);
}

function objectOf(fields: readonly string[], values: ReadonlyMap<string, Uint8Array>): Uint8Array {
  const parts: Uint8Array[] = [];
  for (const name of new Set(fields)) {
    const value = values.get(name);
    if (value === undefined) continue;
    parts.push(Buffer.from(`${parts.length === 0 ? "{" : ","}${JSON.stringify(name)}:`), value);
  }
  parts.push(Buffer.from(parts.length === 0 ? "{}" : "}"));
  return Buffer.concat(parts);
}
