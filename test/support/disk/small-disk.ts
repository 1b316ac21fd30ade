/** A file system of its own and of a few hundred megabytes, to be filled to its end. */
import { execFile } from "node:child_process";
import { mkdtemp, open, rm, rmdir, statfs } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);
const FILL_CHUNK = Buffer.alloc(1_048_576, 0x5a);

export type SmallDisk = AsyncDisposable & {
  readonly path: string;
  freeBytes(): Promise<number>;
  /** Takes space with a file of no use until just this much is left; less than before gives space back. */
  leaveFree(bytes: number): Promise<void>;
  resize(sizeBytes: number): Promise<void>;
};

/** Needs root, for the mount. Answers the reason in words where it is not possible. */
export async function mountSmallDisk(sizeBytes: number): Promise<SmallDisk | string> {
  if (process.platform !== "linux") return "only Linux can mount a small tmpfs";
  const path = await mkdtemp(join(tmpdir(), "kintsugi-disk-"));
  try {
    await run("mount", ["-t", "tmpfs", "-o", `size=${sizeBytes}`, "kintsugi-test", path]);
  } catch (cause) {
    await rmdir(path);
    return `a small tmpfs cannot be mounted, which needs root: ${String((cause as { stderr?: string }).stderr).trim()}`;
  }
  const ballast = join(path, "ballast");
  const freeBytes = async () => {
    const { bavail, bsize } = await statfs(path);
    return bavail * bsize;
  };
  return {
    path,
    freeBytes,
    async leaveFree(bytes) {
      await rm(ballast, { force: true });
      const file = await open(ballast, "w");
      try {
        for (let left = (await freeBytes()) - bytes; left > 0; left -= FILL_CHUNK.length) {
          await file.write(FILL_CHUNK, 0, Math.min(left, FILL_CHUNK.length));
        }
      } finally {
        await file.close();
      }
    },
    async resize(newSizeBytes) {
      await run("mount", ["-o", `remount,size=${newSizeBytes}`, path]);
    },
    async [Symbol.asyncDispose]() {
      // Lazily, as a process that a failed test left behind may still have files open.
      await run("umount", ["--lazy", path]);
      await rmdir(path);
    },
  };
}
