/** Finds an nginx, or fetches one. */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { unpackPackage } from "./debian-archive.ts";

/** The second is where systems keep it that leave it out of a user's PATH. */
const PLACES = ["nginx", "/usr/sbin/nginx"];

/**
 * Path of an nginx that runs here: PATH, the project's cache, or Debian's archive.
 * @throws {Error} that says in one sentence why there is none
 */
export function findNginx(): string {
  const installed = PLACES.find(runs);
  if (installed !== undefined) return installed;
  let path: string;
  try {
    path = join(unpackPackage({ name: "nginx", suite: null }), "usr/sbin/nginx");
  } catch (cause) {
    throw new Error(`No nginx: none is installed, and fetching one failed (${(cause as Error).message})`, { cause });
  }
  if (!runs(path)) throw new Error(`No nginx: none is installed, and ${path} does not run here (a library is missing)`);
  return path;
}

function runs(command: string): boolean {
  return spawnSync(command, ["-v"], { stdio: "ignore" }).status === 0;
}
