/**
 * Makes the metadata anew from the nodes alone. Every blob says in its seal of which record it is a part; what no content
 * describes nodes keep as records (`domain/kept-record.ts`). First everything is collected by key, then the newest state of
 * each key that can be read becomes its record.
 */
import type { BlobStore } from "../blob/blob-store.ts";
import { decodeDescriptor } from "../domain/blob.ts";
import { isStoreError, StoreError } from "../domain/errors.ts";
import type { NodeName, Revision } from "../domain/ids.ts";
import { REVISION_NONE } from "../domain/ids.ts";
import { isDirty } from "../domain/record.ts";
import type { Clock } from "../lib/clock.ts";
import { deadlineIn } from "../lib/deadline.ts";
import type { MetadataStore } from "../metadata/metadata-store.ts";
import { blobSetNameOf } from "../object/read-pins.ts";
import type { FoundSet, RebuildScratch } from "./lmdb-rebuild-scratch.ts";
import { planRebuiltKey } from "./rebuild-plan.ts";

export type CollectDeps = {
  readonly clock: Clock;
  readonly nodes: ReadonlyMap<NodeName, BlobStore>;
  readonly scratch: RebuildScratch;
  readonly waitMs: number;
  readonly onProgress: (done: number, total: number | null, unit: string) => void;
};

export type Collected = {
  readonly nodes: number;
  readonly blobs: number;
  readonly sets: number;
  /** Sets of which no blob could tell whose they are. */
  readonly unidentified: number;
  readonly revisionHighest: Revision;
};

export type RebuildReport = Collected & {
  readonly objects: number;
  readonly objectBytes: number;
  readonly tombstones: number;
  /** Objects of which blobs are missing; healers mend them. */
  readonly dirty: number;
  /** States of keys that were left out because too little of them is there. */
  readonly passedOver: number;
  /** Keys of which no state can be read, `bucket/key`, the first of them. */
  readonly unreadable: readonly string[];
  readonly unreadableCount: number;
};

const BLOBS_PER_PAGE = 1_000;
const ASKED_AT_ONCE = 32;
const COMMITTED_AT_ONCE = 256;
const UNREADABLE_LISTED_MAX = 1_000;
/** Revisions that the lost metadata may have given without any node having seen them are passed over. */
const REVISIONS_SKIPPED = 1_000_000_000;

/** From which revision on the new metadata gives its own, so that what nodes hold stays in order. */
export function firstRevisionAfter({ revisionHighest }: Collected): Revision {
  return (Math.ceil((revisionHighest + 1) / REVISIONS_SKIPPED + 1) * REVISIONS_SKIPPED) as Revision;
}

/** @throws {StoreError} whatever keeps a node from telling what it holds: nothing may be left out */
export async function collectStates(deps: CollectDeps): Promise<Collected> {
  const { nodes, scratch } = deps;
  let blobs = 0;
  for (const [name, store] of nodes) {
    for (let after = ""; ;) {
      const page = await store.list(after, BLOBS_PER_PAGE, deadlineIn(deps.clock, deps.waitMs));
      await scratch.addPlaces(
        name,
        page.map(({ id }) => id),
      );
      blobs += page.length;
      deps.onProgress(blobs, null, "blobs");
      after = page.at(-1)?.id ?? after;
      if (page.length < BLOBS_PER_PAGE) break;
    }
  }
  const identifying = new Identifying(deps);
  await Promise.all(Array.from({ length: ASKED_AT_ONCE }, () => identifying.run()));
  const { sets, unidentified, revisionHighest } = identifying;
  return { nodes: nodes.size, blobs, sets, unidentified, revisionHighest };
}

/** Asks for each set what it is part of; several work on one of these. */
class Identifying {
  sets = 0;
  unidentified = 0;
  revisionHighest: Revision = REVISION_NONE;
  readonly #deps: CollectDeps;
  #after = "";

  constructor(deps: CollectDeps) {
    this.#deps = deps;
  }

  async run(): Promise<void> {
    for (let set = this.#next(); set !== null; set = this.#next()) {
      const descriptor = await this.#describe(set);
      this.sets += 1;
      this.#deps.onProgress(this.sets, null, "sets");
      if (descriptor === null) this.unidentified += 1;
      else await this.#take(set.name, descriptor);
    }
  }

  #next(): FoundSet | null {
    const set = this.#deps.scratch.nextSet(this.#after);
    if (set !== null) this.#after = set.name;
    return set;
  }

  async #take(name: string, descriptor: Uint8Array): Promise<void> {
    const { revisionSeen } = decodeDescriptor(descriptor);
    if (revisionSeen > this.revisionHighest) this.revisionHighest = revisionSeen;
    const part = name.slice(name.indexOf(".") + 1);
    // A further copy of what was there already is no state of its own.
    if (part === "copy") return;
    await this.#deps.scratch.addState(part === "record" ? "kept" : "content", descriptor);
  }

  /** All blobs of a set say the same. */
  async #describe({ places }: FoundSet): Promise<Uint8Array | null> {
    const { clock, nodes, waitMs } = this.#deps;
    for (const { id, node } of places) {
      try {
        const found = await nodes.get(node)?.describe(id, deadlineIn(clock, waitMs));
        if (found) return found.descriptor;
      } catch (cause) {
        if (!isStoreError(cause, "blob_damaged")) throw cause;
      }
    }
    return null;
  }
}

/** Commits what was collected; with `metadata` null it only tells what would be. */
export async function rebuildRecords(
  deps: Pick<CollectDeps, "clock" | "scratch" | "waitMs" | "onProgress">,
  collected: Collected,
  metadata: MetadataStore | null,
): Promise<RebuildReport> {
  const { clock, scratch, waitMs } = deps;
  const tally = { objects: 0, objectBytes: 0, tombstones: 0, dirty: 0, passedOver: 0, unreadableCount: 0 };
  const unreadable: string[] = [];
  let cursor: Buffer | null = null;
  let done = 0;

  async function rebuildNext(): Promise<boolean> {
    const found = scratch.nextKey(cursor);
    if (found === null) return false;
    ({ cursor } = found);
    const [first] = found.states;
    if (first === undefined) return true;
    const { record, passedOver } = planRebuiltKey(found.states, (set) =>
      scratch.nodesOf(blobSetNameOf(set), set.nodes.length),
    );
    tally.passedOver += passedOver;
    done += 1;
    deps.onProgress(done, null, "keys");
    if (record === null) {
      tally.unreadableCount += 1;
      if (unreadable.length < UNREADABLE_LISTED_MAX) unreadable.push(`${first.record.bucket}/${first.record.key}`);
      return true;
    }
    if (record.state === "object") {
      tally.objects += 1;
      tally.objectBytes += record.sizeBytes;
      if (isDirty(record)) tally.dirty += 1;
    } else tally.tombstones += 1;
    if (metadata === null) return true;
    const result = await metadata.commit({ record, ifRevision: REVISION_NONE }, deadlineIn(clock, waitMs));
    if (!result.ok && result.current?.record.version !== record.version) {
      throw new StoreError("write_conflict", "Somebody else writes to the metadata that is being rebuilt");
    }
    return true;
  }

  const work = async () => {
    while (await rebuildNext());
  };
  await Promise.all(Array.from({ length: COMMITTED_AT_ONCE }, work));
  return { ...collected, ...tally, unreadable };
}
