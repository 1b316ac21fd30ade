import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const ROOT = join(import.meta.dirname, "../..");
const ROLES = ["all", "gateway", "node", "healer"];

/**
 * What Node made of the modules, kept for the next process that loads them: it halves the time in which a process
 * starts. Only in a run of all tests, which has a temporary directory to itself. Many processes are killed, which saves
 * nothing, so the cache is filled here.
 */
export function compileCache(): Record<string, string> {
  if (process.env["TEST_RUN_MARK"] === undefined) return {};
  const cache = { NODE_COMPILE_CACHE: join(tmpdir(), "compile-cache") };
  if (!existsSync(cache.NODE_COMPILE_CACHE)) fillCache(cache);
  return cache;
}

function fillCache(cache: Record<string, string>): void {
  const roles = ROLES.map((role) => `import(${JSON.stringify(join(ROOT, "src/role", `${role}.ts`))})`);
  const script = `Promise.all([${roles.join(", ")}]).then(() => process.exit())`;
  spawnSync(join(ROOT, "node_modules/.bin/node"), ["-e", script], {
    env: { ...process.env, ...cache },
    stdio: "ignore",
  });
}
