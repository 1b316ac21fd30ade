/** Finds out whose a blob is that a reader or its node had trouble with, and queues the mending of that object. */
import { decodeDescriptor } from "../domain/blob.ts";
import { isStoreError } from "../domain/errors.ts";
import type { NodeName } from "../domain/ids.ts";
import { blobIdOf, parseBlobId } from "../domain/ids.ts";
import type { ObjectRecord } from "../domain/record.ts";
import type { WorkOf } from "../domain/work.ts";
import { LIMITS } from "../limits.ts";
import { deadlineIn } from "../lib/deadline.ts";
import { metadataDeadline } from "../object/commit-record.ts";
import type { ObjectDeps } from "../object/deps.ts";
import type { WorkQueue } from "../work/work-queue.ts";
import type { Executor } from "./work-executor.ts";

export type IdentifyDeps = Pick<ObjectDeps, "clock" | "nodes" | "timeouts"> & { readonly queue: WorkQueue };

const BLOBS_PER_SET_MAX = LIMITS.dataShardsMax + LIMITS.parityShardsMax;

/**
 * All blobs of one write are sealed with the same descriptor, so any of its siblings tells. Where none does, the
 * blob is of a write that left nothing else: nobody misses it.
 */
export function createIdentifyExecutor(deps: IdentifyDeps): Executor<"identify"> {
  return async ({ blob }, { signal }) => {
    const record = await findRecord(deps, { kind: "identify", urgency: 1, blob }, signal);
    if (record === null || signal.aborted) return { outcome: "done", bytes: 0 };
    const { bucket, key } = record;
    const mend = { kind: "mend", urgency: 1, reason: "damaged", suspects: [blob], bucket, key } as const;
    await deps.queue.add(mend, metadataDeadline(deps));
    return { outcome: "done", bytes: 0 };
  };
}

/** @throws {StoreError} when nobody told and some nodes could not be asked */
async function findRecord(
  deps: IdentifyDeps,
  { blob }: WorkOf<"identify">,
  signal: AbortSignal,
): Promise<ObjectRecord | null> {
  const parsed = parseBlobId(blob.id);
  if (parsed === null) return null;
  const { txid, part, index } = parsed;
  const others = Array.from({ length: BLOBS_PER_SET_MAX }, (_, other) => other).filter((other) => other !== index);
  let failure: unknown = null;
  // Its own node first, which mostly can tell although some of the bytes are bad.
  const stores = [...deps.nodes].sort(([a], [b]) => Number(b === blob.node) - Number(a === blob.node));
  for (const [node, store] of stores) {
    for (const wanted of indexesFor(node, blob.node, index, others)) {
      if (signal.aborted) return null;
      try {
        const found = await store.describe(blobIdOf(txid, part, wanted), deadlineIn(deps.clock, deps.timeouts.nodeMs));
        if (found !== null) return decodeDescriptor(found.descriptor).record;
      } catch (cause) {
        if (!isStoreError(cause)) throw cause;
        if (cause.code === "blob_damaged" || cause.code === "blob_not_found") continue;
        failure = cause;
        break;
      }
    }
  }
  if (failure !== null) throw failure;
  return null;
}

function indexesFor(node: NodeName, own: NodeName, index: number, others: readonly number[]): readonly number[] {
  return node === own ? [index, ...others] : others;
}
