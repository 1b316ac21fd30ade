/** Takes programs out of Debian's package archive into a folder of the project: nothing of the system is touched. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** Where the project keeps what it has fetched. */
export const CACHE_DIR = join(import.meta.dirname, "../.cache");

const KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg";

export type ArchivePackage = {
  readonly name: string;
  /** Suite of the archive, such as `sid`; null for what the system itself is set to. */
  readonly suite: string | null;
};

/**
 * Downloads and unpacks a package under `CACHE_DIR` unless it is there already; answers the folder that holds its files.
 * @throws {Error} that says in one sentence why it cannot be had
 */
export function unpackPackage({ name, suite }: ArchivePackage): string {
  const folder = join(CACHE_DIR, `${name}-${suite ?? "system"}`);
  if (existsSync(folder)) return folder;
  if (!runs("apt-get", ["--version"]) || !runs("dpkg", ["--version"])) {
    throw new Error(`Cannot fetch ${name}: this system has no apt-get and dpkg`);
  }
  mkdirSync(CACHE_DIR, { recursive: true });
  const work = mkdtempSync(join(CACHE_DIR, `${name}-`));
  try {
    for (const part of ["lists/partial", "cache/archives/partial", "files"])
      mkdirSync(join(work, part), { recursive: true });
    const options = suite === null ? ownListsOf(work) : suiteOptionsOf(work, suite);
    // The system's own lists may be old or absent, and are not ours to renew.
    run("apt-get", [...options, "update", "-qq"], work, `Cannot read the package archive for ${name}`);
    run("apt-get", [...options, "download", "-qq", name], work, `Cannot download ${name}`);
    const file = readdirSync(work).find((entry) => entry.endsWith(".deb"));
    if (file === undefined) throw new Error(`Cannot fetch ${name}: the archive gave no package`);
    run("dpkg", ["-x", file, "files"], work, `Cannot unpack ${name}`);
    publish(join(work, "files"), folder);
    return folder;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** In one step, so that a run that was cut off leaves nothing that looks complete. Of several runs at once the first wins. */
function publish(files: string, folder: string): void {
  try {
    renameSync(files, folder);
  } catch (cause) {
    if (!existsSync(folder)) throw cause;
  }
}

function ownListsOf(work: string): string[] {
  return ["-o", `Dir::State::Lists=${join(work, "lists")}`, "-o", `Dir::Cache=${join(work, "cache")}`, ...UNSANDBOXED];
}

function suiteOptionsOf(work: string, suite: string): string[] {
  const list = join(work, "suite.list");
  writeFileSync(list, `deb [signed-by=${KEYRING}] http://deb.debian.org/debian ${suite} main\n`);
  return ["-o", `Dir::Etc::sourcelist=${list}`, "-o", "Dir::Etc::sourceparts=/dev/null", ...ownListsOf(work)];
}

/** apt's own user may not enter the project's folder. */
const UNSANDBOXED = ["-o", "APT::Sandbox::User=root"];

function run(command: string, args: readonly string[], cwd: string, failure: string): void {
  const { status, stderr, error } = spawnSync(command, args, { cwd, encoding: "utf8" });
  if (status !== 0) throw new Error(`${failure}: ${(error?.message ?? stderr).trim().split("\n").at(-1)}`);
}

function runs(command: string, args: readonly string[]): boolean {
  return spawnSync(command, args, { stdio: "ignore" }).status === 0;
}
