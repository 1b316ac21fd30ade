/**
 * Keys and parameters from the raw request target, percent-decoded exactly once and never normalised: `a/../b`, `a//b`,
 * `%2e%2e`, a trailing slash and `+` are what they are.
 */
import { StoreError } from "../../domain/errors.ts";
import { parseBucketName, parseObjectKey, type BucketName, type ObjectKey } from "../../domain/ids.ts";

export type Target = { readonly path: string; readonly query: string };

export function splitTarget(target: string): Target {
  const at = target.indexOf("?");
  return at === -1 ? { path: target, query: "" } : { path: target.slice(0, at), query: target.slice(at + 1) };
}

/** @throws {StoreError} `key_invalid`, `key_too_long` */
export function keyOfPath(path: string, prefix: string): ObjectKey {
  const text = decodeOnce(path.slice(prefix.length));
  if (text === null) {
    throw new StoreError("key_invalid", "The key has a percent escape that is broken or does not decode to UTF-8");
  }
  return parseObjectKey(text);
}

export type Parameters<Name extends string> = { readonly [Key in Name]?: string };

/**
 * The parameters of a query. A parameter that the route does not know is refused: a misspelt one must not be lost.
 * @throws {StoreError} `parameter_invalid`
 */
export function parseQuery<Name extends string>(query: string, known: readonly Name[]): Parameters<Name> {
  const parameters: Partial<Record<Name, string>> = {};
  if (query === "") return parameters;
  for (const part of query.split("&")) {
    if (part === "") continue;
    const at = part.indexOf("=");
    const name = decodeOnce(at === -1 ? part : part.slice(0, at)) as Name | null;
    // Fields are told apart by their commas before they are decoded.
    const raw = at === -1 ? "" : part.slice(at + 1);
    const value = name === "fields" ? raw : decodeOnce(raw);
    if (name === null || value === null) {
      throw new StoreError("parameter_invalid", "A parameter has a percent escape that is broken or not UTF-8");
    }
    if (!known.includes(name)) {
      const wanted = known.length === 0 ? "none" : known.join(", ");
      throw new StoreError("parameter_invalid", `Unknown parameter here, known: ${wanted}`, {
        details: { parameter: name.slice(0, 64) },
      });
    }
    if (parameters[name] !== undefined) {
      throw new StoreError("parameter_invalid", `The parameter ${name} is given more than once`);
    }
    parameters[name] = value;
  }
  return parameters;
}

export const BUCKET_DEFAULT = "default";

/** @throws {StoreError} `bucket_invalid` */
export function bucketOf(parameters: Parameters<"bucket">): BucketName {
  return parseBucketName(parameters.bucket ?? BUCKET_DEFAULT);
}

/** The path of a key below `/objects/`, for the Location header. */
export function pathOfKey(bucket: BucketName, key: ObjectKey): string {
  const path = `/objects/${key.split("/").map(encodeURIComponent).join("/")}`;
  return bucket === BUCKET_DEFAULT ? path : `${path}?bucket=${encodeURIComponent(bucket)}`;
}

/** Null when an escape is broken or the bytes are not UTF-8. */
export function decodeOnce(text: string): string | null {
  if (!text.includes("%")) return text;
  try {
    return decodeURIComponent(text);
  } catch {
    return null;
  }
}
