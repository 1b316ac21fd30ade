import { usageError } from "./exit.ts";

/** Query parameters in order; null ones are left out, true stands without a value, lists are joined by commas. */
export type Query = Readonly<Record<string, string | number | readonly string[] | true | null>>;

/**
 * The raw request target of an object. Everything but unreserved characters and slashes is percent-encoded, and nothing
 * is normalised: `a/../b` names another object than `b`.
 */
export function objectTarget(key: string, query: Query = {}): string {
  return `/objects/${encodeKey(key)}${encodeQuery(query)}`;
}

export function encodeKey(key: string): string {
  if (key === "") throw usageError("The key is empty: give 1 to 1,024 bytes");
  return key.split("/").map(percentEncode).join("/");
}

export function encodeQuery(query: Query): string {
  const parts = Object.entries(query).flatMap(([name, value]) => {
    if (value === null) return [];
    if (value === true) return [percentEncode(name)];
    // The commas between stay bare: the store parts a list before it decodes, so that a part may hold a comma itself.
    const values = Array.isArray(value) ? (value as readonly string[]) : [String(value)];
    return [`${percentEncode(name)}=${values.map(percentEncode).join(",")}`];
  });
  return parts.length === 0 ? "" : `?${parts.join("&")}`;
}

/** Entity tags stand in quotes on the wire; people copy them with and without. */
export function quoteTag(tag: string): string {
  return tag === "*" || tag.startsWith('"') || tag.startsWith("W/") ? tag : `"${tag}"`;
}

function percentEncode(text: string): string {
  if (!text.isWellFormed()) throw usageError(`${JSON.stringify(text)} is not well-formed Unicode`);
  return encodeURIComponent(text).replace(
    /[!'()*]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}
