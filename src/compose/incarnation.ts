/**
 * Metadata has a name of its own, its incarnation, and every data directory remembers which one its data belongs to. Whoever
 * meets another, or none, has lost its metadata: it must not go on as if nothing had ever been stored.
 */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { LocalBlobStore } from "../blob/lmdb-blob-store.ts";
import type { Config } from "../config.ts";
import { StoreError } from "../domain/errors.ts";
import { deadlineIn } from "../lib/deadline.ts";
import type { LmdbEnvironment } from "../lib/lmdb-environment.ts";
import { syncDirectory } from "../lib/sync-directory.ts";
import { putIncarnation, readIncarnation } from "../metadata/lmdb-metadata-layout.ts";
import type { MetadataStore } from "../metadata/metadata-store.ts";
import type { Wal } from "../wal/wal.ts";
import type { System } from "./system.ts";

export type IncarnationFile = { read(): Promise<string | null>; write(incarnation: string): Promise<void> };

const PATTERN = /^[0-9a-f]{32}$/;
const READ_MS = 60_000;

export function newIncarnation({ random }: Pick<System, "random">): string {
  return Buffer.from(random.bytes(16)).toString("hex");
}

/** What the data directory remembers. */
export function incarnationFile({ dataDir }: Pick<Config, "dataDir">): IncarnationFile {
  const path = join(dataDir, "incarnation");
  return {
    async read() {
      const known = await readFile(path, "utf8").catch((cause: NodeJS.ErrnoException) => {
        if (cause.code === "ENOENT") return "";
        throw cause;
      });
      return PATTERN.test(known) ? known : null;
    },
    async write(incarnation) {
      await writeFile(path, incarnation, { flush: true });
      await syncDirectory(dataDir);
    },
  };
}

type EmbeddedParts = {
  readonly environment: LmdbEnvironment;
  readonly metadata: MetadataStore;
  readonly wal: Wal;
  readonly stores: readonly LocalBlobStore[];
};

/** For a store in one process. @throws {StoreError} `metadata_lost` */
export async function requireOwnMetadata(config: Config, system: System, parts: EmbeddedParts): Promise<void> {
  const file = incarnationFile(config);
  const remembered = await file.read();
  const met = parts.environment.read(readIncarnation);
  if (met !== null) {
    if (remembered === null) await file.write(met);
    else if (remembered !== met) throw metadataLost("the metadata there is that of another store");
    return;
  }
  if (remembered !== null || (await isOrphaned(parts, system))) throw metadataLost("there is none");
  const incarnation = newIncarnation(system);
  await parts.environment.write({ entryCount: 1, valueBytes: incarnation.length }, (db) =>
    putIncarnation(db, incarnation),
  );
  await file.write(incarnation);
}

/** Blobs without a record and without an intent: no write begins like that. For directories that remember nothing. */
async function isOrphaned({ metadata, wal, stores }: EmbeddedParts, { clock }: System): Promise<boolean> {
  const soon = deadlineIn(clock, READ_MS);
  if ((await metadata.scan(null, 1, soon)).length > 0 || (await wal.readOpen(0, 1, soon)).length > 0) return false;
  const usages = await Promise.all(stores.map((store) => store.usage()));
  return usages.some(({ blobCount }) => blobCount > 0);
}

export function metadataLost(reason: string): StoreError {
  return new StoreError(
    "metadata_lost",
    `The metadata of what is stored here is lost: ${reason}. Restore it, or make it anew from the nodes with kintsugi rebuild-metadata`,
  );
}
