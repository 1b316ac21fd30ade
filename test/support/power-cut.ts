/**
 * A cluster whose power can be cut: what was flushed is there afterwards, whatever else the operating system still held
 * in memory is gone.
 *
 * - **Disks.** Every nats-server and every node has an ext4 file system of its own in a loop file; gateways and healers,
 *   which keep nothing that cannot be made anew, share one. Of their own, because the flush of one process also writes
 *   the names of files that another one forgot to flush. `commit=300` keeps ext4 from writing anything by itself.
 * - **The cut.** All processes are stopped with SIGSTOP, the loop files are copied, the processes killed, and the copies
 *   mounted in the place of the originals: they hold what had reached the device, and ext4 replays its journal.
 * - **The machine's run.** Processes run in mount namespaces with a boot id of our own, another one after each cut. By
 *   it the metadata index and LMDB find out that the machine stopped, and do not trust what was never flushed: here it
 *   is only the disks that lost something, and the kernel's own boot id would say that nothing happened.
 */
import { execFile, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, rename, rm, symlink, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { openClusterDir } from "../../cluster/cluster-dir.ts";
import type { ProcessRole } from "../../cluster/plan.ts";
import { startCluster, type ClusterMember, type LocalCluster } from "./cluster.ts";
import type { Seeded } from "./load/seeded.ts";

const run = promisify(execFile);

export type Counts = { readonly gateways: number; readonly nodes: number; readonly healers: number };

export type CuttableCluster = AsyncDisposable & {
  readonly cluster: LocalCluster;
  /**
   * Cuts the power of everything while it works; the disks are back when this resolves, nothing runs. `onStopped` is
   * called when no process can answer any more.
   */
  cutPower(random: Seeded, onStopped: () => void): Promise<void>;
  /** Starts at once whatever does not run, as when the power comes back; resolves when it is ready. */
  powerOn(options?: { readonly without?: ProcessRole }): Promise<void>;
};

const NATS_SERVERS = 3;
const DISK_BYTES = 1_024 * 1_048_576;
const SETTINGS = {
  // As few nodes as can be: a round starts every process anew.
  cluster: { metadataStreams: 2, bucketDefaults: { k: 2, m: 1 } },
  // So small that volumes are begun all the time: a new file's name has to survive too.
  storage: { volumeBytesMax: "32MiB", freeBytesMin: "128MiB" },
  events: { bytesMax: "64MiB" },
};
const MOUNT_OPTIONS = "loop,commit=300";
const LOOP_DEVICES_MADE_MAX = 32;
const BOOT_ID = "/proc/sys/kernel/random/boot_id";
const SHARED_DISK = "shared";
const CANARY = "never-flushed";
const POLL_MS = 2;
const STOPPED_MS_MAX = 20_000;

/** Answers the reason in words where this process may not mount loop files. */
export async function startCuttable(counts: Counts): Promise<CuttableCluster | string> {
  const dir = await mkdtemp(join(tmpdir(), "kintsugi-power-"));
  const stack = new AsyncDisposableStack();
  stack.defer(() => rm(dir, { recursive: true, force: true, maxRetries: 3 }));
  try {
    const names = namesOf(counts);
    const disks = await mountDisks(dir, [...new Set(names.map(diskOf))]);
    if (typeof disks === "string") {
      await stack.disposeAsync();
      return disks;
    }
    stack.use(disks);
    const bootIdFile = join(dir, "boot-id");
    await writeFile(bootIdFile, randomUUID());
    const clusterDir = await placeData(join(dir, "cluster"), counts, disks);
    const cluster = await startCluster({
      ...{ ...counts, nats: NATS_SERVERS, dir: clusterDir, settings: SETTINGS },
      prefixOf: (name) => (name.startsWith("nats-") ? [] : withBootId(bootIdFile)),
    });
    stack.use(cluster);
    const opened = stack.move();
    return {
      cluster,
      async cutPower(random, onStopped) {
        await stopAll(cluster.members, random);
        onStopped();
        await disks.writeUnflushed(CANARY);
        await disks.copy();
        await cluster.killAll();
        await disks.replaceByCopies();
        await disks.requireLost(CANARY);
        await writeFile(bootIdFile, randomUUID());
      },
      async powerOn({ without } = {}) {
        const off = cluster.members.filter(({ role, isRunning }) => role !== without && !isRunning);
        await Promise.all(off.map((member) => member.restart()));
      },
      [Symbol.asyncDispose]: () => opened.disposeAsync(),
    };
  } catch (cause) {
    await stack.disposeAsync();
    throw cause;
  }
}

function namesOf({ gateways, nodes, healers }: Counts): string[] {
  const list = (kind: string, count: number) => Array.from({ length: count }, (_, index) => `${kind}-${index + 1}`);
  return [
    ...list("gateway", gateways),
    ...list("node", nodes),
    ...list("healer", healers),
    ...list("nats", NATS_SERVERS),
  ];
}

function diskOf(name: string): string {
  return /^(node|nats)-/.test(name) ? name : SHARED_DISK;
}

/** The command of a process that is to see another boot id than the machine's. It replaces the shell: its id stays. */
function withBootId(file: string): readonly string[] {
  const script = `mount --bind "$0" ${BOOT_ID} && exec "$@"`;
  return ["unshare", "--mount", "--propagation", "slave", "sh", "-c", script, file];
}

/** Makes the folder of the cluster, in which all data lies behind links to the disks; its settings and logs do not. */
async function placeData(clusterDir: string, counts: Counts, disks: Disks): Promise<string> {
  const folder = await openClusterDir(clusterDir, { clean: false, natsServers: NATS_SERVERS, nodes: counts.nodes });
  await folder.release();
  for (const name of namesOf(counts)) {
    const data = join(disks.pathOf(diskOf(name)), name);
    await mkdir(data);
    if (!name.startsWith("nats-")) await symlink(data, join(clusterDir, name));
    else {
      // The folder of a nats-server also holds its settings.
      await mkdir(join(clusterDir, name));
      await symlink(data, join(clusterDir, name, "jetstream"));
    }
  }
  // Whoever sets up a machine makes its data folders long before its power fails.
  await run("sync", ["--file-system", ...disks.paths]);
  return clusterDir;
}

/** One after the other, in any order: whatever some do while others stand still may happen before a power cut. */
async function stopAll(members: readonly ClusterMember[], random: Seeded): Promise<void> {
  const left = [...members];
  while (left.length > 0) left.splice(random.between(0, left.length - 1), 1)[0]?.pause();
  // A thread stops only when the system call that it is in has ended, which may be a flush.
  const overdueAt = performance.now() + STOPPED_MS_MAX;
  for (const { name, pid } of members) {
    while (!(await isStopped(pid))) {
      if (performance.now() > overdueAt) throw new Error(`${name} has not stopped ${STOPPED_MS_MAX} ms after SIGSTOP`);
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }
}

async function isStopped(pid: number): Promise<boolean> {
  const tasks = await readdir(`/proc/${pid}/task`);
  const states = await Promise.all(
    tasks.map(async (task) => {
      const stat = await readFile(`/proc/${pid}/task/${task}/stat`, "latin1");
      // Behind the command's name, which may hold anything.
      return stat.slice(stat.lastIndexOf(")") + 2)[0];
    }),
  );
  return states.every((state) => state === "T");
}

type Disks = AsyncDisposable & {
  readonly paths: readonly string[];
  pathOf(disk: string): string;
  /** Of what has reached the devices so far. */
  copy(): Promise<void>;
  /** Nothing may be open on the disks. */
  replaceByCopies(): Promise<void>;
  /** Writes a file to each disk that nobody flushes. */
  writeUnflushed(name: string): Promise<void>;
  /** @throws {Error} when a disk has kept what nobody flushed, so that a cut would prove nothing */
  requireLost(name: string): Promise<void>;
};

async function mountDisks(dir: string, names: readonly string[]): Promise<Disks | string> {
  if (process.platform !== "linux") return "only Linux can mount loop files";
  const disks = names.map((name) => ({ image: join(dir, `${name}.ext4`), path: join(dir, "disks", name) }));
  const eachDisk = async (action: (disk: (typeof disks)[number]) => Promise<unknown>) => {
    const results = await Promise.allSettled(disks.map(action));
    for (const result of results) if (result.status === "rejected") throw result.reason;
  };
  const mount = async ({ image, path }: (typeof disks)[number]) => {
    await run("mount", ["-t", "ext4", "-o", MOUNT_OPTIONS, image, path]);
  };
  await eachDisk(({ path }) => mkdir(path, { recursive: true }));
  await nameLoopDevices();
  const guard = startMountGuard(disks.map(({ path }) => path));
  try {
    await eachDisk(async (disk) => {
      await writeFile(disk.image, "");
      await truncate(disk.image, DISK_BYTES);
      await run("mkfs.ext4", ["-q", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0", disk.image]);
      await mount(disk);
    });
  } catch (cause) {
    await guard.close();
    return `loop files cannot be mounted, which needs root: ${String((cause as { stderr?: string }).stderr ?? cause).trim()}`;
  }
  return {
    paths: disks.map(({ path }) => path),
    pathOf: (name) => join(dir, "disks", name),
    copy: () => eachDisk(({ image }) => run("cp", ["--sparse=always", image, `${image}.copy`])),
    replaceByCopies: () =>
      eachDisk(async (disk) => {
        await run("umount", [disk.path]);
        await rename(`${disk.image}.copy`, disk.image);
        await mount(disk);
      }),
    writeUnflushed: (name) => eachDisk(({ path }) => writeFile(join(path, name), name)),
    requireLost: (name) =>
      eachDisk(async ({ path }) => {
        const kept = await readFile(join(path, name), "utf8").catch(() => "");
        await rm(join(path, name), { force: true });
        if (kept === name) throw new Error(`${path} kept what was never flushed: cutting its power proves nothing`);
      }),
    [Symbol.asyncDispose]: () => guard.close(),
  };
}

/** In a container `/dev` does not follow the kernel: the devices that it makes on demand have no names there. */
async function nameLoopDevices(): Promise<void> {
  const mounts = await readFile("/proc/mounts", "utf8");
  if (/^\S+ \/dev devtmpfs /m.test(mounts)) return;
  const known = (await readdir("/sys/block")).filter((name) => name.startsWith("loop")).length;
  for (let number = 0; number < known + LOOP_DEVICES_MADE_MAX; number += 1) {
    const path = `/dev/loop${number}`;
    // Where it may not be made, mounting tells why.
    if (!existsSync(path)) await run("mknod", ["-m", "660", path, "b", "7", String(number)]).catch(() => {});
  }
}

/**
 * Unmounts, which also gives back the loop devices, when it is closed or this process has died. Lazily: a process that
 * is just being killed may still have files open.
 */
function startMountGuard(paths: readonly string[]): { close(): Promise<void> } {
  const script = 'cat > /dev/null; for path; do umount --lazy "$path" 2> /dev/null; done';
  const shell = spawn("sh", ["-c", script, "sh", ...paths], { detached: true, stdio: ["pipe", "ignore", "ignore"] });
  const ended = new Promise<void>((resolve) => shell.once("exit", () => resolve()).once("error", () => resolve()));
  return {
    async close() {
      shell.stdin.end();
      await ended;
    },
  };
}
