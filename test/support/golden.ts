import { readFileSync } from "node:fs";

/**
 * Reads a file of golden bytes: `# remark`, `name` at the start of a line, its bytes in hex on indented lines below.
 * What stands there was stored by somebody: when a test disagrees with it, it is the code that has to change.
 */
export function readGolden(path: string): ReadonlyMap<string, Buffer> {
  const entries = new Map<string, string>();
  let name = "";
  for (const line of readFileSync(path, "utf8").split("\n")) {
    if (line === "" || line.startsWith("#")) continue;
    if (line.startsWith(" ")) entries.set(name, `${entries.get(name)}${line.trim()}`);
    else entries.set((name = line.trim()), "");
  }
  return new Map([...entries].map(([key, hex]) => [key, Buffer.from(hex, "hex")]));
}

/** A copy in which byte strings are hex text: decoders give them as Buffers or as Uint8Arrays, and both are right. */
export function comparable(value: unknown): unknown {
  if (value instanceof Uint8Array) return `bytes ${Buffer.from(value).toString("hex")}`;
  if (Array.isArray(value)) return value.map(comparable);
  if (typeof value !== "object" || value === null) return value;
  return new Map(Object.entries(value).map(([key, inner]) => [key, comparable(inner)]));
}
