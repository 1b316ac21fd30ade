/** Installs a folder of this repository that has a package.json and a lock file of its own, when it needs it. */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";

export type InstallOutcome = "installed" | "up to date";

/**
 * Runs npm in `directory` unless its node_modules were installed from the same package.json and lock file. Not `npm ci`:
 * that one refuses a lock file without the binaries of every other platform, and not all of them are published.
 * @throws {Error} npm failed; its own output says why
 */
export function installFolder(directory: string): InstallOutcome {
  const stamp = join(directory, "node_modules/.installed-from");
  const wanted = fingerprintOf(directory);
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === wanted) return "up to date";

  const name = basename(directory);
  console.log(`Installing what ${name}/ needs (once per change of ${name}/package-lock.json) …`);
  const [command, ...args] = npmCommand();
  const result = spawnSync(command, [...args, "install", "--no-save", "--no-audit", "--no-fund", "--loglevel=error"], {
    cwd: directory,
    stdio: ["ignore", "inherit", "inherit"],
    env: withoutOuterNpm(process.env),
  });
  if (result.status !== 0) {
    throw new Error(
      `Cannot install ${name}/: "npm install" in ${directory} ended with ${result.status ?? result.signal}`,
    );
  }
  writeFileSync(stamp, wanted);
  return "installed";
}

/** The platform counts too: a checkout that moved to another machine brings binaries which do not run there. */
function fingerprintOf(directory: string): string {
  const hash = createHash("sha256");
  for (const file of ["package.json", "package-lock.json"]) hash.update(readFileSync(join(directory, file)));
  return hash.update(`${process.platform}-${process.arch}`).digest("hex");
}

/** The npm that runs this script, so that its version and settings stay the same; else the one on PATH. */
function npmCommand(): [string, ...string[]] {
  const script = process.env["npm_execpath"];
  return script?.endsWith(".js") ? [process.execPath, script] : ["npm"];
}

/** What npm tells scripts about the package it runs is about another package than the one to install. */
function withoutOuterNpm(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(
    Object.entries(env).filter(
      ([name]) => !/^npm_(?:package|lifecycle|command)|^npm_config_(?:local_)?prefix$/.test(name),
    ),
  );
}
