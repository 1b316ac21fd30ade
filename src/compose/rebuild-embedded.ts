import { rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { openLmdbBlobStore } from "../blob/lmdb-blob-store.ts";
import type { BlobStore } from "../blob/blob-store.ts";
import type { Config } from "../config.ts";
import { StoreError } from "../domain/errors.ts";
import type { NodeName, Revision } from "../domain/ids.ts";
import { deadlineIn } from "../lib/deadline.ts";
import { syncDirectory } from "../lib/sync-directory.ts";
import { openMetadataEnvironment } from "../metadata/lmdb-metadata-environment.ts";
import { putIncarnation, putRevision } from "../metadata/lmdb-metadata-layout.ts";
import { openLmdbMetadataStore } from "../metadata/lmdb-metadata-store.ts";
import type { CollectDeps, Collected, RebuildReport } from "../healer/rebuild-metadata.ts";
import { collectStates, firstRevisionAfter, rebuildRecords } from "../healer/rebuild-metadata.ts";
import { RebuildScratch } from "../healer/lmdb-rebuild-scratch.ts";
import { incarnationFile, newIncarnation } from "./incarnation.ts";
import type { System } from "./system.ts";
import { openDataDir } from "./system.ts";

export type RebuildOptions = {
  readonly dryRun: boolean;
  /** Rebuild although there is metadata. */
  readonly force: boolean;
  readonly onProgress: CollectDeps["onProgress"];
};

/** @throws {StoreError} `data_dir_locked`, `precondition_failed` there is metadata, `storage_error` */
export async function rebuildEmbedded(config: Config, system: System, options: RebuildOptions): Promise<RebuildReport> {
  await using open = new AsyncDisposableStack();
  await openDataDir(config, system, open);
  const { clock } = system;
  const metadataDir = join(config.dataDir, "metadata");
  if (!options.force && !options.dryRun && (await hasRecords(metadataDir, system))) {
    throw new StoreError(
      "precondition_failed",
      `Cannot rebuild ${metadataDir}: it holds records; say --force to put it aside and make it anew from the nodes`,
    );
  }
  const nodes = await openNodes(config, system, open);
  const scratch = open.use(new RebuildScratch(join(config.dataDir, "rebuild")));
  const { onProgress } = options;
  const deps = { clock, nodes, scratch, waitMs: config.timeouts.nodeMs, onProgress };
  const collected = await collectStates(deps);
  if (options.dryRun) return await rebuildRecords(deps, collected, null);
  const madeDir = join(config.dataDir, "metadata.rebuilding");
  const { report, incarnation } = await makeMetadata(madeDir, deps, collected, system);
  // Whole or not at all: a crash before leaves the old one, or none.
  await rename(metadataDir, join(config.dataDir, `metadata.replaced-${clock.wallMs()}`)).catch(ignoreMissing);
  await rename(madeDir, metadataDir);
  await syncDirectory(config.dataDir);
  await incarnationFile(config).write(incarnation);
  return report;
}

async function makeMetadata(path: string, deps: CollectDeps, collected: Collected, system: System) {
  await rm(path, { recursive: true, force: true });
  const incarnation = newIncarnation(system);
  const environment = await openEnvironment(path, system);
  try {
    const size = { entryCount: 2, valueBytes: 128 };
    await environment.write(size, (db) => {
      putRevision(db, (firstRevisionAfter(collected) - 1) as Revision);
      putIncarnation(db, incarnation);
    });
    const metadata = openLmdbMetadataStore({ environment, clock: deps.clock });
    try {
      return { report: await rebuildRecords(deps, collected, metadata), incarnation };
    } finally {
      await metadata.close();
    }
  } finally {
    await environment.close();
  }
}

async function hasRecords(path: string, system: System): Promise<boolean> {
  const environment = await openEnvironment(path, system);
  try {
    const metadata = openLmdbMetadataStore({ environment, clock: system.clock });
    const found = await metadata.scan(null, 1, deadlineIn(system.clock, 60_000));
    await metadata.close();
    return found.length > 0;
  } finally {
    await environment.close();
  }
}

function openEnvironment(path: string, { clock, logger }: System) {
  return openMetadataEnvironment({ path, clock, logger, onFenced() {} });
}

async function openNodes(config: Config, { clock, logger }: System, open: AsyncDisposableStack) {
  const nodes = new Map<NodeName, BlobStore>();
  for (const { name } of config.cluster.nodes) {
    const dir = join(config.dataDir, "nodes", name);
    const store = await openLmdbBlobStore({ node: name, dir, clock, logger, settings: config.storage });
    open.defer(() => store.close());
    nodes.set(name, store);
  }
  return nodes;
}

function ignoreMissing(cause: NodeJS.ErrnoException): void {
  if (cause.code !== "ENOENT") throw cause;
}
