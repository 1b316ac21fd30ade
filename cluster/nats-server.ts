/** Finds a nats-server that is new enough, or fetches one. */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { unpackPackage } from "./debian-archive.ts";

/** The first with atomic batches that hold what they promise. */
export const NATS_VERSION_MIN = "2.12.4";

/**
 * Path of a nats-server ≥ `NATS_VERSION_MIN`: `$NATS_SERVER`, then PATH, then the project's cache, then Debian's archive.
 * @throws {Error} that says in one sentence what was looked for
 */
export function findNatsServer(named: string | undefined = process.env["NATS_SERVER"]): string {
  if (named !== undefined && named !== "") {
    requireVersion(named, versionOf(named));
    return named;
  }
  const onPath = versionOf("nats-server");
  if (onPath !== null && isNewEnough(onPath)) return "nats-server";
  let path: string;
  try {
    path = join(unpackPackage({ name: "nats-server", suite: "sid" }), "usr/sbin/nats-server");
  } catch (cause) {
    const found = onPath === null ? "none is on PATH" : `the one on PATH is ${onPath}`;
    throw new Error(
      `No nats-server ${NATS_VERSION_MIN} or newer: ${found}, and fetching one failed (${(cause as Error).message}). Install it and name it in NATS_SERVER.`,
      { cause },
    );
  }
  requireVersion(path, versionOf(path));
  return path;
}

function requireVersion(path: string, version: string | null): void {
  if (version === null) throw new Error(`Cannot run ${path} --version: NATS_SERVER must name a nats-server`);
  if (!isNewEnough(version))
    throw new Error(`${path} is nats-server ${version}: ${NATS_VERSION_MIN} or newer is needed`);
}

function versionOf(command: string): string | null {
  const { stdout, status } = spawnSync(command, ["--version"], { encoding: "utf8" });
  return status === 0 ? (/v(\d+\.\d+\.\d+)/.exec(stdout)?.[1] ?? null) : null;
}

function isNewEnough(version: string): boolean {
  const [own, wanted] = [version, NATS_VERSION_MIN].map((text) => text.split(".").map(Number)) as [number[], number[]];
  for (const [index, part] of wanted.entries()) {
    if (own[index] !== part) return (own[index] ?? 0) > part;
  }
  return true;
}
