/** Brings in the load generator, and Bun and Deno for the rows that compare runtimes. First step of `npm run bench`. */
import { join } from "node:path";
import { installFolder } from "../test/setup/install-folder.ts";

const ROOT = join(import.meta.dirname, "..");

try {
  installFolder(join(ROOT, "bench"));
  installFolder(join(ROOT, "test"));
} catch (cause) {
  console.error((cause as Error).message);
  process.exit(1);
}
