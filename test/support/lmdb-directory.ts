import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../../src/lib/clock.ts";
import type { LmdbEnvironment, LmdbEnvironmentOptions } from "../../src/lib/lmdb-environment.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { openMetadataEnvironment } from "../../src/metadata/lmdb-metadata-environment.ts";

/** A directory of its own for a real LMDB environment, which is removed with it. */
export class LmdbDirectory {
  readonly #parent: string;
  readonly #options: Partial<LmdbEnvironmentOptions>;
  #environment: LmdbEnvironment | null = null;
  readonly fences: Error[] = [];

  constructor(parent: string, options: Partial<LmdbEnvironmentOptions>) {
    this.#parent = parent;
    this.#options = options;
  }

  get path(): string {
    return join(this.#parent, "metadata");
  }

  get dataFile(): string {
    return join(this.path, "data.mdb");
  }

  /** Opens the environment, after closing the one opened before. */
  async open(): Promise<LmdbEnvironment> {
    return await this.openAt(this.path);
  }

  async openAt(path: string): Promise<LmdbEnvironment> {
    await this.close();
    this.#environment = await openMetadataEnvironment({
      path,
      clock: systemClock,
      logger: silentLogger,
      onFenced: (cause) => this.fences.push(cause),
      ...this.#options,
    });
    return this.#environment;
  }

  async close(): Promise<void> {
    await this.#environment?.close();
    this.#environment = null;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
    await rm(this.#parent, { recursive: true, force: true });
  }
}

export async function makeLmdbDirectory(options: Partial<LmdbEnvironmentOptions> = {}): Promise<LmdbDirectory> {
  return new LmdbDirectory(await mkdtemp(join(tmpdir(), "kintsugi-lmdb-")), options);
}
