import { readdir, stat } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import type { NodeCheck } from "../blob/check-volumes.ts";
import { checkVolumes } from "../blob/check-volumes.ts";
import { StoreError } from "../domain/errors.ts";
import type { NodeName } from "../domain/ids.ts";
import { lockDataDir } from "../lib/dir-lock.ts";
import type { System } from "./system.ts";

/** @throws {StoreError} `parameter_invalid` there is no node's data, `data_dir_locked` a process has it open */
export async function checkDataDir(
  dataDir: string,
  system: Pick<System, "clock" | "logger">,
  onProgress: (done: number, total: number | null, unit: string) => void,
): Promise<readonly NodeCheck[]> {
  const nodes = await findNodes(dataDir);
  if (nodes.length === 0) {
    throw new StoreError(
      "parameter_invalid",
      `There are no blobs in ${dataDir}: give the data directory of a node, or of a store in one process`,
    );
  }
  const lock = await lockDataDir(dataDir);
  if (lock === null) {
    throw new StoreError("data_dir_locked", `Cannot check ${dataDir}: a process has it open, end that first`);
  }
  try {
    const checks: NodeCheck[] = [];
    let before = 0;
    for (const { node, dir } of nodes) {
      const check = await checkVolumes({
        ...{ node, dir, ...system },
        onProgress: (blobs) => onProgress(before + blobs, null, "blobs"),
      });
      checks.push(check);
      before += check.blobs;
    }
    return checks;
  } finally {
    await lock.release();
  }
}

/** A node of a cluster has one folder of blobs, a store in one process one for each of its nodes. */
async function findNodes(dataDir: string): Promise<{ node: NodeName; dir: string }[]> {
  const own = join(dataDir, "blobs");
  if (await holdsVolumes(own)) return [{ node: basename(resolve(dataDir)) as NodeName, dir: own }];
  const names = await readdir(join(dataDir, "nodes")).catch(() => []);
  const found: { node: NodeName; dir: string }[] = [];
  for (const name of names.sort()) {
    const dir = join(dataDir, "nodes", name);
    if (await holdsVolumes(dir)) found.push({ node: name as NodeName, dir });
  }
  return found;
}

async function holdsVolumes(dir: string): Promise<boolean> {
  return await stat(join(dir, "volumes")).then(
    (found) => found.isDirectory(),
    () => false,
  );
}
