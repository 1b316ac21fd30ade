/** Controls and ledger of a store in one process: a file each, replaced as a whole. */
import { mkdir, open, readFile, rename } from "node:fs/promises";
import { join } from "node:path";
import { isStoreError, StoreError } from "../domain/errors.ts";
import type { HealingControls } from "../domain/healing.ts";
import type { MessageCodec } from "../domain/message-codec.ts";
import { syncDirectory } from "../lib/sync-directory.ts";
import { controlsCodec, ledgerCodec } from "./healing-codec.ts";
import { EMPTY_LEDGER } from "./healing-ledger.ts";
import type { HealingStore } from "./healing-store.ts";

/** Nothing is written before something is changed. `dir` is the caller's alone. */
export function openFileHealingStore(dir: string): HealingStore {
  const controls = new WholeFile<HealingControls>(dir, "controls", controlsCodec, {});
  const ledger = new WholeFile(dir, "ledger", ledgerCodec, EMPTY_LEDGER);
  return {
    readControls: () => controls.read(),
    changeControls: (change) => controls.change(change),
    changeLedger: (term, change) => ledger.change((found) => ({ ...change(found), term })),
    close: () => Promise.all([controls.settled(), ledger.settled()]).then(() => {}),
  };
}

class WholeFile<T> {
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
