import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { LmdbBlobOptions, LocalBlobStore } from "../../src/blob/lmdb-blob-store.ts";
import { openLmdbBlobStore } from "../../src/blob/lmdb-blob-store.ts";
import type { StoreError } from "../../src/domain/errors.ts";
import { MIB } from "../../src/lib/bytes.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { TEST_NODE } from "./blobs.ts";

/** The folder of one real node, removed with its store. Volumes are small, so that tests reach their ends. */
export class BlobDirectory {
  readonly #parent: string;
  readonly #options: Partial<LmdbBlobOptions>;
  #store: LocalBlobStore | null = null;
  readonly fences: StoreError[] = [];

  constructor(parent: string, options: Partial<LmdbBlobOptions>) {
    this.#parent = parent;
    this.#options = options;
  }

  get path(): string {
    return join(this.#parent, TEST_NODE);
  }

  /** Opens the node, after closing it where it was open. */
  async open(options: Partial<LmdbBlobOptions> = {}): Promise<LocalBlobStore> {
    await this.close();
    this.#store = await openLmdbBlobStore({
      node: TEST_NODE,
      dir: this.path,
      clock: systemClock,
      logger: silentLogger,
      onFenced: (error) => this.fences.push(error),
      settings: { volumeBytesMax: 16 * MIB, freeBytesMin: 0 },
      ...this.#options,
      ...options,
    });
    return this.#store;
  }

  async close(): Promise<void> {
    await this.#store?.close();
    this.#store = null;
  }

  /** The data files of all volumes, oldest first. */
  async dataFiles(): Promise<string[]> {
    const names = (await readdir(join(this.path, "volumes"))).sort();
    return names.map((name) => join(this.path, "volumes", name, "data.mdb"));
  }

  quarantined(): Promise<string[]> {
    return readdir(join(this.path, "quarantine"));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
    await rm(this.#parent, { recursive: true, force: true });
  }
}

export async function makeBlobDirectory(options: Partial<LmdbBlobOptions> = {}): Promise<BlobDirectory> {
  return new BlobDirectory(await mkdtemp(join(tmpdir(), "kintsugi-blobs-")), options);
}
