import { closeSync, fsync, openSync } from "node:fs";
import { promisify } from "node:util";

/** Makes the names in a directory survive a power cut: to flush a new file keeps its bytes, not the name that leads to it. */
export async function syncDirectory(directory: string): Promise<void> {
  const fd = openSync(directory, "r");
  try {
    await promisify(fsync)(fd);
  } finally {
    closeSync(fd);
  }
}
