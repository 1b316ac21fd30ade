import { mkdir, open, readFile, rename } from "node:fs/promises";
import { join } from "node:path";
import { isStoreError, StoreError } from "../domain/errors.ts";
import type { MessageCodec } from "../domain/message-codec.ts";
import { syncDirectory } from "../lib/sync-directory.ts";

/** A small durable value in a file of its own: after a crash it is the old one or the new one. */
export class WholeFile<T> {
  readonly #dir: string;
  readonly #path: string;
  readonly #codec: MessageCodec<T>;
  readonly #initial: T;
  #known: T | null = null;
  #last: Promise<unknown> = Promise.resolve();

  constructor(dir: string, name: string, codec: MessageCodec<T>, initial: T) {
    this.#dir = dir;
    this.#path = join(dir, name);
    this.#codec = codec;
    this.#initial = initial;
  }

  async read(): Promise<T> {
    this.#known ??= await this.#load();
    return this.#known;
  }

  /** One after the other. What could not be written is as it was before. */
  change(change: (found: T) => T): Promise<T> {
    const changed = this.#last.then(() => this.#replace(change));
    this.#last = changed.catch(() => {});
    return changed;
  }

  async #replace(change: (found: T) => T): Promise<T> {
    const next = change(await this.read());
    await this.#save(next);
    return (this.#known = next);
  }

  async settled(): Promise<void> {
    await this.#last;
  }

  async #load(): Promise<T> {
    try {
      return this.#codec.decode(await readFile(this.#path));
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === "ENOENT") return this.#initial;
      throw isStoreError(cause) ? cause : unavailable(`Cannot read ${this.#path}`, cause);
    }
  }

  async #save(value: T): Promise<void> {
    try {
      await mkdir(this.#dir, { recursive: true });
      const beside = `${this.#path}.new`;
      await using file = await open(beside, "w");
      await file.writeFile(this.#codec.encode(value));
      await file.sync();
      await rename(beside, this.#path);
      await syncDirectory(this.#dir);
    } catch (cause) {
      throw unavailable(`Cannot write ${this.#path}`, cause);
    }
  }
}

function unavailable(what: string, cause: unknown): StoreError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new StoreError("healing_unavailable", `${what}: ${reason}`, { retriable: true, cause });
}
