import type { BlobStore } from "../blob/blob-store.ts";
import type { BlobInfo } from "../domain/blob.ts";
import { isStoreError } from "../domain/errors.ts";
import type { Clock } from "../lib/clock.ts";
import { deadlineIn } from "../lib/deadline.ts";
import { blobSetName } from "../object/read-pins.ts";
import type { HeldBlob } from "./audit-plan.ts";

const PAGE_BLOBS = 2_000;
/** More blobs than one set can have on a node. */
const AHEAD_MIN = 64;

/** The inventory of one node, page by page in the order of blob ids. */
export class InventoryCursor {
  readonly store: BlobStore;
  readonly #clock: Clock;
  readonly #waitMs: number;
  #ahead: readonly BlobInfo[] = [];
  #at = 0;
  #after = "";
  #isOver = false;
  /** The node did not answer to the end: what it holds behind what was given out is not known. */
  isBroken = false;

  constructor(store: BlobStore, clock: Clock, waitMs: number) {
    this.store = store;
    this.#clock = clock;
    this.#waitMs = waitMs;
  }

  /** To be waited for before each look at the next set. Null where nothing has to be waited for. */
  fill(): Promise<void> | null {
    return this.#isOver || this.#ahead.length - this.#at >= AHEAD_MIN ? null : this.#read();
  }

  /** The set of the next blob; null at the end, also where the node broke off. */
  get nextSet(): string | null {
    const next = this.#ahead[this.#at];
    return next === undefined ? null : blobSetName(next.id);
  }

  /** Takes all blobs of the set of the next blob. */
  takeSet(): HeldBlob[] {
    const name = this.nextSet;
    const held: HeldBlob[] = [];
    for (let next = this.#ahead[this.#at]; next !== undefined; next = this.#ahead[this.#at]) {
      if (blobSetName(next.id) !== name) break;
      held.push({ node: this.store.node, info: next });
      this.#at += 1;
    }
    return held;
  }

  async #read(): Promise<void> {
    let page: readonly BlobInfo[] = [];
    try {
      page = await this.store.list(this.#after, PAGE_BLOBS, deadlineIn(this.#clock, this.#waitMs));
    } catch (cause) {
      if (!isStoreError(cause)) throw cause;
      this.isBroken = true;
    }
    this.#ahead = [...this.#ahead.slice(this.#at), ...page];
    this.#at = 0;
    this.#isOver = page.length === 0;
    this.#after = page.at(-1)?.id ?? this.#after;
  }
}
