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

/** The best live node that holds nothing of the set yet; null where there is none. */
export function targetOf(set: BlobSet, nodes: readonly NodeInfo[], placementKey: string): NodeName | null {
  const free = nodes.filter(({ name, state }) => state === "live" && !set.nodes.includes(name));
  return rankNodes(free, placementKey)[0]?.name ?? null;
}

export function createDrain(deps: DrainDeps): Drain {
  const { clock, membership, queue, timeouts } = deps;
  const looks = new Map<NodeName, Look>();
  /** What the last whole look has found on each draining node. */
  const left = new Map<NodeName, { readonly count: number; readonly atMs: number }>();
  let movesQueued = 0;
  let stuckCount = 0;
  const soon = () => deadlineIn(clock, timeouts.nodeMs);

  /** True where a record names the blob on this node. */
  async function queueMove(store: BlobStore, id: BlobId): Promise<boolean> {
    const described = await store.describe(id, soon());
    if (described === null) return false;
    const { bucket, key } = decodeDescriptor(described.descriptor).record;
    const stored = await deps.metadata.get(bucket, key, metadataDeadline(deps));
    const set = stored === null ? null : setOn(stored.record, id, store.node);
    if (stored === null || set === null) return false;
    const to = targetOf(set, membership.snapshot(), placementKeyOf({ bucket, key }));
    if (to === null) {
      stuckCount += 1;
      return true;
    }
    const work: Work = { kind: "move", urgency: 2, bucket, key, blob: { id, node: store.node }, to };
    await queue.add(work, metadataDeadline(deps));
    movesQueued += 1;
    return true;
  }

  async function stepOn(store: BlobStore, signal: AbortSignal): Promise<StepResult> {
    const look = looks.get(store.node) ?? { after: "", found: 0 };
    looks.set(store.node, look);
    const page = await store.list(look.after, BLOBS_PER_STEP, soon());
    const ids = page.map(({ id }) => id).values();
    let found = 0;
    // All draw from the one iterator.
    const work = async () => {
      for (const id of ids) if (!signal.aborted && (await queueMove(store, id))) found += 1;
    };
    await Promise.all(Array.from({ length: BLOBS_AT_ONCE }, work));
    if (signal.aborted) return { state: "busy" };
    look.found += found;
    look.after = page.at(-1)?.id ?? look.after;
    if (page.length === BLOBS_PER_STEP) return { state: "busy" };
    left.set(store.node, { count: look.found, atMs: clock.monotonicMs() });
    looks.delete(store.node);
    return look.found === 0 ? { state: "busy" } : { state: "throttled", againInMs: LOOK_AGAIN_MS };
  }

  return {
    name: "balance",
    async step(signal): Promise<StepResult> {
      const draining = membership.snapshot().filter(({ state }) => state === "draining");
      forgetOthers(left, draining);
      // Writes that were under way when it began to drain may still have come.
      const isDue = (look: { readonly count: number; readonly atMs: number } | undefined) =>
        look === undefined || look.count > 0 || clock.monotonicMs() - look.atMs >= EMPTY_LOOK_MS;
      const next = draining.find(({ name }) => isDue(left.get(name)));
      const store = next === undefined ? undefined : deps.nodes.get(next.name);
      if (store === undefined) return { state: "idle", againInMs: LOOK_AGAIN_MS };
      const { byUrgency } = await queue.depth(metadataDeadline(deps));
      const isBegun = looks.has(store.node);
      // Before it looks again all that it found before must have been tried.
      const waitingMax = isBegun || !left.has(store.node) ? MOVES_WAITING_MAX : 0;
      if ((byUrgency[2] ?? 0) > waitingMax) return { state: "throttled", againInMs: LOOK_AGAIN_MS / 4 };
      try {
        return await stepOn(store, signal);
      } catch (cause) {
        if (!isStoreError(cause, "overloaded")) throw cause;
        return { state: "throttled", againInMs: LOOK_AGAIN_MS };
      }
    },
    progress(): WorkProgress | null {
      return null;
    },
    figures: () => ({
      ...{ movesQueued, stuckCount },
      ...Object.fromEntries([...left].map(([node, { count }]) => [`left.${node}`, count])),
    }),
  };
}

function setOn(record: ObjectRecord, id: BlobId, node: NodeName): BlobSet | null {
  const isHere = (set: BlobSet) => placedBlobsOf(set).some((blob) => blob.id === id && blob.node === node);
  return blobSetsOf(record.manifest).find(isHere) ?? null;
}

function forgetOthers(left: Map<NodeName, unknown>, draining: readonly NodeInfo[]): void {
  for (const node of left.keys()) if (!draining.some(({ name }) => name === node)) left.delete(node);
}
