/**
 * Empties nodes that are draining: goes through what each holds, page by page, and queues the move of every blob that a
 * record names there. It looks again when the queue is done, until a look finds nothing.
 */
import type { BlobStore } from "../blob/blob-store.ts";
import { decodeDescriptor } from "../domain/blob.ts";
import { isStoreError } from "../domain/errors.ts";
import type { BlobId, NodeName } from "../domain/ids.ts";
import type { BlobSet } from "../domain/manifest.ts";
import { blobSetsOf, placedBlobsOf } from "../domain/manifest.ts";
import type { NodeInfo } from "../domain/node-info.ts";
import type { ObjectRecord } from "../domain/record.ts";
import type { Work } from "../domain/work.ts";
import type { BackgroundWork, StepResult, WorkProgress } from "../lib/background-work.ts";
import { deadlineIn } from "../lib/deadline.ts";
import { metadataDeadline } from "../object/commit-record.ts";
import type { ObjectDeps } from "../object/deps.ts";
import { rankNodes } from "../placement/rank-nodes.ts";
import type { WorkQueue } from "../work/work-queue.ts";
import { placementKeyOf } from "./mend-plan.ts";

export type DrainDeps = Pick<ObjectDeps, "clock" | "metadata" | "membership" | "nodes" | "timeouts"> & {
  readonly queue: Pick<WorkQueue, "add" | "depth">;
};

export type Drain = BackgroundWork & { figures(): Readonly<Record<string, number>> };

const BLOBS_PER_STEP = 64;
const BLOBS_AT_ONCE = 8;
const LOOK_AGAIN_MS = 2_000;
/** How often an empty one is looked at again. */
const EMPTY_LOOK_MS = 30_000;
/** Moves that may wait: more would only be out of date when their turn comes. */
const MOVES_WAITING_MAX = 1_000;

type Look = { after: string; found: number };
type Left = { readonly count: number; readonly atMs: number };

/** The best live node that holds nothing of the set yet; null where there is none. */
export function targetOf(set: BlobSet, nodes: readonly NodeInfo[], placementKey: string): NodeName | null {
  const free = nodes.filter(({ name, state }) => state === "live" && !set.nodes.includes(name));
  return rankNodes(free, placementKey)[0]?.name ?? null;
}

export function createDrain(deps: DrainDeps): Drain {
  return new NodeDrain(deps);
}

class NodeDrain implements Drain {
  readonly name = "balance";
  readonly #deps: DrainDeps;
  readonly #looks = new Map<NodeName, Look>();
  /** What the last whole look has found on each draining node. */
  readonly #left = new Map<NodeName, Left>();
  #movesQueued = 0;
  #stuckCount = 0;

  constructor(deps: DrainDeps) {
    this.#deps = deps;
  }

  progress(): WorkProgress | null {
    return null;
  }

  figures(): Readonly<Record<string, number>> {
    const left = [...this.#left].map(([node, { count }]) => [`left.${node}`, count]);
    return { movesQueued: this.#movesQueued, stuckCount: this.#stuckCount, ...Object.fromEntries(left) };
  }

  async step(signal: AbortSignal): Promise<StepResult> {
    const { membership, nodes, queue } = this.#deps;
    const draining = membership.snapshot().filter(({ state }) => state === "draining");
    forgetOthers(this.#left, draining);
    const next = draining.find(({ name }) => this.#isDue(this.#left.get(name)));
    const store = next === undefined ? undefined : nodes.get(next.name);
    if (store === undefined) return { state: "idle", againInMs: LOOK_AGAIN_MS };
    const { byUrgency } = await queue.depth(metadataDeadline(this.#deps));
    // Before it looks again all that it found before must have been tried.
    const isBegun = this.#looks.has(store.node) || !this.#left.has(store.node);
    const waitingMax = isBegun ? MOVES_WAITING_MAX : 0;
    if ((byUrgency[2] ?? 0) > waitingMax) return { state: "throttled", againInMs: LOOK_AGAIN_MS / 4 };
    try {
      return await this.#lookAt(store, signal);
    } catch (cause) {
      if (!isStoreError(cause, "overloaded")) throw cause;
      return { state: "throttled", againInMs: LOOK_AGAIN_MS };
    }
  }

  /** One that is empty too: writes that were under way when it began to drain may still have come. */
  #isDue(left: Left | undefined): boolean {
    return left === undefined || left.count > 0 || this.#deps.clock.monotonicMs() - left.atMs >= EMPTY_LOOK_MS;
  }

  /** One page. */
  async #lookAt(store: BlobStore, signal: AbortSignal): Promise<StepResult> {
    const look = this.#looks.get(store.node) ?? { after: "", found: 0 };
    this.#looks.set(store.node, look);
    const page = await store.list(look.after, BLOBS_PER_STEP, this.#soon());
    const ids = page.map(({ id }) => id).values();
    let found = 0;
    // All draw from the one iterator.
    const work = async () => {
      for (const id of ids) if (!signal.aborted && (await this.#queueMove(store, id))) found += 1;
    };
    await Promise.all(Array.from({ length: BLOBS_AT_ONCE }, work));
    if (signal.aborted) return { state: "busy" };
    look.found += found;
    look.after = page.at(-1)?.id ?? look.after;
    if (page.length === BLOBS_PER_STEP) return { state: "busy" };
    this.#left.set(store.node, { count: look.found, atMs: this.#deps.clock.monotonicMs() });
    this.#looks.delete(store.node);
    return look.found === 0 ? { state: "busy" } : { state: "throttled", againInMs: LOOK_AGAIN_MS };
  }

  /** True where a record names the blob on this node. */
  async #queueMove(store: BlobStore, id: BlobId): Promise<boolean> {
    const { metadata, membership, queue } = this.#deps;
    const described = await store.describe(id, this.#soon());
    if (described === null) return false;
    const { bucket, key } = decodeDescriptor(described.descriptor).record;
    const stored = await metadata.get(bucket, key, metadataDeadline(this.#deps));
    const set = stored === null ? null : setOn(stored.record, id, store.node);
    if (set === null) return false;
    const to = targetOf(set, membership.snapshot(), placementKeyOf({ bucket, key }));
    if (to === null) {
      this.#stuckCount += 1;
      return true;
    }
    const work: Work = { kind: "move", urgency: 2, bucket, key, blob: { id, node: store.node }, to };
    await queue.add(work, metadataDeadline(this.#deps));
    this.#movesQueued += 1;
    return true;
  }

  #soon() {
    return deadlineIn(this.#deps.clock, this.#deps.timeouts.nodeMs);
  }
}

/** The set of the record that has this blob on this node; null where none has. */
export function setOn(record: ObjectRecord, id: BlobId, node: NodeName): BlobSet | null {
  const isHere = (set: BlobSet) => placedBlobsOf(set).some((blob) => blob.id === id && blob.node === node);
  return blobSetsOf(record.manifest).find(isHere) ?? null;
}

function forgetOthers(left: Map<NodeName, unknown>, draining: readonly NodeInfo[]): void {
  for (const node of left.keys()) if (!draining.some(({ name }) => name === node)) left.delete(node);
}
