/** Bodies that are made from their names, so that none has to be kept: every one is another. */
import { createCipheriv, createHash } from "node:crypto";
import { documentValue, type Fields, type Value } from "../checkers/register.ts";

export function sha256Of(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** Bytes without any order, their name in front where it fits. */
export function contentOf(name: string, sizeBytes: number): Buffer {
  const key = createHash("sha256").update(name).digest().subarray(0, 16);
  const bytes = createCipheriv("aes-128-ctr", key, Buffer.alloc(16)).update(Buffer.alloc(sizeBytes));
  if (sizeBytes > 2 * name.length) bytes.write(name, 0, "latin1");
  return bytes;
}

/** The value of content: its digest, which is also its entity tag. */
export type Content = { readonly name: string; readonly sizeBytes: number };

/** Fields that patches change. All but `cold` are hot by default. */
const FIELDS = ["battery_level", "status", "rssi", "cold"] as const;
export type FieldName = (typeof FIELDS)[number];
export const HOT_FIELDS = ["battery_level", "rssi"] as const;

export type DocumentPlan = { readonly base: string; readonly padBytes: number };

/** A document as a device sends it. Its fields start as its own name, so that each of its states is unique. */
export function documentOf({ base, padBytes }: DocumentPlan): Buffer {
  const document = { device_id: base, battery_level: base, status: base, pad: padOf(base, padBytes), rssi: base };
  return Buffer.from(JSON.stringify({ ...document, cold: { by: base } }, null, 1));
}

export function valueOfPlan({ base }: DocumentPlan): Value {
  return documentValue(base, Object.fromEntries(FIELDS.map((name) => [name, base])));
}

/** A merge patch of one field, and of another one that tells every state from every other. */
export function patchOf(stamp: string, field: FieldName): { readonly body: string; readonly fields: Fields } {
  const content = field === "cold" ? { by: stamp } : stamp;
  return { body: JSON.stringify({ [field]: content, status: stamp }), fields: { [field]: stamp, status: stamp } };
}

/** The value that a stored document has; null when it is none of ours, or not whole. */
export function valueOfDocument(body: Buffer, planOf: (base: string) => DocumentPlan | undefined): Value | null {
  let document: Record<string, unknown>;
  try {
    document = JSON.parse(body.toString()) as Record<string, unknown>;
  } catch {
    return null;
  }
  const { device_id: base, pad, cold } = document;
  const plan = planOf(String(base));
  if (plan === undefined || pad !== padOf(plan.base, plan.padBytes)) return null;
  const by = (cold as { by?: unknown } | undefined)?.by;
  const fields = FIELDS.map((name) => [name, String(name === "cold" ? by : document[name])] as const);
  return documentValue(plan.base, Object.fromEntries(fields));
}

function padOf(base: string, padBytes: number): string {
  return sha256Of(Buffer.from(base))
    .repeat(Math.ceil(padBytes / 64))
    .slice(0, padBytes);
}
