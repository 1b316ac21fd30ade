/** Writes a record to nodes as a blob without content, so that they can rebuild the metadata by themselves. */
import { encodeDescriptor } from "../domain/blob.ts";
import { isStoreError } from "../domain/errors.ts";
import { KEPT_COPIES, keptBlobId, needsKeeping } from "../domain/kept-record.ts";
import { deadlineIn } from "../lib/deadline.ts";
import { metadataDeadline } from "../object/commit-record.ts";
import type { ObjectDeps } from "../object/deps.ts";
import { rankNodes } from "../placement/rank-nodes.ts";
import { placementKeyOf } from "./mend-plan.ts";
import type { Executor } from "./work-executor.ts";

export type KeepDeps = Pick<ObjectDeps, "clock" | "logger" | "metadata" | "membership" | "nodes" | "timeouts">;

const LATER_MS = 10_000;

/** Keeps the present record of the key, whatever version the work names: that one may have been replaced since. */
export function createKeepExecutor(deps: KeepDeps): Executor<"keep_record"> {
  return async ({ bucket, key }, { signal }) => {
    const stored = await deps.metadata.get(bucket, key, metadataDeadline(deps));
    if (stored === null || !needsKeeping(stored.record)) return { outcome: "done", bytes: 0 };
    const { record, revision } = stored;
    const descriptor = encodeDescriptor({ record, revisionSeen: revision });
    const live = deps.membership.snapshot().filter(({ state }) => state === "live");
    const ranked = rankNodes(live, placementKeyOf(record));
    const copies = Math.min(KEPT_COPIES, deps.membership.snapshot().length);
    let kept = 0;
    let bytes = 0;
    for (const { name } of ranked) {
      if (kept === copies || signal.aborted) break;
      const store = deps.nodes.get(name);
      if (store === undefined) continue;
      try {
        await store.put(
          { id: keptBlobId(record.version, kept), descriptor, cells: [] },
          deadlineIn(deps.clock, deps.timeouts.nodeMs),
        );
        kept += 1;
        bytes += descriptor.length;
      } catch (cause) {
        if (!isStoreError(cause)) throw cause;
        deps.logger.debug({ node: name, code: cause.code }, "a node did not take a record");
      }
    }
    if (kept === copies) return { outcome: "done", bytes };
    return { outcome: "later", inMs: LATER_MS, reason: "too few nodes take a record now" };
  };
}
