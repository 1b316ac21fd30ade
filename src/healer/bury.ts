/** Gives up the content of a deleted object when the time in which it can be brought back is over. */
import { blobSetsOf, placedBlobsOf } from "../domain/manifest.ts";
import { buriedOf, isBuried } from "../domain/record.ts";
import { commitRecord, metadataDeadline } from "../object/commit-record.ts";
import type { ObjectDeps } from "../object/deps.ts";
import type { CollectMetrics } from "./collect-metrics.ts";
import { cleanUpIntent } from "./recover-plan.ts";
import type { Executor } from "./work-executor.ts";

export type BuryDeps = ObjectDeps & {
  readonly collectMetrics: CollectMetrics;
  readonly undeleteMs: number;
};

/**
 * Fence before delete: the record says first that there is nothing to bring back, and a clean-up intent what there is to
 * free. Recovery frees it, once no reader is left; an undelete that was faster keeps everything.
 */
export function createBuryExecutor(deps: BuryDeps): Executor<"bury"> {
  return async ({ bucket, key, version }, { signal }) => {
    const stored = await deps.metadata.get(bucket, key, metadataDeadline(deps));
    const done = { outcome: "done", bytes: 0 } as const;
    if (stored === null || stored.record.version !== version) return done;
    const { record, revision } = stored;
    if (record.state !== "tombstone" || isBuried(record)) return done;
    if (deps.clock.wallMs() - record.modifiedAtMs < deps.undeleteMs) return done;
    const blobs = blobSetsOf(record.manifest).flatMap(placedBlobsOf);
    const txid = deps.nextTxid();
    if (blobs.length > 0) {
      const base = { txid, bucket, key, startedAtMs: deps.clock.wallMs(), writer: "", revisionSeen: revision };
      await deps.wal.append(cleanUpIntent({ ...base, planned: [], replaces: [] }, blobs), metadataDeadline(deps));
    }
    if (signal.aborted) return { outcome: "later", inMs: 0, reason: "stopped on the way" };
    const result = await commitRecord(deps, buriedOf(record), stored, null);
    if (result.ok) deps.collectMetrics.buried.inc();
    // The intent of one that was not buried frees nothing: the record still names all of it.
    return done;
  };
}
