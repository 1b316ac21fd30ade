import { lstat, mkdir, mkdtemp, readdir, realpath, rm, symlink, unlink } from "node:fs/promises";
import { createConnection, createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Random } from "./random.ts";
import { systemRandom } from "./random.ts";

/**
 * One process per folder, without stale locks. A holder listens on a Unix socket inside the folder; the kernel closes
 * it with the process, however that ends, so a socket that refuses connections is one nobody holds.
 *
 * Every candidate first announces itself with a socket of its own name and then looks at all others. Of two that start
 * at once at least one sees the other, so never both hold the lock; it may be that both give up.
 */
export type DirLock = { release(): Promise<void> };

const SOCKET_PATTERN = /^lock-[0-9a-f]{16}\.sock$/;
/** Longest socket path that Linux and macOS both take. */
const SOCKET_PATH_BYTES_MAX = 100;

/**
 * Takes the folder for this process, creating it where missing. Answers null when another live process, or this one,
 * already holds it. The lock does not keep the process alive.
 */
export async function lockDataDir(dir: string, random: Random = systemRandom): Promise<DirLock | null> {
  await mkdir(dir, { recursive: true });
  const folder = await realpath(dir);
  const ownName = `lock-${Buffer.from(random.bytes(8)).toString("hex")}.sock`;
  const short = await shortenPath(folder, ownName);
  try {
    const server = await listen(join(short.path, ownName));
    const release = async () => {
      await new Promise((resolve) => server.close(resolve));
      await unlink(join(folder, ownName)).catch(() => {});
    };
    if ((await isHeldByOther(folder, short.path, ownName)) || !(await exists(join(folder, ownName)))) {
      await release();
      return null;
    }
    return { release };
  } finally {
    await short.dispose();
  }
}

/** Looks at the sockets of all others and removes those that died. */
async function isHeldByOther(folder: string, shortPath: string, ownName: string): Promise<boolean> {
  let held = false;
  for (const name of await readdir(folder)) {
    if (name === ownName || !SOCKET_PATTERN.test(name)) continue;
    if (await answers(join(shortPath, name))) held = true;
    // The names are never used twice, so one that is dead stays dead and removing it races with nobody.
    else await unlink(join(folder, name)).catch(() => {});
  }
  return held;
}

function listen(path: string): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => socket.destroy());
    server.once("error", reject);
    server.listen(path, () => {
      server.unref();
      resolve(server);
    });
  });
}

/** Only a refusal proves that nobody listens; a stopped or overloaded holder still counts as one. */
function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection(path);
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", (cause: NodeJS.ErrnoException) => {
      socket.destroy();
      resolve(cause.code !== "ECONNREFUSED" && cause.code !== "ENOENT");
    });
  });
}

/** The kernel limits a socket's path to about a hundred bytes; a deep folder is reached through a short link to it. */
async function shortenPath(folder: string, name: string): Promise<{ path: string; dispose(): Promise<void> }> {
  if (Buffer.byteLength(join(folder, name)) <= SOCKET_PATH_BYTES_MAX) return { path: folder, dispose: async () => {} };
  const linkDir = await mkdtemp(join(tmpdir(), "kintsugi-"));
  const path = join(linkDir, "d");
  await symlink(folder, path);
  return { path, dispose: () => rm(linkDir, { recursive: true, force: true }) };
}

async function exists(path: string): Promise<boolean> {
  return await lstat(path).then(
    () => true,
    () => false,
  );
}
