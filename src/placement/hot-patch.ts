import type { HotField, HybridLayout } from "../domain/manifest.ts";
import { LIMITS } from "../limits.ts";
import { ByteWriter } from "./byte-writer.ts";
import { hotValuesOf, isAppended, isRemoved } from "./layout.ts";
import { mergeNode, parsePatch } from "./merge-patch.ts";

export type HotPatchInput = {
  readonly layout: HybridLayout;
  readonly hot: Uint8Array;
  /** The bucket's hot fields as configured now. */
  readonly hotFields: readonly string[];
  /** A JSON merge patch. */
  readonly patch: Uint8Array;
};

/** hot: the table and the hot part after the patch, the cold part stays. rewrite: the patch needs the whole document. */
export type HotPatchPlan =
  | { readonly kind: "hot"; readonly layout: HybridLayout; readonly hot: Uint8Array }
  | { readonly kind: "rewrite" };

const REWRITE: HotPatchPlan = { kind: "rewrite" };

/**
 * Applies a patch to the hot part alone, if it names only fields that are in the table, or hot fields of which the split
 * proved that the cold bytes do not hold them. A hot name that is in neither may be among the cold bytes: it was
 * too large, or is hot only since the document was stored.
 * @throws {StoreError} `json_invalid`, `json_not_object`, `json_too_deep` for a patch that is no JSON object
 */
export function planHotPatch(input: HotPatchInput): HotPatchPlan {
  const { layout, hot, hotFields } = input;
  const patch = parsePatch(input.patch);
  if (!layout.addressable) return REWRITE;

  const values = hotValuesOf(layout, hot);
  const removed = new Set(layout.fields.filter(isRemoved).map((field) => field.name));
  const absent = new Set(layout.absent);
  for (const [name, node] of patch.members) {
    if (name === "") return REWRITE;
    const inTable = values.has(name) || removed.has(name);
    if (!inTable && !(absent.has(name) && hotFields.includes(name))) return REWRITE;
    if (node.removes) {
      values.delete(name);
      continue;
    }
    const value = mergeNode(values.get(name) ?? null, node);
    if (value.length > LIMITS.hotValueBytesMax) return REWRITE;
    values.set(name, value);
  }
  return tableOf(layout, hot, values);
}

/** The table that shows exactly these values: fields of the document keep their places, new ones are appended. */
function tableOf(layout: HybridLayout, hot: Uint8Array, values: Map<string, Uint8Array>): HotPatchPlan {
  const out = new ByteWriter(hot.length);
  const fields: HotField[] = [];
  const absent = new Set(layout.absent);
  let hotAt = 0;
  for (const field of layout.fields) {
    const start = hotAt;
    hotAt += Math.max(0, field.valueBytes);
    const value = field.name === "" ? hot.subarray(start, hotAt) : values.get(field.name);
    values.delete(field.name);
    if (value !== undefined) {
      out.push(value);
      fields.push({ ...field, valueBytes: value.length });
    } else if (isAppended(field)) {
      absent.add(field.name);
    } else {
      fields.push({ ...field, valueBytes: -1 });
    }
  }
  for (const [name, value] of values) {
    out.push(value);
    absent.delete(name);
    fields.push({
      name,
      ordinal: -1,
      commaBefore: -1,
      keyAt: -1,
      valueAt: -1,
      commaAfter: -1,
      valueBytes: value.length,
    });
  }
  if (fields.length > LIMITS.hotFieldsMax) return REWRITE;
  return { kind: "hot", layout: { ...layout, fields, absent: [...absent] }, hot: out.take() };
}
