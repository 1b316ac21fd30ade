/** The folder of a local cluster: whose it is, its secrets, and what must stay as it was when the cluster was made. */
import { randomBytes } from "node:crypto";
import { chmod, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { lockDataDir, type DirLock } from "../src/lib/dir-lock.ts";
import { SECRET_FILES, type PlannedFile } from "./plan.ts";

export type ClusterDir = {
  readonly natsPassword: string;
  readonly nodesFounded: number;
  /** True when there was nothing before. */
  readonly isNew: boolean;
  release(): Promise<void>;
};

export type ClusterDirOptions = { readonly clean: boolean; readonly natsServers: number; readonly nodes: number };

/** Marks the folder as ours, and remembers what cannot change. */
const MARKER = "cluster.json";
type Marker = { readonly format: 1; readonly natsServers: number; readonly nodes: number };

const SECRET_BYTES = 32;

/**
 * Takes the folder for this process and makes what is missing in it.
 * @throws {Error} in one sentence: it is in use, is not a cluster's, or belongs to one of another shape
 */
export async function openClusterDir(dir: string, options: ClusterDirOptions): Promise<ClusterDir> {
  const lock = await lockDataDir(dir);
  if (lock === null) throw new Error(`Another cluster runs with its data in ${dir}: stop it, or give --dir`);
  try {
    return await prepare(dir, options, lock);
  } catch (cause) {
    await lock.release();
    throw cause;
  }
}

async function prepare(dir: string, options: ClusterDirOptions, lock: DirLock): Promise<ClusterDir> {
  const entries = (await readdir(dir)).filter((name) => !/^lock-.*\.sock$/.test(name));
  const isOurs = entries.includes(MARKER);
  if (entries.length > 0 && !isOurs) {
    throw new Error(`${dir} holds something else than a cluster: give --dir a new or an empty folder`);
  }
  if (options.clean) {
    // The marker goes last: a removal that was cut off can be repeated.
    const others = entries.filter((name) => name !== MARKER);
    await Promise.all(others.map((name) => rm(join(dir, name), { recursive: true, force: true })));
    await rm(join(dir, MARKER), { force: true });
  }
  const isNew = options.clean || !isOurs;
  const marker: Marker = isNew
    ? { format: 1, natsServers: options.natsServers, nodes: options.nodes }
    : (JSON.parse(await readFile(join(dir, MARKER), "utf8")) as Marker);
  if (marker.natsServers !== options.natsServers) {
    throw new Error(
      `The cluster in ${dir} was made with ${marker.natsServers} nats-servers: give --nats ${marker.natsServers}, or --clean to begin anew`,
    );
  }
  await writePlannedFile({ path: join(dir, MARKER), text: `${JSON.stringify(marker)}\n`, mode: 0o644 });
  await ensureSecret(join(dir, SECRET_FILES.cluster));
  const natsPassword = await ensureSecret(join(dir, SECRET_FILES.natsPassword));
  return { natsPassword, nodesFounded: marker.nodes, isNew, release: () => lock.release() };
}

async function ensureSecret(path: string): Promise<string> {
  const known = await readFile(path, "utf8").catch(() => "");
  if (known.trim() !== "") return known.trim();
  const secret = randomBytes(SECRET_BYTES).toString("hex");
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  await writePlannedFile({ path, text: `${secret}\n`, mode: 0o600 });
  return secret;
}

/** Writes a file with its folder, readable to whom it should be from the first byte on. */
export async function writePlannedFile({ path, text, mode }: PlannedFile): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, text, { mode });
  await chmod(path, mode);
}
