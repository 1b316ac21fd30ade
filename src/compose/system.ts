import { readFileSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import type { Config } from "../config.ts";
import { StoreError } from "../domain/errors.ts";
import type { ProcessRole } from "../domain/node-info.ts";
import type { Clock } from "../lib/clock.ts";
import { lockDataDir } from "../lib/dir-lock.ts";
import type { FaultPoints } from "../lib/fault-points.ts";
import type { Logger } from "../lib/logger.ts";
import type { Random } from "../lib/random.ts";
import { syncDirectory } from "../lib/sync-directory.ts";

/** The runtime's own faculties; a test brings its own. */
export type System = {
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly faults: FaultPoints;
};

/** Takes the data directory for this process until `open` is disposed. @throws {StoreError} `data_dir_locked` */
export async function openDataDir(config: Config, { random }: System, open: AsyncDisposableStack): Promise<void> {
  const lock = await lockDataDir(config.dataDir, random);
  if (lock === null) {
    throw new StoreError(
      "data_dir_locked",
      `Cannot open ${config.dataDir}: another process has it open, end it first or give this one its own dataDir`,
    );
  }
  open.defer(() => lock.release());
}

/**
 * Names the data directory, for as long as it exists. Whoever comes back with it under the lock of the directory is the
 * same process as before, started anew.
 */
export async function identityOf(config: Config, { random }: System): Promise<string> {
  const path = join(config.dataDir, "identity");
  const known = await readFile(path, "utf8").catch(() => null);
  if (known !== null && /^[0-9a-f]{32}$/.test(known)) return known;
  const identity = Buffer.from(random.bytes(16)).toString("hex");
  // Forgotten in a power cut, it would leave the process waiting until its own name is free.
  await writeFile(path, identity, { flush: true });
  await syncDirectory(config.dataDir);
  return identity;
}

/** Unique where each machine runs one process of a role; else `name` has to be set. */
export function processNameOf(config: Config, role: ProcessRole): string {
  if (config.name !== null) return config.name;
  const host = hostname()
    .toLowerCase()
    .replaceAll(/[^a-z0-9-]/g, "-");
  return `${role}-${host}`.slice(0, 63);
}

const WILDCARDS: ReadonlySet<string> = new Set(["0.0.0.0", "::", "[::]"]);

/** `http://host:port` at which other machines reach this process, which listens on `port`. */
export function addressOf(config: Config, port: number): string {
  if (config.advertise !== null) return `http://${config.advertise}`;
  const host = WILDCARDS.has(config.host) ? hostname() : config.host;
  return `http://${host.includes(":") ? `[${host}]` : host}:${port}`;
}

export function programVersion(): string {
  const manifest = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as {
    version: string;
  };
  return manifest.version;
}
