/** One digest over every source file of the checkout, so that a result can be tied to exactly what it was taken from. */
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";

/** What is installed, generated or stored, and therefore no source. */
const NOT_SOURCES = new Set(["node_modules", ".git", ".cache", "data", "results"]);

export function treeHash(directory: string): string {
  const hash = createHash("sha256");
  addDirectory(hash, directory, "");
  return hash.digest("hex");
}

function addDirectory(hash: ReturnType<typeof createHash>, top: string, path: string): void {
  const entries = readdirSync(join(top, path), { withFileTypes: true });
  for (const entry of entries.toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
    const inner = join(path, entry.name);
    if (entry.isDirectory()) {
      if (!NOT_SOURCES.has(entry.name)) addDirectory(hash, top, inner);
      continue;
    }
    if (!entry.isFile() && !entry.isSymbolicLink()) continue;
    const content = entry.isFile() ? readFileSync(join(top, inner)) : Buffer.from(readlinkSync(join(top, inner)));
    hash.update(`${inner}\0${content.length}\0`).update(content);
  }
}
