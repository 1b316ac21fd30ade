/**
 * Whole copies of coded content, beside its shards, while the object is hot. They are a blob set of their own, under a txid
 * that no write has, and the record names them only once all are made: so readers may prefer them, and the content depends on
 * none of them. They go as everything goes that a record names no more: by a clean-up intent, once no reader is left.
 */
import { encodeDescriptor } from "../domain/blob.ts";
import { fullCellBytes } from "../domain/geometry.ts";
import type { NodeName } from "../domain/ids.ts";
import type { BlobSet } from "../domain/manifest.ts";
import { placedBlobsOf, withCopy } from "../domain/manifest.ts";
import type { StoredRecord } from "../domain/record.ts";
import type { Throttle } from "../lib/throttle.ts";
import { commitRecord, metadataDeadline } from "../object/commit-record.ts";
import type { ObjectDeps } from "../object/deps.ts";
import { deleteBlobs } from "../object/release.ts";
import { transcodeBlobs } from "./rebuild-blobs.ts";
import { cleanUpIntent } from "./recover-plan.ts";

type CopyDeps = ObjectDeps & { readonly throttle: Throttle };

export type CopyOutcome =
  | { readonly outcome: "committed"; readonly bytes: number }
  /** Another writer was faster, or the healer is to stop: nothing has changed. */
  | { readonly outcome: "changed" | "stopped" | "refused" };

/** Makes whole copies of `coded` on these nodes. What was made in vain goes at once, or, after a crash, to the collector. */
export async function makeFurtherCopy(
  deps: CopyDeps,
  {
    stored,
    coded,
    nodes,
  }: { readonly stored: StoredRecord; readonly coded: BlobSet; readonly nodes: readonly NodeName[] },
  signal: AbortSignal,
): Promise<CopyOutcome> {
  const { record, revision } = stored;
  const redundancy = { scheme: "replication", copies: nodes.length } as const;
  const { sizeBytes } = coded;
  const copy: BlobSet = {
    ...{ txid: deps.nextTxid(), part: "copy", sizeBytes, redundancy, nodes },
    cellBytes: fullCellBytes(redundancy),
  };
  const next = { ...record, manifest: withCopy(record.manifest, copy) };
  const descriptor = encodeDescriptor({ record: next, revisionSeen: revision });
  const rebuilds = nodes.map((node, index) => ({ kind: "blob" as const, index, node }));
  const { bytes, failed } = await transcodeBlobs(deps, { from: coded, set: copy, descriptor }, rebuilds, signal);
  if (failed.size === 0 && !signal.aborted) {
    const result = await commitRecord(deps, next, stored, null);
    if (result.ok) return { outcome: "committed", bytes };
  }
  await deleteBlobs({ ...deps, nodeMs: deps.timeouts.nodeMs }, placedBlobsOf(copy));
  if (failed.size > 0) return { outcome: "refused" };
  return { outcome: signal.aborted ? "stopped" : "changed" };
}

/** Lets the record name no whole copies any more. */
export async function dropFurtherCopy(
  deps: ObjectDeps,
  { stored, copy }: { readonly stored: StoredRecord; readonly copy: BlobSet },
  signal: AbortSignal,
): Promise<CopyOutcome> {
  const { record, revision } = stored;
  const { bucket, key } = record;
  const base = { txid: deps.nextTxid(), bucket, key, startedAtMs: deps.clock.wallMs(), writer: "" };
  const intent = { ...base, revisionSeen: revision, planned: [], replaces: [] };
  await deps.wal.append(cleanUpIntent(intent, placedBlobsOf(copy)), metadataDeadline(deps));
  if (signal.aborted) return { outcome: "stopped" };
  const next = { ...record, manifest: withCopy(record.manifest, null) };
  const result = await commitRecord(deps, next, stored, null);
  return result.ok ? { outcome: "committed", bytes: 0 } : { outcome: "changed" };
}
